"""What the server answers: features from a snapshot of the registry, which is replaced whenever that changes.

Values, statuses and order are the online store's (`weakfish.feast.reader`), which computes on-demand views by Feast's
own function; here they get the form of Feast's JSON.
"""

from __future__ import annotations

import hmac
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from weakfish.feast.adapter import online_store

import orjson
import redis
from feast import FeatureService, FeatureStore, errors
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus

from weakfish.errors import StoreError, UnknownName, WeakfishError
from weakfish.feast import probe, server
from weakfish.feast.clients import ERRORS, explained
from weakfish.feast.decoding import ZERO, Answer, AnswerColumn, rfc3339
from weakfish.feast.online import ProjectRedisOnlineStore
from weakfish.feast.read_plan import ReadPlan, RequestInputs
from weakfish.feast.registry import open_store
from weakfish.feast.serving import metrics
from weakfish.feast.serving.application import JSON, Refusal, Reply, Say, ServeSettings
from weakfish.feast.serving.questions import FeatureRequest, checked, document, parse, shortened
from weakfish.project.paths import Project

NAMES: dict[int, str] = {number: name for name, number in FieldStatus.items()}
SECOND = 1_000_000_000
OTHER = "other"


class FeatureServer:
    """The paths of the server, answered from the snapshot that its watcher keeps current."""

    def __init__(self, project: Project, settings: ServeSettings, say: Say) -> None:
        self.settings, self.say = settings, say
        self.watcher = Watcher(project, settings, say)
        self.bearer = b"Bearer " + settings.token if settings.token else None
        self.paths: dict[str, tuple[str, Callable[[bytes], Reply]]] = {
            "/get-online-features": ("POST", self._features),
            "/health": ("GET", self._health),
            "/metrics": ("GET", lambda _: Reply(200, metrics.page(), metrics.CONTENT_TYPE)),
            "/openapi.json": ("GET", self._openapi),
        }
        self.start, self.stop = self.watcher.start, self.watcher.stop

    def check(self, method: str, path: str, headers: Mapping[bytes, bytes]) -> None:
        """Refuse a request by its head; raises `Refusal`."""
        taken, _ = self.paths.get(path, ("", None))
        shown = headers.get(b"authorization", b"")
        if self.bearer and path != "/health" and not hmac.compare_digest(shown, self.bearer):
            raise Refusal(401, "The token is missing or wrong.", (("WWW-Authenticate", "Bearer"),))
        if not taken:
            raise Refusal(404, f"There is nothing here; there are {', '.join(self.paths)}.")
        if method != taken:
            raise Refusal(405, f"This path takes {taken} alone.", (("Allow", taken),))
        if method == "POST" and not _is_json(headers.get(b"content-type", b"")):
            raise Refusal(415, f"The body must be declared as JSON, by the header Content-Type: {JSON}.")

    def reply(self, path: str, body: bytes) -> Reply:
        """The answer to a request that was checked, counted."""
        try:
            reply = self.paths[path][1](body)
        except Refusal as refusal:
            if refusal.status == 500:
                self._tell(refusal.sentence, refusal.__cause__ or refusal)
            return self.refused(path, refusal)
        except Exception as error:
            self._tell(f"A request failed: {type(error).__name__}.", error)
            return self.refused(path, Refusal(500, "The server could not answer this request; its log says why."))
        metrics.answered(path, reply.status)
        return reply

    def refused(self, path: str, refusal: Refusal) -> Reply:
        """The answer that says what is wrong, counted; paths that do not exist are counted together."""
        metrics.answered(path if path in self.paths else OTHER, refusal.status)
        return Reply(refusal.status, orjson.dumps({"detail": refusal.sentence}), headers=refusal.headers)

    def _features(self, body: bytes) -> Reply:
        began = time.perf_counter()
        question = parse(body, self.settings.max_entities)
        if self.watcher.lost:
            raise _lost()
        try:
            answer = features(self.watcher.snapshot, question)
        except ERRORS as error:
            self.watcher.check_now()
            raise _lost() from error
        metrics.took(question.feature_service or "", time.perf_counter() - began)
        return Reply(200, answer)

    def _health(self, body: bytes) -> Reply:
        if self.watcher.lost:
            raise _lost()
        return Reply(200, b"")

    def _openapi(self, body: bytes) -> Reply:
        inputs = self.watcher.snapshot.inputs()
        return Reply(200, document(inputs, self.settings.max_entities, self.bearer is not None))

    def _tell(self, sentence: str, error: BaseException) -> None:
        """Tell the operator what should not happen; with --debug, where."""
        self.say(sentence)
        if "--debug" in sys.argv:
            traceback.print_exception(error)


def _lost() -> Refusal:
    return Refusal(503, "The online store does not answer; try again in a moment.", (("Retry-After", "1"),))


def _is_json(content_type: bytes) -> bool:
    """Whether a content type is JSON, as Feast's server sees it."""
    kind = content_type.partition(b";")[0].strip().lower()
    return kind == b"application/json" or (kind.startswith(b"application/") and kind.endswith(b"+json"))


def features(snapshot: Snapshot, question: FeatureRequest) -> bytes:
    """The body of the answer to a question.

    Raises
    ------
    Refusal
        When there is no such service or feature, the entities are not what it needs, or Feast cannot answer.
    redis.RedisError
        When the store cannot be read.
    """
    try:
        plan = snapshot.plan(question)
    except UnknownName as error:
        raise Refusal(404, shortened(str(error))) from None
    except (errors.FeastObjectNotFoundException, KeyError) as error:
        raise Refusal(404, _sentence(error)) from None
    except (errors.FeastError, ValueError) as error:
        raise Refusal(422, _sentence(error)) from None
    columns = checked(plan.inputs, question.entities)
    try:
        answer = snapshot.answer(plan, columns)
    except ERRORS:
        raise
    except Exception as error:
        sentence = "The features could not be read; the server's log says why."
        if plan.on_demand:
            names = ", ".join(sorted(view.name for view in plan.on_demand))
            sentence = f"The on-demand views ({names}) could not be computed: {type(error).__name__}."
        raise Refusal(500, shortened(sentence)) from error
    _count(snapshot, answer)
    return _json(answer)


def _sentence(error: Exception) -> str:
    """What Feast says, as one sentence."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return shortened(" ".join(text.split()).rstrip(".") + ".")


def _json(answer: Answer) -> bytes:
    """The body; columns of one view share what they say of its rows, which is written out once."""
    said: dict[int, list[str]] = {}

    def texts(items: list[Any], text: Callable[[Any], str]) -> list[str]:
        found = said.get(id(items))
        if found is None:
            found = said[id(items)] = list(map(text, items))
        return found

    about: dict[str, Any] = {"feature_names": answer.names}
    if answer.versions:
        about["feature_view_metadata"] = [
            {"name": name, "version": version} if version else {"name": name} for name, version in answer.versions
        ]
    results = [
        {
            "values": column.values,
            "statuses": texts(column.statuses, NAMES.__getitem__),
            "event_timestamps": texts(column.times, _rfc3339),
        }
        for column in answer.columns
    ]
    return orjson.dumps({"results": results, "metadata": about})


_rfc3339 = lru_cache(maxsize=10_000)(rfc3339)


def _count(snapshot: Snapshot, answer: Answer) -> None:
    """Tell the metrics what was read of each view."""
    read: dict[str, AnswerColumn] = {column.view: column for column in answer.columns if column.view is not None}
    if not read:
        return
    now = snapshot.now()
    for view, column in read.items():
        times = [time for time in column.times if time != ZERO]
        seconds, nanos = min(times, default=ZERO)
        age = (now - seconds * SECOND - nanos) / SECOND if times else None
        missing = column.statuses.count(FieldStatus.NOT_FOUND)
        too_old = column.statuses.count(FieldStatus.OUTSIDE_MAX_AGE)
        metrics.read(view, len(column.statuses), missing, too_old, age)


Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class Snapshot:
    """Feast's store on a registry that is read once, its feature services by name, and the stamp of the file."""

    store: FeatureStore
    online: ProjectRedisOnlineStore
    services: dict[str, FeatureService]
    stamp: Stamp | None

    @classmethod
    def load(cls, project: Project) -> Snapshot:
        """What the registry says now.

        Raises
        ------
        StoreError
            When there is none, Feast cannot read it, it is empty, or the online store is not the project's.
        """
        file = probe.settings(project)["registry_file"]
        stamp = _stamp(file)  # before the file is read, so that no later one is missed
        store = open_store(project, online_only=True)
        services = store.registry.list_feature_services(store.project, allow_cache=True)
        if not store.registry.list_feature_views(store.project, allow_cache=True):
            # Feast leaves it so for a moment when it makes a new one
            raise StoreError(f"{file} holds no feature view; run `weakfish publish`.")
        online = online_store(store)
        if not isinstance(online, ProjectRedisOnlineStore):
            raise StoreError(
                f"{probe.repository(project)}/feature_store.yaml names the online store {type(online).__name__}, which "
                "`weakfish serve` cannot read; use `feast serve`, or the store that docs/store.md names."
            )
        found = cls(store, online, {str(service.name): service for service in services}, stamp)
        for name in found.services:  # so that the first request is fast
            found._inputs(name, False)
            found._inputs(name, True)
        return found

    def inputs(self) -> dict[str, RequestInputs | None]:
        """What the entities of each feature service must hold; None for one that Feast cannot serve."""
        return {name: self._inputs(name, True) for name in self.services}

    def _inputs(self, name: str, full: bool) -> RequestInputs | None:
        try:
            return self.plan(FeatureRequest(entities={}, feature_service=name, full_feature_names=full)).inputs
        except Exception:  # a client that asks for it is told
            return None

    def plan(self, question: FeatureRequest) -> ReadPlan:
        """What reading the features that a question names needs.

        Raises
        ------
        UnknownName
            When there is no such feature service.
        feast.errors.FeastError, KeyError, ValueError
            When Feast knows no such feature or view, or cannot serve it so.
        """
        name = question.feature_service
        if name and name not in self.services:
            raise UnknownName("feature service", name, self.services, "the registry")
        asked_for = self.services[name] if name else list(question.features)
        full, versioned = question.full_feature_names, question.include_feature_view_version_metadata
        reader = self.online.reader(self.store.config)
        plan = reader.plan(self.store.registry, self.store.project, asked_for, full, versioned)
        for view in plan.label_views:
            raise ValueError(f"{view} holds labels, which are never served; read them offline")
        return plan

    def answer(self, plan: ReadPlan, columns: Mapping[str, Any]) -> Answer:
        """Features of entities; raises `redis.RedisError`."""
        config = self.store.config
        return self.online.exchange(config).run(self.online.reader(config).answer(plan, columns))

    def now(self) -> int:
        """The time that the store answers for, in nanoseconds since 1970."""
        config = self.store.config
        return self.online.exchange(config).run(self.online.reader(config).clock.reading())


def _stamp(file: Path) -> Stamp | None:
    """What changes whenever a file does; None when it does not exist."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


CHECK_SECONDS = 0.5


class Watcher:
    """Keeps the snapshot current, and knows whether the store behind it answers; says so when either changes."""

    def __init__(self, project: Project, settings: ServeSettings, say: Say) -> None:
        self.project, self.settings, self.say = project, settings, say
        self.lost = False
        self.snapshot = Snapshot.load(project)
        self._refused: Stamp | None = None
        self._registry: Path = probe.settings(project)["registry_file"]
        self._address = server.resolve(project)
        self._client: redis.Redis | None = None
        self._wake, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self._check_store()

    def start(self) -> None:
        """Begin to look after the store and the registry."""
        self._thread.start()

    def stop(self) -> None:
        """End that, and the connections."""
        self._over.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._client is not None:
            self._client.close()

    def check_now(self) -> None:
        """Look at the store at once: a request failed on it."""
        self._wake.set()

    def _watch(self) -> None:
        while not self._over.is_set():
            self._wake.wait(CHECK_SECONDS)
            self._wake.clear()
            self._check_store()
            self._check_registry()

    def _check_store(self) -> None:
        try:
            with explained(self._address):
                if self._client is None:
                    self._client = self._address.within(self.settings.store_seconds).client()
                    self.snapshot.online.use(self._client)
                self._client.ping()
        except WeakfishError as error:
            if not self.lost:
                self.say(f"{error} Requests get 503 until it is back.")
            self.lost = True
            self._follow_embedded_server()
        else:
            if self.lost:
                self.say(f"The online store at {self._address} is back.")
            self.lost = False

    def _follow_embedded_server(self) -> None:
        """One that was started anew can have another port."""
        found = server.running(self.project) if self._address.embedded else None
        if found is not None and found.address != self._address:
            self._address, self._client = found.address, None

    def _check_registry(self) -> None:
        stamp = _stamp(self._registry)
        if stamp is None or stamp in (self.snapshot.stamp, self._refused):
            return
        try:
            found = Snapshot.load(self.project)
        except WeakfishError as error:
            self._refused = stamp
            self.say(f"{error} The registry that was there before is served on.")
            return
        found.online.use(self._client)
        self.snapshot, self._refused = found, None
        metrics.reloaded()
        self.say(f"A new registry is served: {', '.join(sorted(found.services)) or 'no feature service'}.")
