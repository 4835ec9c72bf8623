"""What every shape of a report file has in common: unknown keys are ignored, numbers that are none count as missing."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Number = Annotated[float | None, BeforeValidator(_finite)]
"""A number to show; NaN and infinities, which JSON should not hold, count as missing."""


SHAPE = ConfigDict(extra="ignore", frozen=True)
"""How every shape is read."""
