"""What must hold of the labels of each task."""
