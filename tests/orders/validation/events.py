"""What must hold of orders."""

from great_expectations import expectations as gxe

EXPECTATIONS = [
    gxe.ExpectColumnValuesToNotBeNull(column="placed_at", severity="critical", meta={"why": "No time, no place."}),
    gxe.ExpectColumnValuesToBeBetween(
        column="amount", min_value=0, severity="critical", meta={"why": "Debts are no orders."}
    ),
    gxe.ExpectColumnValuesToNotBeNull(column="amount", severity="warning", meta={"why": "Orders have an amount."}),
]
