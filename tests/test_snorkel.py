"""What we use of Snorkel beside its public names: it is there, and leaving out what it imports changes nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TASK = """
import numpy as np
from weakfish.project.params import TaskParams
from weakfish.labeling.label_model import Sums
from weakfish.labeling.label_model import fit
model = {"class_balance": [0.6, 0.4], "n_epochs": 60, "lr": 0.01, "l2": 0.0, "seed": 3}
task = TaskParams(classes=["a", "b"], label_model=model)
votes = np.random.default_rng(5).integers(-1, 2, (500, 4)).astype(np.int8)
print(fit(Sums.of(votes, 2), task).to_json())
"""


def said(code: str) -> str:
    """What a process of its own prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("module", ["weakfish.labeling.vote", "weakfish.labeling.trial", "weakfish.labeling.label"])
def test_labeling_functions_come_without_scikit_learn_and_torch(module: str) -> None:
    code = f"import {module}, sys; print(*{{'torch', 'sklearn', 'networkx'}} & set(sys.modules))"
    assert said(code).split() == []


def test_the_rest_of_snorkel_is_there_for_whoever_asks() -> None:
    code = """
import weakfish.rules.columnar
from snorkel.labeling import LabelingFunction, labeling_function
import snorkel.labeling.lf.core as core, sys
assert LabelingFunction is core.LabelingFunction and "sklearn" not in sys.modules
from snorkel.labeling import LFAnalysis, LFApplier, PandasLFApplier, filter_unlabeled_dataframe
import snorkel.labeling
assert type(snorkel.labeling) is type(sys) and snorkel.labeling.LabelingFunction is LabelingFunction
print(PandasLFApplier([labeling_function()(lambda x: 1)]) is not None)
"""
    assert said(code) == "True\n"


def test_a_fit_without_torchs_compiler_and_scikit_learn_has_the_same_bits() -> None:
    whole = "import sklearn.metrics, torch._dynamo, snorkel.labeling.model\n"
    bare = said(TASK + "import sys; assert not {'sklearn', 'torch._dynamo'} & set(sys.modules)")
    assert bare == said(whole + TASK)


def test_scores_work_after_a_fit_left_scikit_learn_out() -> None:
    code = (
        TASK
        + """
from snorkel.analysis import metric_score
from snorkel.labeling import LFAnalysis
assert metric_score(np.array([0, 1]), np.array([0, 1]), probs=None, metric="f1") == 1
import torch, sklearn.metrics
torch.compile
assert sklearn.metrics.f1_score
"""
    )
    assert said(code)


def test_a_fit_is_made_once(tmp_path: Path) -> None:
    code = TASK.replace("print(", "print(repr(").replace("task).to_json())", "task, cache=cache).to_json()))")
    code = code.replace(
        "task = ",
        f"""
from pathlib import Path
from types import SimpleNamespace
from weakfish.project.cache import Cache
cache = Cache(SimpleNamespace(root=Path({str(tmp_path)!r})), "fits")
task = """,
    )
    first = said(code)
    assert said(code + "import sys; assert 'torch' not in sys.modules") == first
    other = said(code.replace('"seed": 3', '"seed": 4') + "import sys; assert 'torch' in sys.modules")
    assert other != first
