"""How long `weakfish diff` takes: `python -m benchmarks.diff_size [EVENTS] [--project P]` (half an hour for 5,000,000).

Made-up payments run through the pipeline and are committed; then the bound of one function is edited, and what follows
from it runs again, which moves labels, features and training sets in every month. One line of JSON: seconds and peak
memory of `weakfish diff HEAD`, as a process of its own; lines are kept in ``benchmarks/diff_size.jsonl``. A project
that was left by an earlier call is measured as it is.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import diff_project, growth_payments
from benchmarks.diff_project import BIN, PIPELINE, STAGES, call, commit, run

EDITED = [stage for stage in STAGES if stage[0] not in ("fetch", "ingest", "accept", "gather-reviews")][1:]
"""What runs again after an edit of a function."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the project, edit it, and measure the comparison."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.diff_size", description=__doc__.split("\n")[0])
    parser.add_argument("events", type=int, nargs="?", default=5_000_000)
    parser.add_argument("--project", type=Path, help="Where the project is kept, or is.")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="diff-size-") as folder:
        root = asked.project or Path(folder) / "payments"
        if not root.exists():
            make(root, asked.events)
        print(json.dumps(measured(root)))


def make(root: Path, events: int) -> None:
    """A project of payments that has run, was committed, edited, and has run again."""
    growth_payments.make(root, growth_payments.Shape(events))
    (root / "dvc.yaml").write_text(PIPELINE, encoding="utf-8")
    (root / ".gitignore").write_text(f"/raw\n{diff_project.FILES['.gitignore']}", encoding="utf-8")
    run(root)
    call(root, "git", "init", "--quiet")
    call(root, str(BIN / "dvc"), "init", "--quiet")
    call(root, str(BIN / "dvc"), "commit", "--quiet", "--force")
    commit(root, "accepted")
    functions = root / "labeling_functions/payments.py"
    functions.write_text(
        functions.read_text(encoding="utf-8").replace("amount > 400", "amount > 350"), encoding="utf-8"
    )
    run(root, EDITED)


def measured(root: Path) -> dict[str, Any]:
    """Seconds, peak memory, and what was compared."""
    began = time.monotonic()
    done = subprocess.run(
        [str(BIN / "weakfish"), "diff", "HEAD", "--format", "json"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    )
    seconds, peak = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    found = json.loads(done.stdout)
    labels = found["labels"][growth_payments.TASK]
    return {
        "name": "diff",
        "seconds": round(seconds, 1),
        "peak_rss_mb": round(peak, 1),
        "events": labels["rows"]["new"],
        "labels_moved": labels["flipped"] + labels["appeared"] + labels["vanished"],
        "feature_values_moved": sum(sum(view["values"].values()) for view in found["features"].values()),
        "feature_rows": sum(view["rows"][1] for view in found["features"].values()),
        "sentence": found["sentence"],
    }


if __name__ == "__main__":
    main()
