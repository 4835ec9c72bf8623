"""Slices: kinds of mail on which labels and models are measured by themselves."""

from __future__ import annotations

import ibis.expr.types as ir

from weakfish.rules import slice


@slice
def from_lists(mail: ir.Table) -> ir.BooleanValue:
    """Mail of mailing lists: most of it is ham, and spam on a list looks like ham from outside."""
    return mail.list_id.notnull()


@slice
def short(mail: ir.Table) -> ir.BooleanValue:
    """A body of a few lines: there are hardly any words to judge by."""
    return mail.body.length() < 400
