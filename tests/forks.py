"""Work in a process of its own that has all libraries loaded already, to be killed without mourning."""

from __future__ import annotations

import os
from collections.abc import Callable

from weakfish.errors import WeakfishError

UNEXPECTED = 99


def forked(work: Callable[[], object]) -> int:
    """Do work in a fork of this process, which ends with the exit code of its error; returns its id."""
    child = os.fork()
    if child:
        return child
    try:
        work()
    except WeakfishError as error:
        os._exit(error.exit_code)
    except BaseException:
        os._exit(UNEXPECTED)
    os._exit(0)


def ended(child: int) -> int:
    """How a process ended: its exit code, or the signal that killed it as a negative number."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
