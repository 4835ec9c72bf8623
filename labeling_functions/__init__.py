"""Functions that vote on whether a message is spam; every module in this folder is read.

A class is its position in ``tasks.spam.classes`` of ``params.yaml``.
"""

HAM = 0
SPAM = 1
