"""What must hold of the rows of list_activity before they may be trained on or served. A critical check stops."""

from great_expectations import expectations as gxe

from validation.features import rows_of

EXPECTATIONS = [
    *rows_of(
        "list_id",
        counts=[
            "mails_1d",
            "mails_7d",
            "mails_30d",
            "mails_before",
            "active_days_30d",
            "sender_domains_30d",
            "addresses_30d",
            "spam_labels_7d",
            "spam_labels_30d",
            "spam_labels_before",
        ],
        shares=["html_share_30d", "attachment_share_30d", "spam_share_7d", "spam_share_30d", "spam_share_before"],
    ),
    gxe.ExpectColumnUniqueValueCountToBeBetween(
        column="list_id",
        min_value=10,
        max_value=200,
        severity="warning",
        meta={"why": "The corpus comes from some forty lists; many more mean that the header is no longer a name."},
    ),
]
