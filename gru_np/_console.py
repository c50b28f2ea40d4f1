r"""The one place that writes to the console.

A console may be absent (`sys.stdout is None`: a service, a program without a window), closed, gone
(its reader ended, its terminal was shut), full (a log on a full disk), or unable to write a
character (ASCII, cp1252). `show` is for what merely accompanies work, whose end must not depend on
any of that: it never raises. `deliver` is for what a command was run for. Neither loses a
character: one that the console cannot write is written as Python would, \u65e5.
"""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

_moving: list["MovingLine"] = []  # what is written goes above them


def show(text: str, stream: Any = None) -> None:
    """Write text to a stream, standard output if None, as far as that is possible."""
    with suppress(OSError):
        deliver(text, stream)


def deliver(text: str, stream: Any = None) -> None:
    """Write text to a stream, standard output if None, or raise OSError."""
    out = sys.stdout if stream is None else stream
    with _above_moving_lines():
        try:
            try:
                out.write(text)
            except UnicodeEncodeError as error:
                out.write(text.encode(error.encoding, "backslashreplace").decode(error.encoding))
            if hasattr(out, "flush"):
                out.flush()
        except (AttributeError, ValueError) as error:  # None; closed
            raise OSError(errno.EBADF, "there is no standard output to write to") from error


def say(line: str) -> None:
    """Write a line to standard output, as far as that is possible."""
    show(line + "\n")


def remark(line: str) -> None:
    """Write a line to standard error, as far as that is possible."""
    if sys.stderr is not None:
        show(line + "\n", sys.stderr)


def end() -> None:
    """Let the interpreter end quietly, whatever became of its streams."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # what is left in its buffer has nowhere to go
            with suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)
        except (AttributeError, ValueError):  # None; closed
            pass


def is_terminal(stream: Any = None) -> bool:
    """Answer whether a stream, standard output if None, is a terminal."""
    try:
        return bool((sys.stdout if stream is None else stream).isatty())
    except (AttributeError, ValueError, OSError):
        return False


class MovingLine:
    """A line with a bar that moves; nothing where there is no console, or no tqdm.

    With a delay it is shown after so many seconds, and on a terminal only.
    """

    def __init__(self, title: str, total: int, stream: Any, delay: float = 0):
        self._bar: Any = None
        if stream is None or (delay and not is_terminal(stream)):
            return
        try:
            from tqdm import tqdm
        except ImportError:
            return
        self._bar = tqdm(
            total=total, desc=title, file=_Patient(stream), leave=False, dynamic_ncols=True,
            delay=delay, bar_format="{desc} {percentage:3.0f}%|{bar:16}| {n_fmt}/{total_fmt} "
            "[{elapsed}<{remaining}] {postfix}",
        )  # fmt: skip
        _moving.append(self)

    def move_to(self, n: int) -> None:
        """Say that so much of the total is done."""
        if self._bar is not None:
            self._bar.update(n - self._bar.n)

    def describe(self, text: str, at_once: bool = False) -> None:
        """Show a text at the end of the line, when it moves next or now."""
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=at_once)

    def close(self) -> None:
        """Take the line away."""
        if self._bar is not None:
            _moving.remove(self)
            self._bar.close()
            self._bar = None


class _Patient:
    """A stream for tqdm, which raises what a stream raises."""

    def __init__(self, stream: Any):
        self._stream = stream
        self.encoding = getattr(stream, "encoding", None)  # decides how a bar is drawn

    def write(self, text: str) -> None:
        """Write as far as that is possible."""
        with suppress(OSError, AttributeError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        """Flush as far as that is possible."""
        with suppress(OSError, AttributeError, ValueError):
            self._stream.flush()

    def fileno(self) -> int:
        """Give the descriptor, by which tqdm finds the width of the terminal."""
        return int(self._stream.fileno())


@contextmanager
def _above_moving_lines() -> Iterator[None]:
    for line in _moving:
        line._bar.clear()
    try:
        yield
    finally:
        for line in _moving:
            line._bar.refresh()
