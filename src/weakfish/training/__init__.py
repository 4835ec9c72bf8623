"""Labels and features together: training sets that hold what was known at each event's time."""
