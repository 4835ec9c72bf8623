"""What the message is made of and which program made it."""

from __future__ import annotations

import ibis.expr.types as ir

from labeling_functions import HAM, SPAM
from weakfish.rules import votes


@votes(HAM)
def is_plain_ascii(mail: ir.Table) -> ir.BooleanValue:
    """Plain ASCII text, declared as such, with few links: how the mail programs of technical people write."""
    return (mail.content_type == "text/plain") & (mail.charset == "us-ascii") & (mail.n_links <= 3)


@votes(SPAM)
def is_html_only(mail: ir.Table) -> ir.BooleanValue:
    """HTML with few links and no plain text beside it: mail programs send both, bulk mailers save the effort."""
    return (mail.content_type == "text/html") & (mail.n_links < 15)


@votes(HAM)
def is_laid_out_like_a_newsletter(mail: ir.Table) -> ir.BooleanValue:
    """Dozens of links or images: an edited newsletter has much to offer, an advertisement has one thing to click."""
    return (mail.n_links >= 40) | (mail.n_images >= 25)


@votes(SPAM)
def uses_foreign_charset(mail: ir.Table) -> ir.BooleanValue:
    """Text in a script that an English-speaking reader cannot read was not meant for that reader."""
    return mail.charset.re_search(r"(?i)^(big5|gb2312|gbk|euc-kr|ks_c|koi8|windows-125[1456]|iso-2022-kr)")


@votes(SPAM)
def was_sent_by_bulk_software(mail: ir.Table) -> ir.BooleanValue:
    """Programs made for mass mailing, and a script library of Microsoft's, sign their work."""
    return mail.mailer.re_search(
        r"(?i)\bcdo\b|bulk|stormpost|quicksender|campaign|group ?mail|\bmailer\b|mailloop|desktop server"
    )


@votes(HAM)
def was_sent_by_a_persons_program(mail: ir.Table) -> ir.BooleanValue:
    """Mail programs that people choose for themselves, mostly on Unix; bulk software poses as the market leader."""
    return mail.mailer.re_search(
        r"(?i)mutt|pine\b|exmh|nmh|\bvm\b|gnus|evolution|kmail|sylpheed|balsa|squirrelmail|\belm\b|emacs|mozilla|"
        r"apple mail|pegasus|eudora|entourage|forte agent|turnpike|mulberry|bat!"
    )
