"""Events into votes, votes into a label model, a label model into probabilistic labels."""

from weakfish.labeling.functions import ABSTAIN, ColumnarLabelingFunction, votes
from weakfish.labeling.load import load_functions

__all__ = ["ABSTAIN", "ColumnarLabelingFunction", "load_functions", "votes"]
