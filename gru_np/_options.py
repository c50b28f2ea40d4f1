"""What the options of all commands share: their kinds, with bounds, and one sentence for an error.

A kind is what argparse calls a type: it takes the text of an argument, and gives its value or
raises ArgumentTypeError. `take_run` holds the settings of a run that is resumed to the same kinds.
"""

import argparse
import math
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

Kind = Callable[[str], Any]


class OptionError(ValueError):
    """The arguments are not those of the command."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence, raised as `OptionError`."""

    def error(self, message: str) -> NoReturn:
        """Raise the sentence, with the command before it."""
        message = re.sub(r"^argument (\S+): (?=must )", r"\1 ", message)
        raise OptionError(f"{self.prog}: {message}")

    def parse(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """Parse, by default what the process was given, or raise `OptionError`."""
        argv = sys.argv[1:] if argv is None else argv
        for argument in argv:
            # argparse before Python 3.13 takes `--prompt=--` for a prompt without a value.
            if argument.startswith("-") and argument.endswith("=--"):
                raise OptionError(f"{self.prog}: an option's value must not be --, got {argument}")
        args = self.parse_args(argv)
        _require_apart(f"{self.prog} {getattr(args, 'command', '')}".rstrip(), args)
        return args


def integer(least: int = 0, most: int = 2**31 - 1) -> Kind:
    """Give the kind of whole numbers between two bounds."""

    def kind(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be an integer, got {_short(text)}") from None
        if not least <= value <= most:
            bound = f"at least {least}" if value < least else f"at most {most:,}"
            raise argparse.ArgumentTypeError(f"must be {bound}, got {_short(text)}")
        return value

    return kind


def number(low: float, high: float = math.inf, open_: str = "") -> Kind:
    """Give the kind of finite numbers between two bounds; a bracket in `open_` excludes one."""

    def kind(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be a number, got {_short(text)}") from None
        above = value > low if "(" in open_ else value >= low
        below = value < high if ")" in open_ else value <= high
        if not (above and below and math.isfinite(value)):
            bounds = f"{'above' if '(' in open_ else 'at least'} {low:g}"
            bounds += " and finite" if high == math.inf else (
                f" and {'below' if ')' in open_ else 'at most'} {high:g}"
            )  # fmt: skip
            raise argparse.ArgumentTypeError(f"must be {bounds}, got {_short(text)}")
        return value

    return kind


seed = integer(0, 2**63 - 1)
size = integer(1, 2**16)  # of a layer
depth = integer(1, 100)  # layers
share = number(0, 1, "()")
rate = number(0, 1, ")")  # of dropout, of a momentum


class Source(str):
    """The kind of files to read."""


class Target(str):
    """The kind of files to write, of which nothing is known yet; see `output`."""


def output(text: str) -> Target:
    """Give the path of a file that can be written, or say now why not, rather than after hours."""
    try:
        reason = _no_output(text)
    except OSError as error:  # too long a name
        reason = f"be a path, got {_short(text)} ({error.strerror})"
    if reason:
        raise argparse.ArgumentTypeError(f"must {reason}")
    return Target(text)


PICTURES = (".eps", ".gif", ".jpeg", ".jpg", ".pdf", ".png", ".ps", ".svg", ".svgz", ".tif",
            ".tiff", ".webp")  # fmt: skip


def picture(text: str) -> Target:
    """Give the path of a picture that can be drawn and written."""
    path = output(text)
    if Path(path).suffix.lower() not in PICTURES:
        raise argparse.ArgumentTypeError(f"must end in .png, .pdf, .svg or the like, got {text}")
    return path


def _require_apart(who: str, args: argparse.Namespace) -> None:
    """Raise if a command would write over what it reads, or one of its files over another."""
    paths = [
        path
        for value in vars(args).values()
        for path in (value if isinstance(value, list) else [value])
        if isinstance(path, Source | Target)
    ]
    for path in (path for path in paths if isinstance(path, Target)):
        same = [other for other in paths if os.path.realpath(other) == os.path.realpath(path)]
        if len(same) > 1:
            read = any(isinstance(other, Source) for other in same)
            raise OptionError(
                f"{who}: a file to write must be no other of the command's files, got {path}, "
                f"{'which is read' if read else 'twice'}"
            )


def _no_output(text: str) -> str:
    """Say what is wrong with a path to write to, nothing if it is right."""
    if "\0" in text:
        return f"be a path, got {text!r}"
    path = Path(text)
    folder = path.absolute().parent
    if text.endswith(tuple(filter(None, (os.sep, os.altsep)))) or path.is_dir():
        return f"name a file, got the folder {text!r}"
    if not folder.is_dir():
        return f"be in a folder that exists, got {text}"
    if path.exists() and not path.is_file():
        return f"name a regular file, got {text}"
    if not os.access(path if path.exists() else folder, os.W_OK):
        return f"be a file that can be written, got {text}"
    return ""


def take_run(path: str, run: Any, kinds: Mapping[str, Any]) -> dict[str, Any]:
    """Give the settings that a model's file has of the run that made it, each of a known kind.

    `kinds` has for each name a kind, a value, or a tuple of alternatives. What a file says is data:
    no path is taken from it, and nothing that the command line would not have accepted.
    """
    if not isinstance(run, Mapping):
        raise ValueError(f"{path}: holds no settings of a run; another command left it")
    settings = {}
    for name, kind in kinds.items():
        value = run.get(name)
        if not any(_fits(value, one) for one in (kind if isinstance(kind, tuple) else (kind,))):
            raise ValueError(f"{path}: the run's setting {name} has no meaning, {_short(value)}")
        settings[name] = value
    return settings


def _fits(value: Any, kind: Any) -> bool:
    if not callable(kind):
        return type(value) is type(kind) and value == kind
    try:
        return type(value) in (int, float) and kind(repr(value)) == value
    except argparse.ArgumentTypeError:
        return False


def _short(value: Any) -> str:
    text = repr(value) if not isinstance(value, str) or not value.isascii() else value or "''"
    return text if len(text) <= 60 else f"{text[:57]}..."
