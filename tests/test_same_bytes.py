"""Labels from fixed parameters are the same bytes on every processor; other processors are stood in for by settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCORED = Path(__file__).with_name("scored.py")
NEWER = ["AVX512_SPR", "AVX512_ICL", "X86_V4", "AVX512_SKX", "AVX512_CLX", "AVX512_CNL", "AVX512CD", "AVX512F"]
OLDER = ["X86_V3", "AVX2", "FMA3"]
PROCESSORS = {
    "AVX2": {
        "without": NEWER,
        "OPENBLAS_CORETYPE": "Haswell",
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
    },
    "SSE": {
        "without": NEWER + OLDER,
        "OPENBLAS_CORETYPE": "Nehalem",
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4,-AVX512F",
    },
}


def scored(**settings: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, SCORED], env=os.environ | settings, check=True, capture_output=True, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def here() -> dict[str, Any]:
    """What this processor computes."""
    return scored()


@pytest.mark.parametrize("processor", PROCESSORS)
def test_another_processor_labels_with_the_same_bytes_and_fits_nearly_the_same(
    processor: str, here: dict[str, Any]
) -> None:
    settings = dict(PROCESSORS[processor])
    without = [name for name in settings.pop("without") if name in here["chosen"]]
    found = scored(NPY_DISABLE_CPU_FEATURES=" ".join(without), **settings)
    assert not set(found["chosen"]) & set(without), "NumPy takes the older code"
    assert found["digests"] == here["digests"]
    for name, parameters in here["refits"].items():
        np.testing.assert_allclose(found["refits"][name], parameters, rtol=0, atol=1e-6)
