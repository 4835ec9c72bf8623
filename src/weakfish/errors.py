"""All errors that Weakfish raises on purpose, as one tree; the exit code of a command is that of its error.

WeakfishError                 3  an engine or a service failed
|-- CheckFailed               1  a check failed: the data is readable and is not good enough
|-- StoreError                3  the online store or its registry cannot be reached or used
|-- StorageError              3  the storage of tables cannot be reached, or lost an object
|-- ServiceError              3  a service that keeps others' tables, or a database, does not answer
|-- Interrupted         128 + n  signal n ended a run
`-- UserError                 2  wrong use or bad input
    |-- ParamsError              params.yaml or a setting of a source
    |-- UnknownName              a table, task, function or verb that does not exist; suggests the nearest
    |-- SourceError              raw data that cannot be fetched or read
    |-- TableError               a table that is missing, truncated or breaks its contract
    |-- LabelingFunctionError    a labeling function that raises or returns what is not a vote
    |-- FeatureError             a transform that raises or returns what is not a feature of the past
    |-- TrainingError            labels, features and Feast definitions that do not fit together
    `-- Busy                     another command works on the same outs

Every message is one sentence that says what is wrong, where, and what to do about it.
"""

from __future__ import annotations

import difflib
import errno
import re
import shutil
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from types import FrameType


class WeakfishError(Exception):
    """An engine or a service failed; the base of everything that Weakfish raises on purpose."""

    exit_code = 3


class CheckFailed(WeakfishError):
    """A check failed: nothing downstream may use the data."""

    exit_code = 1


class StoreError(WeakfishError):
    """The online store, its server or its registry failed."""


class StorageError(WeakfishError):
    """The storage that machines share cannot be reached, or an object in it is missing or damaged."""


class ServiceError(WeakfishError):
    """A service that keeps tables of others, a catalog or a database does not answer."""


class Interrupted(WeakfishError):
    """A signal ended a run; the exit code is 128 and the signal's number, as shells have it."""

    def __init__(self, number: int) -> None:
        self.exit_code = 128 + number
        super().__init__(
            f"{signal.Signals(number).name} ended the run, and its stage with it; what was finished is kept, and "
            "`weakfish run` goes on from there."
        )


class UserError(WeakfishError):
    """Wrong use, or input that cannot be worked with."""

    exit_code = 2


class ParamsError(UserError):
    """``params.yaml`` is malformed, or holds a setting that cannot be used.

    ``setting`` is that of the source which is at fault, and ``reason`` says why; both are empty where it is another.
    """

    def __init__(self, message: str, setting: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.setting, self.reason = setting, reason


class SourceError(UserError):
    """Raw data could not be fetched or read."""


class TableError(UserError):
    """A table is missing, truncated, or not what its contract says."""


class LabelingFunctionError(UserError):
    """A labeling function raised, or returned what is not a vote."""


class FeatureError(UserError):
    """A transform raised, or returned what is not a feature of the past."""


class TrainingError(UserError):
    """Labels, features and the definitions of the feature store do not fit together."""


class Busy(UserError):
    """Another command is working on the same outs."""


class UnknownName(UserError):
    """A name that does not exist; the message lists what does and suggests the nearest."""

    def __init__(self, kind: str, name: str, known: Iterable[str], where: str) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names) or 'none'}."
        super().__init__(f"There is no {kind} {name!r} in {where}; {hint}")


SYSTEM = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the user's share of the disk is used up",
    errno.EFBIG: "the file would be larger than this process may write",
    errno.EACCES: "this user lacks the permission",
    errno.EPERM: "this user lacks the permission",
    errno.EROFS: "the file system is read-only",
    errno.EMFILE: "this process has as many files open as it may",
    errno.ENFILE: "the machine has as many files open as it may",
    errno.EIO: "the disk reports an error",
}
"""What the system refuses, by its number: no defect of Weakfish, and nothing that `--debug` would explain."""

OF_SPACE = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise `KeyboardInterrupt` for whatever a library makes of an interrupt: DuckDB makes a ``RuntimeError`` of it."""
    usual, interrupts = signal.getsignal(signal.SIGINT), []
    if usual is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(number: int, frame: FrameType | None) -> None:
        interrupts.append(number)
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    except Exception as error:
        if interrupts:
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, usual)


def of_system(error: OSError, folder: Path) -> WeakfishError | None:
    """What the system refused, as a sentence with the path and, where space is short, what is free; None for others.

    Parameters
    ----------
    folder
        Where the work was done, for an error that names no file.
    """
    if error.errno not in SYSTEM:
        return None
    named = error.filename if isinstance(error.filename, str | Path) else None
    where = Path(named or folder)
    free = ""
    if error.errno in OF_SPACE:
        with suppress(OSError):
            there = next(above for above in (where, *where.absolute().parents) if above.exists())
            free = f" ({shutil.disk_usage(there).free / 1e6:,.0f} MB are free)"
    does = "used" if named else "written to"
    return WeakfishError(f"{where} cannot be {does}: {SYSTEM[error.errno]}{free}; put that right and run this again.")


_ANSWERS = re.compile(r"authentication|password|credential|permission|denied|forbidden", re.IGNORECASE)
"""What a service says that is up, or why it is not asked at all."""

_DOWN = re.compile(
    r"connection (refused|reset|aborted|timed out|error)|time(d )?-?out|could(n.t| not) (connect|resolve|translate)"
    r"|failed to (resolve|establish|connect)|name or service not known|name resolution|no route to host"
    r"|network is unreachable|network_connection|error sending request|dns error|service unavailable|starting up"
    r"|shutting down|server closed the connection|internal server error|bad gateway",
    re.IGNORECASE,
)


def is_down(error: BaseException) -> bool:
    """Whether an error, or what caused it, says that a service does not answer, as far as its library tells."""
    seen: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in seen:
        seen.append(following)
        following = following.__cause__ or following.__context__
    if any(isinstance(each, ConnectionError | TimeoutError) for each in seen):
        return True
    said = " ".join(map(str, seen))
    return bool(_DOWN.search(said)) and not _ANSWERS.search(said)


_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def require(package: str) -> None:
    """Raise `ModuleNotFoundError` where a package is not installed, before anything else that would be in the way."""
    if find_spec(package) is None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)


def reason(error: BaseException, longest: int = 300) -> str:
    """What a library says went wrong, on one line, without what it goes on to say after that."""
    said = " ".join(_COLOURS.sub("", str(error)).split()).rstrip(".;: ")
    cut = said if len(said) <= longest else f"{said[:longest]}..."
    return f"{type(error).__name__}: {cut}" if cut else type(error).__name__
