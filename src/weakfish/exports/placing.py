"""Files to where a table lies, as copies: what DVC or a stage does to ours must not reach them."""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

from weakfish.errors import UserError
from weakfish.files import whole_file


def local_folder(address: str) -> Path | None:
    """The folder that an address means; None where it is that of an object store.

    Raises `UserError` for a ``file:`` address that names a host, or no absolute path.
    """
    parts = urlsplit(address)
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost") or not parts.path.strip("/") or not parts.path.startswith("/"):
            raise UserError(f"{address} names no folder of this machine; write it as file:///folder/below.")
        return Path(unquote(parts.path))
    return None if "://" in address else Path(address).absolute()


def place(file: Path, target: Path) -> None:
    """Copy a file there, whole or not at all, if it is not there yet: its name says what is in it."""
    if not target.exists():
        with whole_file(target) as part:
            shutil.copyfile(file, part)
