"""Labels and past features into training sets: one row per label, with the features known at its event's time."""
