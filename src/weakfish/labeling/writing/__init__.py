"""Help for people who write labeling functions: a function tried on a sample, rules suggested from the labels."""
