"""Twelve of the repository's columnar labeling functions as a user of Snorkel writes them: Python and ``re``.

They vote as the columnar ones do: a null holds nothing; RE2, which searches for those, knows only ASCII words, digits
and spaces; its ``$`` is the very end of the text, ``\\Z`` in Python.
"""

from __future__ import annotations

import re
from typing import Any

from snorkel.labeling import LabelingFunction, labeling_function

from labeling_functions import HAM, SPAM

ABSTAIN = -1
ANY_CASE = re.ASCII | re.IGNORECASE

CLICK = re.compile(
    r"\bclick\s+(here|below|on\s+the\s+(link|image)|the\s+link|now)|"
    r"\b(order|apply|enroll|call|act|join)\s+(now|today)\b|visit our (web ?)?site",
    ANY_CASE,
)
REMOVAL = re.compile(
    r"\b(be|get)\s+(permanently\s+|immediately\s+|automatically\s+)?(removed|taken\s+off|deleted)\s+from|"
    r"\bto\s+be\s+removed\b|\bremoval\s+(instructions|request|link)|"
    r"\bremove\s+(me|yourself|your\s+(name|e-?mail|address))|\bremove.{1,3}in\s+the\s+subject|\bopt[- ]?out\b|"
    r"\bno\s+longer\s+wish\s+to\s+receive|\bwish\s+to\s+(not\s+)?receive\s+(no\s+)?(further|future|more)",
    ANY_CASE,
)
NO_RISK = re.compile(
    r"\b(no|without|zero)\s+(any\s+)?(risk|obligation|cost|credit\s+check|experience|hidden|catch|gimmick)|"
    r"\brisk[- ]?free|\bmoney[- ]back|\b(100|satisfaction)\s*%?\s*(guarantee|free|legal|satisf|natural)|"
    r"\bwe\s+guarantee|\babsolutely\s+(free|no)\b|"
    r"\bfree\s+(quote|report|info\w*|bonus|gift|sample|consultation|membership|access|call)\b|\blimited[- ]time|"
    r"\bonce\s+in\s+a\s+lifetime",
    ANY_CASE,
)
TOLL_FREE = re.compile(
    r"\b1?[- .(]{0,2}8(00|88|77|66)[-). ]{1,2}\d{3}[-. ]\d{4}|\btoll[- ]?free|\bfax\s*(:|to|your|#|number)", ANY_CASE
)
MONEY = re.compile(
    r"\$\s?\d{1,3}(,\d{3})+|\$\s?\d+\s?(k|million)\b|\bmake\s+money|\b(extra|residual|monthly|unlimited)\s+income|"
    r"\bfinancial(ly)?\s+(freedom|independen\w+)|\bwork(ing)?\s+(from|at)\s+home|\bhome[- ]?based\s+business|"
    r"\bbusiness\s+opportunity|\bmulti-?level|\bMLM\b|\bper\s+(week|month)\b.{0,40}\$",
    ANY_CASE,
)
SHOP_TALK = re.compile(
    r"\b(kernel|debian|red ?hat|suse|freebsd|solaris|perl|python|gcc|emacs|cvs|rpms|tarball|sendmail|procmail|"
    r"makefile|stderr|stdout|regexp?|daemon|compil(e|er|ing)|weblogs?|xml|mozilla|patches|api|ssh|gpl|config|"
    r"firewall|partition|localhost|sysadmin|scripts?|syntax|algorithm)\b",
    ANY_CASE,
)
OPINION = re.compile(
    r"\bI\s+(think|guess|suppose|wonder|tried|believe|mean|don't|can't|haven't|didn't|was|thought)\b|"
    r"\b(AFAIK|IIRC|IMHO|IMO|BTW|FWIW)\b|[:;]-?\)",
    ANY_CASE,
)
QUOTE = re.compile(r"^> ?\w|\b(wrote|writes):\s*$|-{3,} ?Original Message", re.ASCII | re.MULTILINE)
PITCH = re.compile(
    r"^\W*adv\b|\b(free|guaranteed?|limited time|act now|opportunity|urgent|viagra|lose weight|weight loss|"
    r"diet|pounds|enlarge\w*|sex\w*|adult|hot|teens?|girls|xxx|toners?|diplomas?|university degree|work from home|"
    r"home business|% off|approved|pre-?approved|winner|won|vacation)\b",
    ANY_CASE,
)
NUMBER = re.compile(r"\d{5,}\W*\Z|[^/\d](0|[13-9])\d{3}\W*\Z|\s[a-z]+\d+[a-z]+\w*\Z", re.ASCII)
REPLY_OR_ISSUE = re.compile(r"^re:|number \d+\Z", ANY_CASE)


@labeling_function()
def asks_to_click(mail: Any) -> int:
    """A click, a visit, an order."""
    return SPAM if CLICK.search(mail.body or "") else ABSTAIN


@labeling_function()
def offers_removal(mail: Any) -> int:
    """A way off the list."""
    return SPAM if REMOVAL.search(mail.body or "") else ABSTAIN


@labeling_function()
def promises_without_risk(mail: Any) -> int:
    """Guarantees, no risk, no obligation."""
    return SPAM if NO_RISK.search(mail.body or "") else ABSTAIN


@labeling_function()
def gives_toll_free_number(mail: Any) -> int:
    """Toll-free and fax numbers."""
    return SPAM if TOLL_FREE.search(mail.body or "") else ABSTAIN


@labeling_function()
def lures_with_money(mail: Any) -> int:
    """Round sums and incomes."""
    return SPAM if MONEY.search(mail.body or "") else ABSTAIN


@labeling_function()
def talks_shop(mail: Any) -> int:
    """Words of people who write software."""
    return HAM if SHOP_TALK.search(mail.body or "") else ABSTAIN


@labeling_function()
def hedges_an_opinion(mail: Any) -> int:
    """First-person doubt and net slang."""
    return HAM if OPINION.search(mail.body or "") else ABSTAIN


@labeling_function()
def quotes_someone(mail: Any) -> int:
    """A quoted line."""
    return HAM if QUOTE.search(mail.body or "") else ABSTAIN


@labeling_function()
def subject_sells(mail: Any) -> int:
    """Words of a pitch."""
    return SPAM if PITCH.search(mail.subject or "") else ABSTAIN


@labeling_function()
def subject_ends_in_digits(mail: Any) -> int:
    """A number at the end that is no year."""
    subject = mail.subject or ""
    return SPAM if NUMBER.search(subject) and not REPLY_OR_ISSUE.search(subject) else ABSTAIN


@labeling_function()
def came_over_a_list(mail: Any) -> int:
    """A mailing list."""
    return HAM if mail.list_id is not None else ABSTAIN


@labeling_function()
def is_html_only(mail: Any) -> int:
    """HTML with few links."""
    return SPAM if mail.content_type == "text/html" and mail.n_links < 15 else ABSTAIN


FUNCTIONS: list[LabelingFunction] = [
    *(asks_to_click, offers_removal, promises_without_risk, gives_toll_free_number, lures_with_money, talks_shop),
    *(hedges_an_opinion, quotes_someone, subject_sells, subject_ends_in_digits, came_over_a_list, is_html_only),
]
COLUMNS = ["body", "subject", "list_id", "content_type", "n_links"]
