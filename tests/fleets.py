"""Engines for tests: processes of this machine, Spark with executors of their own, and Spark Connect servers."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pyspark
from listening import listening
from machine import program
from projects import REPOSITORY

CLUSTER = {"WEAKFISH_ENGINE": "spark", "SPARK_MASTER": "local-cluster[2,1,1024]", "SPARK_LOCAL_IP": "127.0.0.1"}
"""Two executors, each a process of its own."""

LOCAL = {"WEAKFISH_ENGINE": "local"}

SECONDS_TO_START = 90.0

SAIL = REPOSITORY / ".venv/sail"
"""Where `make test-spark` puts Sail, which speaks Spark Connect, and the client that it knows."""


def require_java() -> None:
    """Leave the test out where there is no Java, which classic masters need, too."""
    program("default-jre-headless", "java")


@contextmanager
def connect_server(folder: Path, master: str = CLUSTER["SPARK_MASTER"]) -> Iterator[dict[str, str]]:
    """A Spark Connect server on a free port of loopback; yields the environment that names it."""
    require_java()
    home = Path(pyspark.__file__).parent

    def command(port: int) -> list[str | Path]:
        settings = {
            "spark.master": master,
            "spark.connect.grpc.binding.address": "127.0.0.1",
            "spark.connect.grpc.binding.port": str(port),
            "spark.driver.host": "127.0.0.1",
            "spark.ui.enabled": "false",
        }
        given = [word for name, value in settings.items() for word in ("--conf", f"{name}={value}")]
        environment = (f"SPARK_HOME={home}", f"PYSPARK_PYTHON={sys.executable}", "SPARK_LOCAL_IP=127.0.0.1")
        what = ("--class", "org.apache.spark.sql.connect.service.SparkConnectServer")
        return ["env", "-C", folder, *environment, home / "bin/spark-submit", *what, *given, "spark-internal"]

    with listening(command, folder, seconds=SECONDS_TO_START) as (_, port):
        yield {"WEAKFISH_ENGINE": "spark", "SPARK_REMOTE": f"sc://127.0.0.1:{port}"}


@contextmanager
def sail_server(folder: Path) -> Iterator[dict[str, str]]:
    """A server of Sail on a free port of loopback; yields the environment that names it."""

    def command(port: int) -> list[str | Path]:
        return ["env", f"PYTHONPATH={SAIL}", SAIL / "bin/sail", "spark", "server", "--port", str(port)]

    with listening(command, folder) as (_, port):
        deadline = time.monotonic() + SECONDS_TO_START
        while time.monotonic() < deadline:  # it says so a moment before it listens
            with suppress(OSError), closing(socket.create_connection(("127.0.0.1", port), 1)):
                break
            time.sleep(0.1)
        yield {"PYTHONPATH": str(SAIL), "WEAKFISH_ENGINE": "spark", "SPARK_REMOTE": f"sc://127.0.0.1:{port}"}
