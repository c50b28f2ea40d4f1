"""Text to learn from: your own files, and the one that every Python brings along."""

import hashlib
import os
import platform
import sysconfig
import tokenize
from pathlib import Path
from typing import NamedTuple

from gru_np._files import read_input

# Top-level modules of the standard library that are one file of readable code or prose: no tables
# (encodings, locale, opcode), no stubs, none removed by Python 3.14. A module that is missing, or
# has become a package, is skipped.
PYTHON_MODULES = (
    "_collections_abc", "_pydatetime", "_pydecimal", "_pyio", "_strptime", "_threading_local",
    "_weakrefset", "abc", "argparse", "ast", "base64", "bdb", "bisect", "bz2", "calendar", "cmd",
    "code", "codecs", "codeop", "colorsys", "compileall", "configparser", "contextlib", "copy",
    "copyreg", "csv", "dataclasses", "datetime", "difflib", "dis", "doctest", "enum", "filecmp",
    "fileinput", "fnmatch", "fractions", "ftplib", "functools", "getopt", "getpass", "gettext",
    "glob", "graphlib", "gzip", "hashlib", "heapq", "hmac", "imaplib", "inspect", "io", "ipaddress",
    "linecache", "lzma", "mailbox", "modulefinder", "netrc", "ntpath", "numbers", "operator",
    "optparse", "os", "pathlib", "pdb", "pickle", "pickletools", "pkgutil", "platform", "plistlib",
    "poplib", "posixpath", "pprint", "profile", "pstats", "pty", "py_compile", "pyclbr", "pydoc",
    "queue", "quopri", "random", "reprlib", "rlcompleter", "runpy", "sched", "secrets", "selectors",
    "shelve", "shlex", "shutil", "site", "smtplib", "socket", "socketserver", "ssl", "statistics",
    "string", "subprocess", "symtable", "sysconfig", "tabnanny", "tarfile", "tempfile", "textwrap",
    "threading", "timeit", "tokenize", "trace", "traceback", "tracemalloc", "turtle", "types",
    "typing", "uuid", "warnings", "wave", "weakref", "webbrowser", "zipapp", "zipfile", "zipimport",
)  # fmt: skip

# Fewer characters of source than this (a stripped installation) teach less than pydoc's topics do.
ENOUGH = 500_000


class Corpus(NamedTuple):
    """A text to learn from, and one that was kept apart."""

    train: str
    validation: str
    description: str


def read_text(path: str | os.PathLike[str]) -> str:
    r"""Read a UTF-8 text file, or say in one sentence why it cannot be learned from.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    str
        At least two characters; line ends are "\n", a byte order mark is dropped.

    Raises
    ------
    FileNotFoundError, IsADirectoryError, OSError
        If the file cannot be read.
    ValueError
        If it is a device, a pipe that nobody writes to, or larger than 2 GiB; if it is empty,
        holds a single character, or is not text: a NUL byte, or bytes that are not UTF-8, with the
        offset.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from gru_np import text
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "a.txt")
    ...     _ = path.write_bytes("naïve\r\n".encode())
    ...     text.read_text(path)
    'naïve\n'
    """
    name = os.fspath(path)
    data = read_input(path)
    if not data:
        raise ValueError(f"{name}: the file is empty; a text of at least two characters is needed")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError(f"{name}: this looks like UTF-16; save it as UTF-8")
    if (nul := data.find(b"\0")) >= 0:
        raise ValueError(f"{name}: not a text file, there is a NUL byte at offset {nul}")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{name}: not UTF-8 text, byte 0x{data[error.start]:02x} at offset {error.start} "
            f"cannot be decoded ({error.reason})"
        ) from None
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    if len(text) < 2:
        held = "a single character" if text else "nothing but a byte order mark"
        raise ValueError(f"{name}: the file holds {held}; a text of at least two is needed")
    return text


def python_corpus() -> Corpus:
    """Source of the Python standard library on this machine, as a text to learn from.

    The modules are a fixed, sorted list; about a tenth, chosen by a hash of their names, are held
    out. So every machine with the same Python learns from the same text and is judged by the same.

    Returns
    -------
    Corpus
        `(train, validation, description)`. Where the sources are absent (frozen or zipped
        installations), the texts of `pydoc_data.topics`, which the description says.

    Raises
    ------
    FileNotFoundError
        If neither is there.

    Examples
    --------
    >>> from gru_np import text
    >>> train, validation, description = text.python_corpus()
    >>> len(validation) < len(train)
    True
    """
    python = f"Python {platform.python_version()}"
    modules = _modules(Path(sysconfig.get_path("stdlib")))
    if sum(map(len, modules.values())) >= ENOUGH:
        train, validation, held_out = _split(modules)
        size = len(train) + len(validation)
        return Corpus(
            train,
            validation,
            f"the source of {len(modules)} modules of the {python} standard library, "
            f"{size / 1e6:.1f} million characters; held out: {', '.join(held_out)}",
        )
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise FileNotFoundError(
            f"this {python} comes without the source of its standard library and without "
            "pydoc_data; give a text of your own"
        ) from None
    train, validation, held_out = _split(topics)
    size = len(train) + len(validation)
    return Corpus(
        train,
        validation,
        f"the {len(topics)} help topics of {python} (pydoc_data.topics), {size / 1e6:.1f} million "
        "characters, because this installation comes without the source of its standard library; "
        f"held out: {', '.join(held_out)}",
    )


def _modules(folder: Path) -> dict[str, str]:
    """Source of each module that is there."""
    sources = {}
    for name in PYTHON_MODULES:
        try:
            with tokenize.open(folder / f"{name}.py") as file:  # heeds a coding comment
                sources[name] = file.read()
        except (OSError, SyntaxError, UnicodeDecodeError):
            continue
    return sources


def is_held_out(name: str) -> bool:
    """Whether a text of this name is for validation: about one in ten, the same everywhere.

    Parameters
    ----------
    name : str

    Returns
    -------
    bool

    Examples
    --------
    >>> from gru_np.text.corpus import is_held_out
    >>> is_held_out("argparse"), is_held_out("heapq")
    (False, False)
    """
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % 10 == 0


def _split(texts: dict[str, str]) -> tuple[str, str, list[str]]:
    """Join what is to be learned and what is held out, each in the order of the names."""
    held_out = [name for name in sorted(texts) if is_held_out(name)]
    train = "\n".join(texts[name] for name in sorted(texts) if not is_held_out(name))
    return train, "\n".join(texts[name] for name in held_out), held_out
