"""Rows that failed, and how they come back: patches under version control, repairs, waivers, the verbs."""
