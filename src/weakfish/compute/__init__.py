"""Where tables are computed: the contract of an engine, and the engine of this machine.

Code outside this package speaks Ibis; what only one engine understands stays in that engine's folder.
"""

from weakfish.compute.contract import Engine, Fold, connect

__all__ = ["Engine", "Fold", "connect"]
