"""What must hold of the labels of orders."""

from great_expectations import expectations as gxe

EXPECTATIONS = [
    gxe.ExpectColumnValuesToBeBetween(
        column="p_fraud", min_value=0, max_value=1, severity="critical", meta={"why": "Shares lie between 0 and 1."}
    ),
    gxe.ExpectColumnMeanToBeBetween(
        column="covered", min_value=0.5, severity="critical", meta={"why": "Half of the orders have a vote."}
    ),
]
