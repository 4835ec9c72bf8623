"""TODO: say what training is for."""
