"""The suite of the validation figures: fifteen expectations of amplified events, like those in `validation/events.py`.

It is imported only by a side that has Great Expectations, and is plain Great Expectations.
"""

from __future__ import annotations

from great_expectations import expectations as gxe

BEGIN, END = "2002-01-01T00:00:00+00:00", "2002-12-31T18:00:00+00:00"
"""Amplified events of a full run fill 2002; those of its last six hours are out of range, so that some are."""

COLUMNS = (*("message_id", "received_at", "sender", "n_hops", "n_recipients", "body", "size_bytes", "content_type"),)
"""All columns that the expectations name."""

EXPECTATIONS = [
    gxe.ExpectTableRowCountToBeBetween(min_value=100, severity="critical"),
    gxe.ExpectColumnValuesToNotBeNull(column="message_id", severity="critical"),
    gxe.ExpectColumnValuesToBeUnique(column="message_id", severity="critical"),
    gxe.ExpectColumnValuesToNotBeNull(column="received_at", severity="critical"),
    gxe.ExpectColumnValuesToBeBetween(column="received_at", min_value=BEGIN, max_value=END, severity="critical"),
    gxe.ExpectColumnValuesToNotBeNull(column="sender", mostly=0.99, severity="warning"),
    gxe.ExpectColumnValuesToMatchRegex(column="sender", regex=r"^[0-9a-f]{32}$", severity="critical"),
    gxe.ExpectColumnValueLengthsToBeBetween(column="body", max_value=6000, severity="critical"),
    gxe.ExpectColumnValueLengthsToBeBetween(column="body", min_value=30, mostly=0.97, severity="warning"),
    gxe.ExpectColumnValuesToBeBetween(column="size_bytes", min_value=1, max_value=50_000_000, severity="critical"),
    gxe.ExpectColumnValuesToBeBetween(column="n_hops", min_value=0, max_value=10, mostly=0.95, severity="warning"),
    gxe.ExpectColumnValuesToBeInSet(
        column="content_type",
        value_set=[
            *("text/plain", "text/html", "multipart/alternative", "multipart/mixed", "multipart/signed"),
            "multipart/related",
        ],
        severity="warning",
    ),
    gxe.ExpectColumnPairValuesAToBeGreaterThanB(
        column_A="size_bytes",
        column_B="n_hops",
        ignore_row_if="either_value_is_missing",
        severity="warning",
    ),
    gxe.ExpectColumnProportionOfUniqueValuesToBeBetween(column="body", min_value=0.9, severity="warning"),
    gxe.ExpectColumnMeanToBeBetween(column="n_recipients", min_value=1, max_value=2, severity="info"),
]
