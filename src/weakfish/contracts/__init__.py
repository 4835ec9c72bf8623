"""What parts agree on: names, tables, typed records and the files that hold them."""
