"""What must hold of each table: Great Expectations, one module per table, named after it."""
