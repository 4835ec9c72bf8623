"""What must hold of the rows of relay_activity before they may be trained on or served. A critical check stops."""

from great_expectations import expectations as gxe

from validation.features import rows_of

EXPECTATIONS = [
    *rows_of(
        "relay_ip",
        counts=[
            "mails_1d",
            "mails_7d",
            "mails_30d",
            "mails_before",
            "active_days_30d",
            "sender_domains_7d",
            "sender_domains_30d",
            "spam_labels_7d",
            "spam_labels_30d",
            "spam_labels_before",
        ],
        shares=["html_share_30d", "attachment_share_30d", "spam_share_7d", "spam_share_30d", "spam_share_before"],
    ),
    gxe.ExpectColumnValueLengthsToBeBetween(
        column="relay_ip",
        min_value=2,
        max_value=45,
        severity="warning",
        meta={"why": "An address is no longer than IPv6 text; longer means that parsing Received headers broke."},
    ),
]
