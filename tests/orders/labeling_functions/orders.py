"""Labeling functions about orders: three on columns, one in Python."""

from __future__ import annotations

from typing import Any

import ibis.expr.types as ir
from snorkel.labeling import labeling_function

from weakfish.rules import votes


@votes(1)
def buys_gift_cards(order: ir.Table) -> ir.BooleanValue:
    """Gift cards cannot be taken back."""
    return order.note.contains("gift")


@votes(1)
def is_large(order: ir.Table) -> ir.BooleanValue:
    """Large orders are worth the trouble."""
    return order.amount > 200


@votes(0)
def is_small(order: ir.Table) -> ir.BooleanValue:
    """Small orders are not."""
    return order.amount < 100


@labeling_function()
def is_a_book(order: Any) -> int:
    """Books are hard to sell on."""
    return 0 if order.note == "book" else -1
