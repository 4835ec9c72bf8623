"""What must hold of the training sets."""
