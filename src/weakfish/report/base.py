"""What every shape of a report file has in common: unknown keys are ignored, numbers that are none count as missing."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


Number = Annotated[float | None, BeforeValidator(_finite)]
"""A number to show; NaN and infinities, which JSON should not hold, count as missing."""


Time = Annotated[datetime, AfterValidator(_utc)]
"""A time in UTC."""


SHAPE = ConfigDict(extra="ignore", frozen=True)
"""How every shape is read."""
