"""Votes into labels: the sums that a label model needs, the model, the choice of a model, and the labels."""
