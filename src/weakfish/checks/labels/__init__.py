"""Labels and labeling functions against what was accepted of them: what the label stage reports in, checks out."""
