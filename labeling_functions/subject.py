"""What the subject line gives away: bulk senders shout, promise and dodge filters; people reply."""

from __future__ import annotations

import ibis.expr.types as ir

from labeling_functions import HAM, SPAM
from weakfish.rules import votes


@votes(SPAM)
def subject_shouts(mail: ir.Table) -> ir.BooleanValue:
    """Whole subjects in capitals: bulk senders shout to be noticed, people rarely do."""
    return mail.subject.re_search(r"[A-Z]{3}") & ~mail.subject.re_search(r"[a-z]") & (mail.subject.length() > 8)


@votes(SPAM)
def subject_exclaims(mail: ir.Table) -> ir.BooleanValue:
    """An exclamation mark that ends a sentence of the subject: advertising copy is excited."""
    return mail.subject.re_search(r"!(\s|!|$)")


@votes(SPAM)
def subject_ends_in_digits(mail: ir.Table) -> ir.BooleanValue:
    """A number at the end that is no year: bulk senders make each copy differ so that filters see no two alike."""
    return mail.subject.re_search(
        r"\d{5,}\W*$|[^/\d](0|[13-9])\d{3}\W*$|\s[a-z]+\d+[a-z]+\w*$"
    ) & ~mail.subject.re_search(r"(?i)^re:|number \d+$")


@votes(SPAM)
def subject_offers_money(mail: ir.Table) -> ir.BooleanValue:
    """Money to be earned, saved or borrowed is what most bulk mail sells."""
    return mail.subject.re_search(
        r"(?i)\$\s?\d|\b(cash|income|earn|profits?|debts?|credit|loans?|mortgage|refinanc\w+|investments?|"
        r"insurance|million|wealth|commissions?|casino|save big|lowest|rates?)\b"
    )


@votes(SPAM)
def subject_sells(mail: ir.Table) -> ir.BooleanValue:
    """Words of a pitch: free, guaranteed, for a limited time, about your body; or ADV, which some states made law."""
    return mail.subject.re_search(
        r"(?i)^\W*adv\b|\b(free|guaranteed?|limited time|act now|opportunity|urgent|viagra|lose weight|weight loss|"
        r"diet|pounds|enlarge\w*|sex\w*|adult|hot|teens?|girls|xxx|toners?|diplomas?|university degree|work from home|"
        r"home business|% off|approved|pre-?approved|winner|won|vacation)\b"
    )


@votes(HAM)
def subject_is_reply(mail: ir.Table) -> ir.BooleanValue:
    """A subject that begins with Re: mostly belongs to a conversation; some bulk senders fake it."""
    return mail.subject.re_search(r"(?i)^(\[[^\]]+\]\s*)?(re|aw|sv)(\[\d+\])?:")
