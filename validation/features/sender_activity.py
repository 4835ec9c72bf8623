"""What must hold of the rows of sender_activity before they may be trained on or served. A critical check stops."""

from great_expectations import expectations as gxe

from validation.features import rows_of

EXPECTATIONS = [
    *rows_of(
        "sender_domain",
        counts=[
            "mails_1d",
            "mails_7d",
            "mails_30d",
            "mails_before",
            "active_days_30d",
            "relays_30d",
            "lists_30d",
            "addresses_30d",
            "spam_labels_7d",
            "spam_labels_30d",
            "spam_labels_before",
        ],
        shares=["html_share_30d", "attachment_share_30d", "spam_share_7d", "spam_share_30d", "spam_share_before"],
    ),
    gxe.ExpectColumnMeanToBeBetween(
        column="mails_before",
        min_value=2,
        severity="warning",
        meta={
            "why": "Domains that come back are what the features live by; a mean near 1 means that names are broken."
        },
    ),
]
