"""Work on a Spark cluster, classic or by Spark Connect: executors call today's code by name, item by item.

Expressions are not compiled to Spark SQL, where the same regular expression means other things. The team's folders
travel with each job; tables lie where driver and executors both see them. What stands on both sides has to be the same:
executors compare their packages with the driver's before they begin.
"""

from __future__ import annotations

import atexit
import hashlib
import importlib
import io
import json
import os
import re
import shutil
import socket
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pyarrow as pa

from weakfish import errors
from weakfish.contracts.storage import VARIABLE, storage_of
from weakfish.engine import worker
from weakfish.engine.carried import OBJECTS, Carrier, emptied, files_of
from weakfish.engine.worker import Job
from weakfish.errors import UserError, WeakfishError, reason
from weakfish.files import part_folder, whole_file
from weakfish.project.runs import Progress, sweep

MASTER, REMOTE = "SPARK_MASTER", "SPARK_REMOTE"
"""Where the cluster is: a master's URL (classic), or that of a Spark Connect server."""

SETTINGS = Path(".weakfish") / "engine.yaml"
"""A file that git ignores: ``engine``, and for Spark ``remote``, ``master`` and ``conf``."""

SHARED = ("data", "reports", ".weakfish")
"""Folders of a project that do not travel: tables, and what the engine keeps beside them."""

QUIET = {"spark.log.level": "ERROR", "spark.ui.showConsoleProgress": "false", "spark.ui.enabled": "false"}
"""What Spark is told where it runs in this process, unless ``conf`` says otherwise."""

PORT, MASTER_PORT, SECONDS_TO_CONNECT = 15_002, 7_077, 10.0
"""Of a Spark Connect server and a master, where a URL names none, and how long they may take to answer."""

LARGEST = 64 << 20
"""Bytes of a project's other files up to which they travel with a job."""

TASKS = 10_000
"""Tasks of a job at most; of more items, several share one."""

POLL_SECONDS = 0.3

LEFT_SECONDS = 7 * 86_400.0
"""Age from which on receipts were left by a driver that was killed; another machine's may be at work."""

REFUSED = ".refused"
"""What the name of a receipt ends with that holds an error."""

RECEIPT = pa.schema([("place", pa.int64()), ("receipt", pa.string()), ("error", pa.string())])


@dataclass(frozen=True)
class SparkJob:
    """A job and what executors need for it: items, the team's folders as a ZIP archive, the driver's packages.

    Where the project has a ``storage``, executors need not see its folder: the files of items lie at ``places`` there.
    """

    job: Job
    items: tuple[str, ...]
    code: bytes
    packages: Mapping[str, str]
    storage: str | None = None
    places: tuple[Mapping[str, str], ...] = ()

    @property
    def receipts(self) -> Path:
        """The folder in which executors leave receipts, which also shows that they see the project's folder."""
        return self.job.root / ".weakfish" / "fleet" / self.job.id


class _Failed(NamedTuple):
    """What ended a job: a task on an executor, or the job as a whole."""

    error: BaseException


def run(job: Job, items: Sequence[str], what: str, settings: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """As `weakfish.engine.fleet.run`, with items and receipts as JSON.

    Raises
    ------
    UserError
        When PySpark is not installed, or no cluster is named.
    WeakfishError
        When the cluster cannot be reached, gives a task up, or its executors differ from this machine.
    """
    spark = _session(settings)
    storage = storage_of(job.root)
    carrier = Carrier(storage, job.id) if storage else None
    places = carrier.send(job.root, items) if carrier else ()
    uri = storage.uri if storage else None
    whole = SparkJob(job, tuple(items), archive(job.root), packages(), uri, places)
    for left in whole.receipts.parent.glob("*"):
        if time.time() - left.stat().st_mtime > LEFT_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
    whole.receipts.mkdir(parents=True)
    progress, told = Progress(f"{what} on Spark", len(items)), 0
    try:
        done: set[int] = set()
        for place, receipt in _receipts(spark, whole):
            if place not in done:
                done.add(place)
                progress.add(1)
                if carrier:
                    carried = json.loads(receipt)
                    carrier.fetch(job.root, carried["files"])
                    receipt = carried["receipt"]
                yield place, receipt
        told = len(done)
    finally:
        shutil.rmtree(whole.receipts, ignore_errors=True)
        if carrier:
            carrier.end()
    if told != len(items):
        raise WeakfishError(f"Spark returned {told} receipts for {len(items)} items; this is a defect of Weakfish.")


def _receipts(spark: Any, whole: SparkJob) -> Iterator[tuple[int, str]]:
    """Receipts as executors leave them, and at the end all that Spark itself has; some come twice."""
    found: list[Any] = []
    tasks = min(len(whole.items), TASKS)

    def collect() -> None:
        try:
            rows = spark.range(0, len(whole.items), 1, tasks)
            found.extend(rows.mapInArrow(partial(_work, whole), "place long, receipt string, error string").collect())
        except BaseException as error:
            found.append(_Failed(error))

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    seen: set[str] = set()
    try:
        while thread.is_alive():
            thread.join(POLL_SECONDS)
            for file in whole.receipts.glob("[0-9]*"):
                if file.name in seen:
                    continue
                seen.add(file.name)
                said = file.read_text(encoding="utf-8")
                if file.suffix == REFUSED:
                    raise _told(json.loads(said))
                yield int(file.name), said
    finally:
        if thread.is_alive():  # an item was refused, or the caller goes
            _cancel(spark)
    for each in sorted(found, key=lambda row: -1 if isinstance(row, _Failed) else int(row.place)):
        if isinstance(each, _Failed):
            raise _explained(each.error) from each.error
        if each.error is not None:
            raise _told(json.loads(each.error))
        yield int(each.place), each.receipt


def _cancel(session: Any) -> None:
    """End the jobs of a session; what it says of that is of no use to anyone."""
    with suppress(Exception):
        session.interruptAll()
    with suppress(Exception):
        session.sparkContext.cancelAllJobs()


def _told(error: Mapping[str, str]) -> WeakfishError:
    """The error that an executor raised."""
    kind = getattr(errors, error["kind"], WeakfishError)
    found: WeakfishError = kind.__new__(kind)
    found.args = (error["message"],)
    return found


def _explained(error: BaseException) -> BaseException:
    """What Spark says when it gives a job up, as a sentence."""
    if not isinstance(error, Exception):
        return error
    said = str(error)
    if "No module named 'weakfish'" in said:
        return WeakfishError(
            "The executors' Python has no weakfish; install this project's requirements there, or point "
            "spark.pyspark.python at an environment that has them (docs/scale.md)."
        )
    if program := re.search(r'Cannot run program "([^"]+)"', said):
        return UserError(
            f"Executors have no {program[1]}; let spark.pyspark.python name a Python that is on every machine "
            "(docs/scale.md)."
        )
    last = next((line.strip() for line in reversed(said.splitlines()) if "Error" in line or "Exception" in line), said)
    return WeakfishError(
        f"Spark gave a job up: {reason(Exception(last)).partition(': ')[2]}; see its log, and run again."
    )


# --- The session -----------------------------------------------------------------------------------------------------


_begun: set[int] = set()
"""The sessions of this process, which are stopped at its end."""


def _session(settings: Mapping[str, Any]) -> Any:
    """The session of this process: by `REMOTE` or `MASTER`, or else by the settings' ``remote`` or ``master``."""
    try:
        from pyspark.sql import SparkSession
    except ModuleNotFoundError as error:
        raise UserError(
            "The engine is spark, but PySpark is not installed; run `pip install 'weakfish[spark]'`."
        ) from error
    remote = os.environ.get(REMOTE) or (None if os.environ.get(MASTER) else settings.get("remote"))
    master = os.environ.get(MASTER) or settings.get("master")
    if not remote and not master:
        raise UserError(
            f"The engine is spark, but no cluster is named; set {REMOTE} (sc://host:15002) or {MASTER} "
            f"(spark://host:7077), or `remote` or `master` in {SETTINGS}."
        )
    _check(remote, master)
    builder, conf = SparkSession.builder.appName("weakfish"), settings.get("conf") or {}
    for name, value in conf.items():
        builder = builder.config(name, str(value))
    if not remote:
        python = conf.get("spark.pyspark.python") or (sys.executable if str(master).startswith("local") else None)
        if python:  # the setting itself is only read where spark-submit starts the driver
            os.environ.setdefault("PYSPARK_PYTHON", str(python))
        for name, value in QUIET.items():
            builder = builder.config(name, conf.get(name, value))
    try:
        if remote:  # or else the client tries again for ten minutes
            at = urlsplit(str(remote))
            socket.create_connection((at.hostname or "", at.port or PORT), SECONDS_TO_CONNECT).close()
        found = (builder.remote(str(remote)) if remote else builder.master(str(master))).getOrCreate()
        if id(found) not in _begun:
            found.range(1).collect()  # so that what is wrong is told here
            atexit.register(_stop, found)
            _begun.add(id(found))
    except Exception as error:
        said = reason(error)
        for parameter in str(remote or master).split(";")[1:]:  # a token, say
            said = said.replace(parameter.partition("=")[2] or ";", "***")
        raise WeakfishError(f"The Spark cluster at {_plain(remote or master)} cannot be used: {said}.") from None
    return found


MASTERS = re.compile(r"local(\[.+\])?|local-cluster\[.+\]|spark://.+|yarn|k8s://.+")
"""Masters' URLs as Spark knows them."""


def _check(remote: object, master: object) -> None:
    """Refuse addresses that cannot be ones, and a master that does not answer, of which Spark tells little."""
    if remote and not str(remote).startswith("sc://"):
        raise UserError(
            f"{_plain(remote)} is not the address of a Spark Connect server; it begins with sc://, as sc://host:15002 "
            f"does ({REMOTE}, or `remote` in {SETTINGS})."
        )
    if remote or not master:
        return
    if not MASTERS.fullmatch(str(master)):
        raise UserError(
            f"{_plain(master)} is not the address of a Spark master; give one such as spark://host:7077, yarn or "
            f"k8s://https://host:6443 ({MASTER}, or `master` in {SETTINGS})."
        )
    if not str(master).startswith("spark://"):
        return
    why = ""
    for each in str(master).removeprefix("spark://").split(","):
        at = urlsplit(f"//{each}")
        try:
            socket.create_connection((at.hostname or "", at.port or MASTER_PORT), SECONDS_TO_CONNECT).close()
        except (OSError, ValueError) as error:
            why = reason(error)
        else:
            return
    raise WeakfishError(
        f"No Spark master answers at {_plain(master)} ({why}); start it, or correct {MASTER} or `master` in {SETTINGS}."
    )


def _plain(address: object) -> str:
    """An address without its parameters, among which a token may be."""
    start, at, rest = str(address).partition(";")[0].rpartition("@")
    return f"{start.partition('://')[0]}://{rest}" if at and "://" in start else rest


def _stop(session: Any) -> None:
    with suppress(Exception):
        session.stop()


# --- What travels ----------------------------------------------------------------------------------------------------


def archive(root: Path) -> bytes:
    """The files of a project but tables, hidden ones and environments, as a ZIP archive: of the same, the same.

    Raises
    ------
    UserError
        When they are larger than `LARGEST`; names the largest folder.
    """
    files = sorted(_files(root))
    sizes: dict[str, int] = {}
    for file in files:
        top = file.relative_to(root).parts[0]
        sizes[top] = sizes.get(top, 0) + file.stat().st_size
    if sum(sizes.values()) > LARGEST:
        largest = max(sizes, key=lambda name: sizes[name])
        raise UserError(
            f"The project's files beside its tables are too large to travel to executors ({sum(sizes.values()):,} "
            f"bytes, of which {largest} has {sizes[largest]:,}); move what is not code out of the project's folder."
        )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as written:
        for file in files:
            entry = zipfile.ZipInfo(file.relative_to(root).as_posix())
            entry.compress_type = zipfile.ZIP_DEFLATED
            written.writestr(entry, file.read_bytes())
    return buffer.getvalue()


def _files(folder: Path, top: bool = True) -> Iterator[Path]:
    for found in folder.iterdir():
        if found.name.startswith(".") or found.name == "__pycache__" or (top and found.name in SHARED):
            continue
        if found.is_dir():
            if not (found / "pyvenv.cfg").exists():
                yield from _files(found, top=False)
        elif found.is_file():
            yield found


@cache
def packages() -> dict[str, str]:
    """What results may depend on: the version of Python, of this package's code, and of all that it requires."""
    root = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    found = {"Python": ".".join(map(str, sys.version_info[:2])), "weakfish": digest.hexdigest()[:12]}
    for required in requires("weakfish") or ():
        name = required.partition(";")[0].strip()
        for end in "[<>=!~ (":
            name = name.partition(end)[0]
        if "extra ==" in required and "pipeline" not in required:
            continue
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


# --- On an executor --------------------------------------------------------------------------------------------------


_at_work = threading.Lock()
"""Some engines work on several tasks in threads of one process, which has one project and one state."""

_loaded: Path | None = None
"""The folder from which this process has imported a team's modules."""


def _work(whole: SparkJob, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The receipts of some items; what the work refuses with a sentence is not tried again."""
    for batch in batches:
        for place in batch.column(0).to_pylist():
            receipt, error = None, None
            try:
                with _at_work:
                    receipt = answered(whole, place)
            except WeakfishError as raised:
                error = json.dumps({"kind": type(raised).__name__, "message": str(raised)})
                if whole.receipts.is_dir():
                    with whole_file(whole.receipts / f"{place}{REFUSED}") as part:
                        part.write_text(error, encoding="utf-8")
            yield pa.RecordBatch.from_arrays(
                [pa.array([value], field.type) for value, field in zip((place, receipt, error), RECEIPT, strict=True)],
                schema=RECEIPT,
            )


def answered(whole: SparkJob, place: int) -> str:
    """The receipt of an item, as JSON; raises `WeakfishError` where this is not the place to work on it."""
    if differing := _differing(whole.packages):
        raise WeakfishError(
            f"The executors on {socket.gethostname()} differ from this machine: {differing}; install the same "
            "requirements.lock there, and restart them."
        )
    if whole.storage:
        return _carried(whole, place, whole.storage)
    if not whole.receipts.is_dir():
        raise WeakfishError(
            f"The executors on {socket.gethostname()} do not see {whole.job.root}, where the project's tables lie; "
            "mount it there under the same path, or set a storage (docs/scale.md)."
        )
    root = _unpacked(whole)
    _load_from(root)
    receipt = worker.answer(replace(whole.job, root=root), whole.items[place])
    with whole_file(whole.receipts / str(place)) as part:
        part.write_text(receipt, encoding="utf-8")
    return receipt


def _carried(whole: SparkJob, place: int, uri: str) -> str:
    """The receipt of an item whose files travel, with where those lie that its work has written."""
    os.environ[VARIABLE] = uri
    root = _unpacked(whole)
    storage = storage_of(root)
    if storage is None:
        raise WeakfishError(f"Executors have no storage at {uri}; this is a defect of Weakfish.")
    carrier = Carrier(storage, whole.job.id)
    _load_from(root)
    emptied(root)
    carrier.unpack(root, whole.places[place])
    before = files_of(root)
    receipt = worker.answer(replace(whole.job, root=root), whole.items[place])
    return json.dumps({"receipt": receipt, "files": carrier.leave(root, before)})


def _differing(theirs: Mapping[str, str]) -> str:
    mine = packages()
    names = [name for name in {**theirs, **mine} if theirs.get(name) != mine.get(name)]
    return ", ".join(
        f"{name} is {mine.get(name, 'absent')} there and {theirs.get(name, 'absent')} here" for name in names
    )


def _unpacked(whole: SparkJob) -> Path:
    """The team's folders of a job on this machine, with the shared ones beside them.

    Where files travel, each process has a folder of its own, so that it can tell what its work has written; they share
    the partitions that they fetched.
    """
    home = Path(tempfile.gettempdir()) / f"weakfish-fleet-{os.getuid()}"
    home.mkdir(mode=0o700, exist_ok=True)
    if home.lstat().st_uid != os.getuid() or home.is_symlink():
        raise WeakfishError(f"{home} on {socket.gethostname()} belongs to another user; remove it there.")
    sweep(home)
    digest = hashlib.sha256(f"{whole.job.root}\0{whole.storage}\0".encode() + whole.code).hexdigest()[:24]
    root = home / (f"job-{os.getpid()}-{digest}" if whole.storage else digest)
    if not root.is_dir():
        with part_folder(root) as part:
            with zipfile.ZipFile(io.BytesIO(whole.code)) as packed:
                packed.extractall(part)
            for name in SHARED:
                if whole.storage:
                    (part / name).mkdir()
                else:
                    (part / name).symlink_to(whole.job.root / name, target_is_directory=True)
            if whole.storage:
                (home / "objects").mkdir(exist_ok=True)
                (part / OBJECTS).symlink_to(home / "objects", target_is_directory=True)
            with suppress(OSError):  # another process was first
                part.rename(root)
    return root


def _load_from(root: Path) -> None:
    """Let go of modules that this process imported for another state of a project."""
    global _loaded
    if _loaded in (None, root):
        _loaded = root
        return
    worker.end()
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and Path(file).is_relative_to(_loaded):
            del sys.modules[name]
    sys.path[:] = [entry for entry in sys.path if entry != str(_loaded)]
    importlib.invalidate_caches()
    _loaded = root
