"""Who writes to whom, over what, and when: lists, domains, crowds of recipients, clocks."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from labeling_functions import HAM, SPAM
from weakfish.rules import votes

FREE_PROVIDERS = (
    *("aol.com", "btamail.net.cn", "email.com", "eudoramail.com", "excite.com", "flashmail.com", "hotmail.com"),
    *("juno.com", "lycos.com", "mail.com", "msn.com", "netscape.net", "netzero.net", "usa.net", "yahoo.com"),
)


@votes(HAM)
def came_over_a_list(mail: ir.Table) -> ir.BooleanValue:
    """A mailing list identifies itself, and its members chose to read it; some spam gets through."""
    return mail.list_id.notnull()


@votes(HAM)
def writes_from_an_institution(mail: ir.Table) -> ir.BooleanValue:
    """Universities, associations and, to these readers, neighbours in Ireland: selling abroad is not their business."""
    return mail.sender_domain.re_search(r"\.(edu|org|gov|ac\.\w\w|ie)$")


@votes(SPAM)
def comes_from_far_domain(mail: ir.Table) -> ir.BooleanValue:
    """Countries through which American bulk mail was relayed, and hosts with no domain or named by digits."""
    return mail.list_id.isnull() & mail.sender_domain.re_search(
        r"\.(cn|tw|kr|ru|br|mx|ar|ro|th)$|^[^.]*$|\d{2,}.*\.(com|net)$"
    )


@votes(SPAM)
def free_account_off_list(mail: ir.Table) -> ir.BooleanValue:
    """Throw-away addresses at free providers, real or forged, that write to a person or want the answers there."""
    free = mail.sender_domain.isin(FREE_PROVIDERS) | mail.reply_to_domain.isin(FREE_PROVIDERS)
    return mail.list_id.isnull() & free


@votes(SPAM)
def hides_or_crowds_recipients(mail: ir.Table) -> ir.BooleanValue:
    """No addressee at all, or a crowd of them: the sender worked through a list of addresses."""
    return (mail.list_id.isnull() & (mail.n_recipients == 0)) | (mail.n_recipients >= 6)


@votes(SPAM)
def claims_high_priority(mail: ir.Table) -> ir.BooleanValue:
    """Marked as of the highest priority: nobody thinks so but the sender."""
    return mail.priority <= 2


@votes(SPAM)
def clock_runs_ahead(mail: ir.Table) -> ir.BooleanValue:
    """Sent an hour or more after it was received: bulk mailing software invents its dates."""
    return mail.sent_at > mail.received_at + ibis.interval(hours=1)
