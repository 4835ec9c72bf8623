"""Expectations into a verdict, a verdict into an open or closed gate; bad rows into quarantine."""
