"""Starts PostgreSQL on a free loopback port, with a password, as a user that is not root; and ends it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import machine
from listening import listening

PASSWORD = "tell/no one"
USER = "nobody" if os.getuid() == 0 else None
"""Who runs the server: it refuses root."""


@contextlib.contextmanager
def postgres(user: str = "reader") -> Iterator[str]:
    """The address of a server, without the password, which is `PASSWORD`."""
    initdb = Path(machine.program("postgresql", "initdb", *map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb"))))
    folder = Path(tempfile.mkdtemp())  # pytest's own folders are closed to others
    try:
        secret, data = folder / "secret", folder / "data"
        secret.write_text(PASSWORD)
        data.mkdir(mode=0o700)
        for path in (folder, secret, data) if USER else ():
            shutil.chown(path, USER)
        made = [initdb, "-D", data, "-U", user, "-A", "scram-sha-256", f"--pwfile={secret}", "-E", "UTF8", "--no-sync"]
        subprocess.run(made, check=True, capture_output=True, user=USER, cwd=folder)
        server = initdb.resolve().with_name("postgres")
        with listening(lambda port: [server, "-D", data, "-p", str(port), "-k", folder], folder, user=USER) as (
            _,
            port,
        ):
            yield f"127.0.0.1:{port}/postgres"
    finally:
        shutil.rmtree(folder)
