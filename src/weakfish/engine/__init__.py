"""Where work runs: the contract of an engine, DuckDB on this machine, the fleet, and the additive column profile.

Code outside this package speaks Ibis; what only one engine understands stays in that engine's module.
"""
