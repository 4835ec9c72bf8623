"""What was known of a kind of order before the hour."""

from __future__ import annotations

import ibis.expr.types as ir

from weakfish.features import Past, transform


@transform(entity="note")
def kind_activity(past: Past) -> dict[str, ir.Value]:
    """How often a kind of thing is ordered, for how much, and how often that was fraud."""
    week = past.last(days=7)
    return {
        "orders_7d": week.count(),
        "amount_mean_7d": week.mean(past.events.amount),
        "fraud_share": past.ever.known_labels("fraud").share("fraud"),
        "last_seen_at": past.last_seen(),
    }
