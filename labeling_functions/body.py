"""What the text sells: the trades of bulk mail, from mortgages to pills to other people's fortunes."""

from __future__ import annotations

import ibis.expr.types as ir

from labeling_functions import SPAM
from weakfish.rules import votes


@votes(SPAM)
def lures_with_money(mail: ir.Table) -> ir.BooleanValue:
    """Round sums, incomes and business opportunities: get-rich-quick schemes name large amounts."""
    return mail.body.re_search(
        r"(?i)\$\s?\d{1,3}(,\d{3})+|\$\s?\d+\s?(k|million)\b|\bmake\s+money|\b(extra|residual|monthly|unlimited)\s+income|"
        r"\bfinancial(ly)?\s+(freedom|independen\w+)|\bwork(ing)?\s+(from|at)\s+home|\bhome[- ]?based\s+business|"
        r"\bbusiness\s+opportunity|\bmulti-?level|\bMLM\b|\bper\s+(week|month)\b.{0,40}\$"
    )


@votes(SPAM)
def sells_loans_or_insurance(mail: ir.Table) -> ir.BooleanValue:
    """Cheap mortgages, debt relief and insurance are the classic trades of bulk mail in the United States."""
    return mail.body.re_search(
        r"(?i)\bmortgages?\b|\brefinanc\w+|\bhome\s+(equity|owners?\b)|\b(bad|your)\s+credit\b|"
        r"\bcredit\s+(card|report|repair)|\b(consolidat\w+|eliminate|get\s+out\s+of)\s+(your\s+)?(all\s+)?(credit|debts?)|"
        r"\blife\s+insurance|\binterest\s+rates?\b|\blenders?\b|\bannuit\w+"
    )


@votes(SPAM)
def sells_health_or_sex(mail: ir.Table) -> ir.BooleanValue:
    """Pills, diets and pornography: what people would rather not buy in a shop is sold by mail."""
    return mail.body.re_search(
        r"(?i)\bviagra\b|\bherbal\b|\bweight[- ]loss|\blose\s+(weight|\d+\s*(lbs|pounds))|\benlarge\w*|\bpenis\b|"
        r"\bdiet\b|\bhgh\b|\bwrinkles?\b|\bprescriptions?\b|\bphentermine|\blibido|\bxxx\b|\bporn\w*|\bhorny\b|\bhardcore\b|"
        r"\badults?\s+(only|site|content)|\bover\s+18\b|\b18\s+years"
    )


@votes(SPAM)
def sells_bulk_mailing(mail: ir.Table) -> ir.BooleanValue:
    """Bulk mailers advertise their own trade: addresses by the million, search rankings, promotion."""
    return mail.body.re_search(
        r"(?i)\bbulk\s+(e-?)?mail|\b(million|thousand|fresh|targeted)\s+(\w+\s+)?(e-?mail\s+)?(address|lead|prospect)\w*|"
        r"\bsearch\s+engines?\b.{0,60}\b(submi|rank|list|promot|position)\w*|\bpromote\s+your|"
        r"\bmarketing\s+(tool|campaign|program|company|system)|\byour\s+own\s+(web\s?site|business)|"
        r"\bincrease\s+(your\s+)?(sales|traffic|profit)\w*"
    )


@votes(SPAM)
def begs_for_confidence(mail: ir.Table) -> ir.BooleanValue:
    """The advance-fee fraud: a stranger's fortune abroad needs your bank account and your silence."""
    return mail.body.re_search(
        r"(?i)\bnext\s+of\s+kin|\bforeign\s+(partner|account|bank)|"
        r"\b(late|former)\s+(president|head\s+of\s+state|general|husband)|\bnigeria\b.{0,300}\b(fund|bank|dollars)|"
        r"\b(strictly|utmost|absolute)\s+(confiden\w+|secre\w+)|\bmodalit\w+|\bbeneficiary\b|\bmutual(ly)?\s+benefi\w+|"
        r"\bUS\$\s?\d"
    )


@votes(SPAM)
def names_a_price(mail: ir.Table) -> ir.BooleanValue:
    """Dollars and cents, outside of the long tables of a newsletter: the text has something to sell."""
    return mail.body.re_search(r"\$ ?\d+\.\d\d\b") & (mail.n_links < 30)
