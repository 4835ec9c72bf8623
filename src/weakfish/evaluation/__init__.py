"""Are the labels any good: predictions against gold labels, as metrics with their spread, and as plots."""
