"""Engines for tests: processes of this machine, Spark with executors of their own, and a Spark Connect server."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyspark

CLUSTER = {"WEAKFISH_ENGINE": "spark", "SPARK_MASTER": "local-cluster[2,1,1024]", "SPARK_LOCAL_IP": "127.0.0.1"}
"""Two executors, each a process of its own."""

LOCAL = {"WEAKFISH_ENGINE": "local"}

SECONDS_TO_START = 90.0


@contextmanager
def connect_server(folder: Path, master: str = "local-cluster[2,1,1024]") -> Iterator[dict[str, str]]:
    """A Spark Connect server on a free port of loopback; yields the environment that names it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = Path(pyspark.__file__).parent
    submit = [str(home / "bin/spark-submit"), "--class", "org.apache.spark.sql.connect.service.SparkConnectServer"]
    settings = {
        "spark.master": master,
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": str(port),
        "spark.driver.host": "127.0.0.1",
        "spark.ui.enabled": "false",
    }
    for name, value in settings.items():
        submit += ["--conf", f"{name}={value}"]
    environment = {**os.environ, "SPARK_HOME": str(home), "PYSPARK_PYTHON": sys.executable}
    environment |= {"SPARK_LOCAL_IP": "127.0.0.1"}
    with (folder / "connect.log").open("wb") as log:
        server = subprocess.Popen([*submit, "spark-internal"], cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + SECONDS_TO_START
        while True:
            assert server.poll() is None, (folder / "connect.log").read_text()[-2000:]
            assert time.monotonic() < deadline, (folder / "connect.log").read_text()[-2000:]
            with socket.socket() as asked:
                if asked.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        yield {"WEAKFISH_ENGINE": "spark", "SPARK_REMOTE": f"sc://127.0.0.1:{port}"}
    finally:
        server.terminate()
        server.wait(30)
