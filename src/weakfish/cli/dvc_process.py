"""DVC as a child of `weakfish run` that ends with it, its stage too, also where the run was killed.

A run that is asked to end tells its DVC. One that is killed cannot; the other end of a pipe closes then, on any system.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

SECONDS_TO_END = 15.0
"""How long DVC and a stage may take to end when they are asked to."""


def main() -> int:
    """Run DVC: the first argument is the end of the pipe to read, the others are DVC's."""
    pipe, *arguments = sys.argv[1:]
    sys.argv = ["dvc", *arguments]
    threading.Thread(target=_end_with_run, args=(int(pipe),), daemon=True).start()
    from dvc.cli import main as dvc

    code: int = dvc(arguments)
    return code


def _end_with_run(pipe: int) -> None:
    """Interrupt the process group of DVC once nobody holds the other end of the pipe, and kill what stays."""
    os.read(pipe, 1)
    os.killpg(0, signal.SIGINT)
    time.sleep(SECONDS_TO_END)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
