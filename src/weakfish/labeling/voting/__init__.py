"""Events into votes: columnar functions in one pass that reads text once, row functions in worker processes."""
