"""Files that a user names, opened so that none of them blocks or never ends."""

import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from gru_np._replace import kind

LARGEST = 2**31  # bytes of a file that is taken into memory whole


def open_input(path: str | os.PathLike[str], largest: int | None = None) -> BinaryIO:
    """Open a file to be read once from its beginning, or say in one sentence why not.

    A pipe, as of a shell's `<(zcat book.gz)`, is read to its end here, up to `LARGEST` bytes; one
    that nobody writes to, a device, a directory, and a file of more than `largest` bytes are
    refused.
    """
    name = os.fspath(path)
    # Non-blocking: opening a pipe would wait for a writer, for ever.
    flags = ("O_BINARY", "O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC")
    try:
        file = os.open(name, os.O_RDONLY | sum(getattr(os, flag, 0) for flag in flags))
    except FileNotFoundError:
        raise FileNotFoundError(f"{name}: there is no such file") from None
    except OSError as error:
        if Path(name).is_dir():  # Windows reports a directory as a refused permission
            raise IsADirectoryError(f"{name}: this is a directory; name a file") from None
        raise type(error)(f"{name}: cannot be read: {error.strerror or error}") from None
    try:
        status = os.fstat(file)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(f"{name}: this is a directory; name a file")
        if stat.S_ISFIFO(status.st_mode):
            return io.BytesIO(_drain(name, file))
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{name}: expected a regular file, found {kind(status)}")
        if largest is not None and status.st_size > largest:
            raise ValueError(
                f"{name}: expected at most {largest:,} bytes, found {status.st_size:,}"
            )
        opened, file = os.fdopen(file, "rb"), -1
        return opened
    finally:
        if file >= 0:
            os.close(file)


def read_input(path: str | os.PathLike[str], largest: int = LARGEST) -> bytes:
    """Read a whole file, or say in one sentence why not; see `open_input`."""
    with open_input(path, largest) as file:
        try:
            # A file of the system, as below /proc, has no size until it is read. Asked for the
            # most it may hold, Python would take that much memory first.
            data = file.read() if _has_size(file) else b"".join(_blocks(file, largest))
        except OSError as error:
            reason = error.strerror or error
            raise type(error)(f"{os.fspath(path)}: cannot be read: {reason}") from None
    if len(data) > largest:
        raise ValueError(f"{os.fspath(path)}: expected at most {largest:,} bytes, found more")
    return data


def _blocks(file: BinaryIO, largest: int) -> Iterator[bytes]:
    """Yield what there is to read, until it is more than the largest size."""
    size = 0
    while size <= largest and (block := file.read(2**20)):
        size += len(block)
        yield block


def _has_size(file: BinaryIO) -> bool:
    return isinstance(file, io.BytesIO) or os.fstat(file.fileno()).st_size > 0


def _drain(name: str, file: int) -> bytes:
    """Read a pipe to its end."""
    try:
        data = os.read(file, 2**16)
    except BlockingIOError:  # somebody is about to write
        data = b""
    else:
        if not data:
            raise ValueError(f"{name}: this is a pipe that nobody writes to; name a file")
    os.set_blocking(file, True)
    blocks, size = [data], len(data)
    while size <= LARGEST and (data := os.read(file, 2**20)):
        blocks.append(data)
        size += len(data)
    if size > LARGEST:
        raise ValueError(f"{name}: expected at most {LARGEST:,} bytes from a pipe, found more")
    return b"".join(blocks)
