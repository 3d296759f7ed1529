"""Files of kinds that nobody expects: folders, links, pipes, and bytes that are no text."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path


def fifo(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def listening(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path may have 108 bytes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)
    os.chdir(here)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


ODD: dict[str, tuple[Callable[[Path], None], str]] = {
    "a pipe": (fifo, "is a named pipe, not a file"),
    "a folder": (folder, "is a folder, not a file"),
    "a dangling link": (dangling, "is a link to nowhere, which does not exist, not a file"),
    "a link to itself": (loop, "is a link to itself, not a file"),
    "a socket": (listening, "is a socket, not a file"),
    "a device": (device, "is a device, not a file"),
}
