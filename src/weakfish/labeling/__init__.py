"""Votes into probabilistic labels: voting, label models, labels, explanations, and help for authors of rules."""
