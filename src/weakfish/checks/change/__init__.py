"""A table against what was accepted of it: its columns in numbers, by partition; comparisons of those; the baseline."""
