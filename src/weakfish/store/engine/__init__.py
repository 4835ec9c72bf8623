"""Feast's compute engine as Weakfish has it; ``batch_engine.type`` in feature_store.yaml names it by class path."""

from weakfish.store.engine.columnar import ColumnarComputeEngine, ColumnarComputeEngineConfig

__all__ = ["ColumnarComputeEngine", "ColumnarComputeEngineConfig"]
