"""Events into votes, votes into a label model, a label model into probabilistic labels."""

from weakfish.labeling.functions import ABSTAIN, ColumnarLabelingFunction, votes

__all__ = ["ABSTAIN", "ColumnarLabelingFunction", "votes"]
