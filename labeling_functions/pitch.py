"""How the text sells: it presses, promises and shouts, and it excuses itself for having come uninvited."""

from __future__ import annotations

import ibis.expr.types as ir

from labeling_functions import SPAM
from weakfish.rules import votes


@votes(SPAM)
def asks_to_click(mail: ir.Table) -> ir.BooleanValue:
    """Bulk mail wants one thing of its reader: a click, a visit, an order."""
    return mail.body.re_search(
        r"(?i)\bclick\s+(here|below|on\s+the\s+(link|image)|the\s+link|now)|"
        r"\b(order|apply|enroll|call|act|join)\s+(now|today)\b|visit our (web ?)?site"
    )


@votes(SPAM)
def offers_removal(mail: ir.Table) -> ir.BooleanValue:
    """A way off a list that the reader never asked for, in the wording of bulk mailers rather than of list software."""
    return mail.body.re_search(
        r"(?i)\b(be|get)\s+(permanently\s+|immediately\s+|automatically\s+)?(removed|taken\s+off|deleted)\s+from|"
        r"\bto\s+be\s+removed\b|\bremoval\s+(instructions|request|link)|"
        r"\bremove\s+(me|yourself|your\s+(name|e-?mail|address))|\bremove.{1,3}in\s+the\s+subject|\bopt[- ]?out\b|"
        r"\bno\s+longer\s+wish\s+to\s+receive|\bwish\s+to\s+(not\s+)?receive\s+(no\s+)?(further|future|more)"
    )


@votes(SPAM)
def claims_to_be_legal(mail: ir.Table) -> ir.BooleanValue:
    """Only uninvited mail explains that it obeys the law, comes once, or was asked for by opting in."""
    return mail.body.re_search(
        r"(?i)\bS\.?\s?1618\b|\bsection\s+301\b|\bcannot\s+be\s+considered\s+spam|"
        r"\bthis\s+(e-?mail|message)?\s?is\s+not\s+spam|\bin\s+compliance\s+with|\byou\s+(have\s+)?opted[- ]in|"
        r"\bopt-in\s+(list|mail|e-?mail)|\b(is|be)\s+a\s+one[- ]time\s+(e-?mail|mailing|message)|"
        r"(received|receiving)\s+this\s+(e-?mail\s+|message\s+|letter\s+)?"
        r"(in\s+error|because\s+you\s+(have|are|requested|opted|signed))|\bour\s+(partners|affiliates)"
    )


@votes(SPAM)
def promises_without_risk(mail: ir.Table) -> ir.BooleanValue:
    """Guarantees, no risk, no obligation, nothing to lose: promises that take away doubt are a salesman's."""
    return mail.body.re_search(
        r"(?i)\b(no|without|zero)\s+(any\s+)?(risk|obligation|cost|credit\s+check|experience|hidden|catch|gimmick)|"
        r"\brisk[- ]?free|\bmoney[- ]back|\b(100|satisfaction)\s*%?\s*(guarantee|free|legal|satisf|natural)|"
        r"\bwe\s+guarantee|\babsolutely\s+(free|no)\b|"
        r"\bfree\s+(quote|report|info\w*|bonus|gift|sample|consultation|membership|access|call)\b|\blimited[- ]time|"
        r"\bonce\s+in\s+a\s+lifetime"
    )


@votes(SPAM)
def gives_toll_free_number(mail: ir.Table) -> ir.BooleanValue:
    """Toll-free and fax numbers to order by: shops and boiler rooms have them, correspondents do not."""
    return mail.body.re_search(
        r"(?i)\b1?[- .(]{0,2}8(00|88|77|66)[-). ]{1,2}\d{3}[-. ]\d{4}|\btoll[- ]?free|\bfax\s*(:|to|your|#|number)"
    )


@votes(SPAM)
def greets_a_stranger(mail: ir.Table) -> ir.BooleanValue:
    """A salutation without a name: the sender does not know whom the message reaches."""
    return mail.body.re_search(
        r"(?i)\b(dear|attn:?|attention:?|hello|greetings)\s+(sir|madam|friend|home\s?owner|customer|member|internet|"
        r"web\s?master|business|valued|e-?mail|ceo|president|opportunity)"
    )


@votes(SPAM)
def text_exclaims(mail: ir.Table) -> ir.BooleanValue:
    """Five exclamation marks or more: advertising copy is excited all the way through."""
    return mail.body.length() - mail.body.replace("!", "").length() >= 5
