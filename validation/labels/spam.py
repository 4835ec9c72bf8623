"""What must hold of the labels before anything may use them. Labels cannot be set aside: a critical check stops."""

from great_expectations import expectations as gxe

EXPECTATIONS = [
    gxe.ExpectColumnValuesToNotBeNull(
        column="message_id",
        severity="critical",
        meta={"why": "A label without its message labels nothing."},
    ),
    gxe.ExpectColumnValuesToBeUnique(
        column="message_id",
        severity="critical",
        meta={"why": "A message has one label."},
    ),
    gxe.ExpectColumnValuesToNotBeNull(
        column="p_spam",
        severity="critical",
        meta={"why": "A missing probability is a label model that did not converge."},
    ),
    gxe.ExpectColumnValuesToBeBetween(
        column="p_spam",
        min_value=0,
        max_value=1,
        severity="critical",
        meta={"why": "It is a probability."},
    ),
    gxe.ExpectColumnValuesToBeBetween(
        column="p_ham",
        min_value=0,
        max_value=1,
        severity="critical",
        meta={"why": "It is a probability."},
    ),
    gxe.ExpectColumnMeanToBeBetween(
        column="covered",
        min_value=0.8,
        severity="critical",
        meta={"why": "Where fewer messages have a vote, the labels say more about the functions than about the mail."},
    ),
    gxe.ExpectColumnMeanToBeBetween(
        column="n_votes",
        min_value=1.5,
        severity="warning",
        meta={"why": "The label model learns from functions that vote together."},
    ),
    gxe.ExpectColumnMeanToBeBetween(
        column="p_spam",
        min_value=0.1,
        max_value=0.6,
        severity="warning",
        meta={"why": "Spam was a fifth to a half of the mail of 2002; far from it, the label model favours one class."},
    ),
    gxe.ExpectColumnProportionOfUniqueValuesToBeBetween(
        column="p_spam",
        min_value=0.005,
        severity="warning",
        meta={"why": "Few distinct probabilities mean that one labeling function decides alone."},
    ),
]
