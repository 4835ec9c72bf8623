"""Labeling functions that only benchmarks need: for a benchmark's project, or for Snorkel's own tools."""
