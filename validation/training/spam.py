"""What must hold of the training set before a model learns from it. Rows cannot be set aside: what is critical stops.

That it has one row per label, in the labels' order, is no expectation: the stage that makes it fails otherwise.
"""

from great_expectations import expectations as gxe

VIEWS = {"sender_activity": 0.5, "relay_activity": 0.4, "list_activity": 0.3}
"""Views, and the least share of messages that one must know something of."""

SHARES = ("html_share_30d", "attachment_share_30d", "spam_share_7d", "spam_share_30d", "spam_share_before")

EXPECTATIONS = [
    gxe.ExpectColumnValuesToNotBeNull(
        column="message_id",
        severity="critical",
        meta={"why": "A row without its message cannot be traced back."},
    ),
    gxe.ExpectColumnValuesToBeUnique(
        column="message_id",
        severity="critical",
        meta={"why": "A message that stands twice counts twice: a join has multiplied rows."},
    ),
    gxe.ExpectColumnValuesToNotBeNull(
        column="received_at",
        severity="critical",
        meta={"why": "Features are those known at this time."},
    ),
    gxe.ExpectTableRowCountToBeBetween(
        min_value=1000,
        severity="warning",
        meta={"why": "A classifier on this many features needs more than a handful of rows."},
    ),
    *(
        gxe.ExpectColumnValuesToBeBetween(
            column=column,
            min_value=0,
            max_value=1,
            severity="critical",
            meta={"why": "It is a probability."},
        )
        for column in ("p_ham", "p_spam")
    ),
    gxe.ExpectColumnValuesToNotBeNull(
        column="p_spam",
        severity="critical",
        meta={"why": "A row without a label teaches nothing."},
    ),
    gxe.ExpectColumnMeanToBeBetween(
        column="covered",
        min_value=0.8,
        severity="critical",
        meta={"why": "Rows without a vote carry only the prior."},
    ),
    *(
        gxe.ExpectColumnProportionOfNonNullValuesToBeBetween(
            column=f"{view}__mails_before",
            min_value=least,
            severity="critical",
            meta={
                "why": "Where fewer messages found the past of their entity, a join key has changed or a join broke."
            },
        )
        for view, least in VIEWS.items()
    ),
    *(
        gxe.ExpectColumnValuesToBeBetween(
            column=f"{view}__mails_before",
            min_value=1,
            severity="critical",
            meta={"why": "A row of the past exists from the first mail on."},
        )
        for view in VIEWS
    ),
    *(
        gxe.ExpectColumnValuesToBeBetween(
            column=f"{view}__{share}",
            min_value=0,
            max_value=1,
            severity="critical",
            meta={"why": "It is a share."},
        )
        for view in VIEWS
        for share in SHARES
    ),
    gxe.ExpectColumnValuesToBeBetween(
        column="request_features__hours_since_last_seen",
        min_value=0,
        strict_min=True,
        severity="critical",
        meta={"why": "A sender last seen at its message's time or later would be the future."},
    ),
    gxe.ExpectColumnValuesToBeBetween(
        column="request_features__kilobytes",
        min_value=0,
        strict_min=True,
        severity="critical",
        meta={"why": "A message has a size."},
    ),
    gxe.ExpectColumnValuesToBeBetween(
        column="request_features__hour_of_day",
        min_value=0,
        max_value=23,
        severity="critical",
        meta={"why": "It is an hour, UTC."},
    ),
]
