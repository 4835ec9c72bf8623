"""Signs of people who talk to each other: quotes, shop talk, code, hedged opinions."""

from __future__ import annotations

import ibis.expr.types as ir

from labeling_functions import HAM
from weakfish.rules import votes


@votes(HAM)
def quotes_someone(mail: ir.Table) -> ir.BooleanValue:
    """A quoted line, or a line that says who wrote what follows: the message answers another."""
    return mail.body.re_search(r"(?m)^> ?\w|\b(wrote|writes):\s*$|-{3,} ?Original Message")


@votes(HAM)
def talks_shop(mail: ir.Table) -> ir.BooleanValue:
    """The vocabulary of people who run and write software, which advertising seldom uses."""
    return mail.body.re_search(
        r"(?i)\b(kernel|debian|red ?hat|suse|freebsd|solaris|perl|python|gcc|emacs|cvs|rpms|tarball|sendmail|procmail|"
        r"makefile|stderr|stdout|regexp?|daemon|compil(e|er|ing)|weblogs?|xml|mozilla|patches|api|ssh|gpl|config|"
        r"firewall|partition|localhost|sysadmin|scripts?|syntax|algorithm)\b"
    )


@votes(HAM)
def shows_code(mail: ir.Table) -> ir.BooleanValue:
    """Paths, patches, shell lines and function calls are written by and for programmers."""
    return mail.body.re_search(
        r"(?m)^(\+\+\+|---|diff|@@) \S|/(usr|etc|var|home|bin|tmp)/\w|#include|^#!|^\s*[$#%] ?\w+ -|\w+\(\)|"
        r"\b\w+\.(c|h|py|pl|pm|sh|conf|tar\.gz|rpm)\b"
    )


@votes(HAM)
def hedges_an_opinion(mail: ir.Table) -> ir.BooleanValue:
    """First-person doubt and net slang: people think, guess and smile; copy writers are certain."""
    return mail.body.re_search(
        r"(?i)\bI\s+(think|guess|suppose|wonder|tried|believe|mean|don't|can't|haven't|didn't|was|thought)\b|"
        r"\b(AFAIK|IIRC|IMHO|IMO|BTW|FWIW)\b|[:;]-?\)"
    )
