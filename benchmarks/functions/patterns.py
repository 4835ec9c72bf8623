"""Forty columnar labeling functions, each of which searches the text for one pattern of its own."""

from __future__ import annotations

import ibis.expr.types as ir

from labeling_functions import HAM, SPAM
from weakfish.rules import ColumnarLabelingFunction

PATTERNS = {
    # The first ten are what the others are: some begin with a word, some hold a list of words, some have gaps.
    "click": (SPAM, r"(?i)\bclick\s+(here|below|now)"),
    "wrote": (HAM, r"(?m)\b(wrote|writes):\s*$"),
    "risk": (SPAM, r"(?i)\b(no|without|zero)\s+(risk|obligation|cost)"),
    "systems": (HAM, r"(?i)\b(kernel|debian|red ?hat|suse|freebsd|solaris)\b"),
    "toll_free": (SPAM, r"(?i)\btoll[- ]?free"),
    "think": (HAM, r"(?i)\bI\s+(think|guess|suppose|wonder)\b"),
    "income": (SPAM, r"(?i)\b(extra|residual|monthly|unlimited)\s+income"),
    "path": (HAM, r"/(usr|etc|var|home|bin|tmp)/\w"),
    "mortgage": (SPAM, r"(?i)\bmortgages?\b|\brefinanc\w+"),
    "removed": (SPAM, r"(?i)\b(be|get)\s+(removed|taken\s+off|deleted)\s+from"),
    "order_now": (SPAM, r"(?i)\b(order|apply|enroll|call|act|join)\s+(now|today)\b"),
    "languages": (HAM, r"(?i)\b(perl|python|gcc|emacs|xml)\b"),
    "money_back": (SPAM, r"(?i)\bmoney[- ]back|\brisk[- ]?free"),
    "smile": (HAM, r"[:;]-?\)"),
    "removal": (SPAM, r"(?i)\bremoval\s+(instructions|request|link)"),
    "diff": (HAM, r"(?m)^(\+\+\+|---|diff|@@) \S"),
    "opt_out": (SPAM, r"(?i)\bopt[- ]?out\b"),
    "slang": (HAM, r"\b(AFAIK|IIRC|IMHO|IMO|BTW|FWIW)\b"),
    "viagra": (SPAM, r"(?i)\bviagra\b|\bherbal\b"),
    "call": (HAM, r"\b\w{3,20}\(\)"),
    "weight": (SPAM, r"(?i)\blose\s+(weight|\d+\s*(lbs|pounds))"),
    "quoted": (HAM, r"(?m)^> ?\w"),
    "credit": (SPAM, r"(?i)\b(bad|your)\s+credit\b"),
    "source_file": (HAM, r"\b\w+\.(c|h|py|pl|pm|sh|conf|tar\.gz|rpm)\b"),
    "kin": (SPAM, r"(?i)\bnext\s+of\s+kin"),
    "original": (HAM, r"-{3,} ?Original Message"),
    "price": (SPAM, r"\$ ?\d+\.\d\d\b"),
    "daemons": (HAM, r"(?i)\b(daemon|sendmail|procmail|stderr|stdout)\b"),
    "bulk": (SPAM, r"(?i)\bbulk\s+(e-?mail|mail)"),
    "doubt": (HAM, r"(?i)\bI\s+(don't|can't|haven't|didn't)\b"),
    "dear": (SPAM, r"(?i)\bdear\s+(sir|madam|friend|customer|member)"),
    "compile": (HAM, r"(?i)\bcompil(e|er|ing)\b"),
    "guarantee": (SPAM, r"(?i)\bwe\s+guarantee|\babsolutely\s+free"),
    "security": (HAM, r"(?i)\b(ssh|gpl|firewall|localhost)\b"),
    "million": (SPAM, r"(?i)\$\s?\d+\s?(k|million)\b"),
    "script": (HAM, r"(?i)\b(scripts?|syntax|algorithm)\b"),
    "free_info": (SPAM, r"(?i)\bfree\s+(quote|report|info\w*|bonus|gift)\b"),
    "include": (HAM, r"(?m)#include|^#!"),
    "home_work": (SPAM, r"(?i)\bwork(ing)?\s+(from|at)\s+home"),
    "age": (SPAM, r"(?i)\bover\s+18\b|\b18\s+years"),
}


def _search(name: str, label: int, pattern: str) -> ColumnarLabelingFunction:
    def condition(mail: ir.Table) -> ir.BooleanValue:
        return mail.body.re_search(pattern)

    return ColumnarLabelingFunction(f"pattern_{name}", condition, label)


globals().update({f"pattern_{name}": _search(name, *of) for name, of in PATTERNS.items()})
