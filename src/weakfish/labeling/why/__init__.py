"""Why labels are what they are: one label's votes and their weights, and what moved labels between two revisions."""
