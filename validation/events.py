"""What must hold of the staged messages before anything may use them.

A critical check of rows sets its rows aside, while they stay under `validation.events.max_quarantined_share`; any other
critical check stops the pipeline. A warning shows, an info is recorded.
"""

from great_expectations import expectations as gxe

CORPUS_ROWS = 6046
EARLIEST, LATEST = "2001-01-01T00:00:00+00:00", "2003-01-01T00:00:00+00:00"

EXPECTATIONS = [
    gxe.ExpectTableRowCountToEqual(
        value=CORPUS_ROWS,
        severity="critical",
        meta={"why": "The corpus is pinned, so a message more or less means that the reader lost or invented one."},
    ),
    gxe.ExpectColumnValuesToNotBeNull(
        column="message_id",
        severity="critical",
        meta={"why": "Everything downstream is joined by the key."},
    ),
    gxe.ExpectColumnValuesToBeUnique(
        column="message_id",
        severity="critical",
        meta={"why": "A key that stands twice would count one message twice in every window and training set."},
    ),
    gxe.ExpectColumnValuesToNotBeNull(
        column="received_at",
        severity="critical",
        meta={"why": "Without a parsable Received header nobody knows when the message came; the time is not guessed."},
    ),
    gxe.ExpectColumnValuesToBeBetween(
        column="received_at",
        min_value=EARLIEST,
        max_value=LATEST,
        severity="critical",
        meta={"why": "The corpus was collected in 2001 and 2002; a time outside is a broken clock or a broken parser."},
    ),
    gxe.ExpectColumnValuesToNotBeNull(
        column="sender",
        mostly=0.99,
        severity="warning",
        meta={"why": "Messages without a sender cannot take part in features by sender."},
    ),
    gxe.ExpectColumnValuesToNotBeNull(
        column="sender_domain",
        mostly=0.99,
        severity="warning",
        meta={"why": "The sender's domain is the key of most features."},
    ),
    gxe.ExpectColumnValuesToNotBeNull(
        column="relay_ip",
        mostly=0.85,
        severity="warning",
        meta={"why": "Local mail has no relay, 13 % here; fewer relays mean that parsing Received headers broke."},
    ),
    gxe.ExpectColumnValuesToMatchRegex(
        column="sender",
        regex=r"^[0-9a-f]{32}$",
        severity="critical",
        meta={"why": "An address that is not hashed must not get past this point."},
    ),
    gxe.ExpectColumnValueLengthsToBeBetween(
        column="body",
        max_value=4000,
        severity="critical",
        meta={
            "why": "Longer text means that the reader did not cut it, and the scan of text is budgeted for that length."
        },
    ),
    gxe.ExpectColumnValueLengthsToBeBetween(
        column="body",
        min_value=1,
        mostly=0.97,
        severity="warning",
        meta={"why": "Messages without text are rare; many of them mean that decoding failed."},
    ),
    gxe.ExpectColumnValuesToNotBeNull(
        column="subject",
        mostly=0.97,
        severity="info",
        meta={"why": "Messages without a subject exist, and are few."},
    ),
    gxe.ExpectColumnValuesToBeBetween(
        column="size_bytes",
        min_value=1,
        max_value=50_000_000,
        severity="critical",
        meta={"why": "No mail server of the time carried a larger message, and none is empty."},
    ),
    gxe.ExpectColumnValuesToBeBetween(
        column="n_links",
        min_value=0,
        max_value=2_000,
        severity="warning",
        meta={"why": "Thousands of links in one message are more likely a parser that counts wrong."},
    ),
    gxe.ExpectColumnValuesToBeBetween(
        column="n_recipients",
        min_value=0,
        max_value=1_000,
        severity="warning",
        meta={"why": "More recipients than that are a header that was split wrongly."},
    ),
    gxe.ExpectColumnProportionOfUniqueValuesToBeBetween(
        column="body",
        min_value=0.9,
        severity="warning",
        meta={"why": "Many messages with the same text are a reader that repeats itself, or a flood."},
    ),
]
