"""What was known of a sender's domain, a relay and a mailing list before a message came.

Each function is a view: rows of ``entity``, at the full hours (UTC) at which a value changed. Windows end before the
hour; labels count from the time they became known. Shares and means are null where there is nothing to divide.
"""

from __future__ import annotations

import ibis.expr.types as ir

from weakfish.features import Past, transform


@transform(entity="sender_domain")
def sender_activity(past: Past) -> dict[str, ir.Value]:
    """How a domain mails: how much, how regularly, in what form, over which relays, and what it turned out to be."""
    return {
        **_volumes(past),
        "relays_30d": past.last(days=30).distinct(past.events.relay_ip),
        "lists_30d": past.last(days=30).distinct(past.events.list_id),
        "addresses_30d": past.last(days=30).distinct(past.events.sender),
        **_form(past),
        **_known_spam(past),
    }


@transform(entity="relay_ip")
def relay_activity(past: Past) -> dict[str, ir.Value]:
    """How a relay is used: an address that suddenly mails for many domains is rarely a mail server."""
    return {
        **_volumes(past),
        "sender_domains_7d": past.last(days=7).distinct(past.events.sender_domain),
        "sender_domains_30d": past.last(days=30).distinct(past.events.sender_domain),
        **_form(past),
        **_known_spam(past),
    }


@transform(entity="list_id")
def list_activity(past: Past) -> dict[str, ir.Value]:
    """How a mailing list lives: its traffic, its writers, and how much of it is spam."""
    return {
        **_volumes(past),
        "sender_domains_30d": past.last(days=30).distinct(past.events.sender_domain),
        "addresses_30d": past.last(days=30).distinct(past.events.sender),
        **_form(past),
        **_known_spam(past),
    }


def _volumes(past: Past) -> dict[str, ir.Value]:
    """Volume, regularity, and when the entity was first and last seen (ages are computed on request from these)."""
    return {
        "mails_1d": past.last(days=1).count(),
        "mails_7d": past.last(days=7).count(),
        "mails_30d": past.last(days=30).count(),
        "mails_before": past.ever.count(),
        "active_days_30d": past.last(days=30).active_days(),
        "first_seen_at": past.first_seen(),
        "last_seen_at": past.last_seen(),
    }


def _form(past: Past) -> dict[str, ir.Value]:
    month, message = past.last(days=30), past.events
    return {
        "html_share_30d": month.share(message.is_html),
        "links_mean_30d": month.mean(message.n_links),
        "attachment_share_30d": month.share(message.has_attachment),
    }


def _known_spam(past: Past) -> dict[str, ir.Value]:
    """The share of past mail weakly labelled spam, with the number of labels that it rests on."""
    week, month, ever = (window.known_labels("spam") for window in (past.last(days=7), past.last(days=30), past.ever))
    return {
        "spam_share_7d": week.share("spam"),
        "spam_labels_7d": week.count(),
        "spam_share_30d": month.share("spam"),
        "spam_labels_30d": month.count(),
        "spam_share_before": ever.share("spam"),
        "spam_labels_before": ever.count(),
    }
