"""Eight plain Snorkel labeling functions of ordinary weight: string methods and arithmetic, no regex, no model."""

from __future__ import annotations

from typing import Any

from snorkel.labeling import labeling_function

from labeling_functions import HAM, SPAM

ABSTAIN = -1


@labeling_function()
def subject_is_in_capitals(mail: Any) -> int:
    """A subject in capitals."""
    subject = mail.subject or ""
    return SPAM if len(subject) > 8 and subject.isupper() else ABSTAIN


@labeling_function()
def subject_begins_with_re(mail: Any) -> int:
    """A subject that begins with Re."""
    return HAM if (mail.subject or "").strip().lower().startswith("re:") else ABSTAIN


@labeling_function()
def text_speaks_of_free_offers(mail: Any) -> int:
    """The words free and offer, in any case."""
    text = mail.body.lower()
    return SPAM if "free" in text and "offer" in text else ABSTAIN


@labeling_function()
def text_exclaims_often(mail: Any) -> int:
    """An exclamation mark every 200 characters."""
    return SPAM if mail.body.count("!") * 200 > len(mail.body) else ABSTAIN


@labeling_function()
def text_counts_money(mail: Any) -> int:
    """Three dollar signs or more."""
    return SPAM if mail.body.count("$") >= 3 else ABSTAIN


@labeling_function()
def text_quotes_lines(mail: Any) -> int:
    """Quoted lines."""
    return HAM if mail.body.startswith(">") or "\n>" in mail.body else ABSTAIN


@labeling_function()
def text_has_short_lines(mail: Any) -> int:
    """Lines of 20 to 45 characters on average."""
    average = len(mail.body) / (mail.body.count("\n") + 1)
    return HAM if 20 <= average <= 45 else ABSTAIN


@labeling_function()
def links_outweigh_text(mail: Any) -> int:
    """A link for every 100 characters of text."""
    return SPAM if mail.n_links * 100 > len(mail.body) else ABSTAIN


FUNCTIONS = [
    *(subject_is_in_capitals, subject_begins_with_re, text_speaks_of_free_offers, text_exclaims_often),
    *(text_counts_money, text_quotes_lines, text_has_short_lines, links_outweigh_text),
]
COLUMNS = ["subject", "body", "n_links"]
