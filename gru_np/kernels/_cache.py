"""Compiled kernels on disk: one file for each kernel and kinds of arguments.

A file is code that will run, so it is taken from a folder and of an owner that can be trusted only,
and whole: it begins with a hash of all the rest. Whatever is damaged, missing or stale is compiled
again and replaced; a place that cannot be used costs time and one sentence, never a call.
"""

import contextlib
import hashlib
import os
import pickle
import stat
import sys
import uuid
from functools import cache
from pathlib import Path

import llvmlite
import numba
from numba.core import compiler, config
from numba.core.caching import NullCache
from numba.core.serialize import dumps

from gru_np._console import remark

HERE = Path(__file__).resolve().parent


@cache
def folders():
    """Folders that may hold compiled kernels, the preferred one first.

    NUMBA_CACHE_DIR, if it is set, or else `__pycache__` beside the sources; then one of the user's.
    """
    # one folder for each installation: what has other sources is stale, not somebody else's
    name = f"gru_np-{hashlib.sha256(os.fsencode(HERE)).hexdigest()[:12]}"
    first = Path(config.CACHE_DIR) / name if config.CACHE_DIR else HERE / "__pycache__"
    found = []
    for folder in (first, *(place / name for place in _of_user())):
        # what root compiles into an image serves its users; what is the user's own is nobody else's
        fault = _made_safe(folder, 0o755 if folder is first else 0o700)
        if not fault:
            found.append(folder)
        elif folder is first and config.CACHE_DIR:
            say(
                f"NUMBA_CACHE_DIR={config.CACHE_DIR} is not used for compiled kernels: {fault}; "
                "give a folder that nobody but you can write to"
            )
    return found


def _of_user():
    """The user's own folder for caches, if there is one."""
    try:
        if sys.platform == "win32":
            return [Path(os.environ["LOCALAPPDATA"])]
        if sys.platform == "darwin":
            return [Path.home() / "Library" / "Caches"]
        given = os.environ.get("XDG_CACHE_HOME", "")
        return [Path(given) if os.path.isabs(given) else Path.home() / ".cache"]
    except (KeyError, RuntimeError):  # no such variable, no home
        return []


def _made_safe(folder, mode):
    """Make the folder if it is not there; say what is wrong with it, or ""."""
    try:
        folder.mkdir(mode, parents=True, exist_ok=True)
        place = folder.resolve()
        fault = _fault(place.stat(), place, 0o022)
        for above in place.parents:
            # a sticky folder, like /tmp, lets nobody move what is another's
            info = above.stat()
            if not fault and info.st_mode & 0o002 and not info.st_mode & stat.S_ISVTX:
                fault = f"others can write to {above}"
        return fault
    except OSError as error:
        return str(error)


def _fault(info, what, others):
    """What is wrong with a file or folder that is to be trusted, or ""."""
    if os.name != "posix":  # elsewhere these numbers mean nothing
        return ""
    if info.st_uid not in (0, os.geteuid()):
        return f"{what} belongs to another user"
    return f"others can write to {what}" if info.st_mode & others else ""


@cache
def say(sentence):
    """Say a sentence once in a process."""
    remark(f"gru_np: {sentence}")


class Kept(NullCache):
    """What numba asks for the compiled forms of one function, and gives them to."""

    def __init__(self, function, sources):
        self.name = f"{Path(function.__code__.co_filename).stem}.{function.__qualname__}"
        self.name = self.name.replace("<", "").replace(">", "")
        self.sources = f"{sources:016x}"

    @property
    def cache_path(self):
        """Where new ones go."""
        return next((str(folder) for folder in folders() if os.access(folder, os.W_OK)), None)

    def _key(self, signature, codegen):
        """All that the compiled form depends on."""
        versions = sys.version, numba.__version__, llvmlite.__version__
        settings = config.OPT, config.BOUNDSCHECK, codegen.magic_tuple()
        return repr((self.name, self.sources, signature, versions, settings)).encode()

    def _file_name(self, key):
        return f"{self.name}.{self.sources}.{hashlib.sha256(key).hexdigest()[:16]}.kernel"

    def load_overload(self, sig, target_context):
        """Give the compiled form for a signature, or None."""
        target_context.refresh()
        key = self._key(sig, target_context.codegen())
        for folder in folders():
            payload = _read(folder / self._file_name(key), key)
            if payload is not None:
                with contextlib.suppress(Exception):  # whatever it is, compiling mends it
                    return compiler.CompileResult._rebuild(target_context, *pickle.loads(payload))
        return None

    def save_overload(self, sig, cres):
        """Keep a compiled form if there is a place for it."""
        if cres.library.has_dynamic_globals:  # addresses of this process
            return
        folder = self.cache_path
        if folder is None:
            say(
                "no folder can be used to keep compiled kernels, so they are compiled anew by "
                "every process; set NUMBA_CACHE_DIR to a folder that nobody but you can write to"
            )
            return
        key = self._key(sig, cres.codegen)
        try:
            _write(Path(folder) / self._file_name(key), key, dumps(cres._reduce()))
            for file in Path(folder).glob(f"{self.name}.*.kernel"):
                if file.name.split(".")[-3] != self.sources:
                    file.unlink(missing_ok=True)
        except OSError as error:
            say(
                f"compiled kernels cannot be kept in {folder} ({error.strerror}), so they are "
                "compiled anew by every process"
            )


def _read(path, key):
    """What `_write` wrote, or None: not there, not to be trusted, not whole, not of this key."""
    try:
        with open(path, "rb") as file:
            if _fault(os.fstat(file.fileno()), path, 0o022):
                return None
            content = file.read()
    except OSError:
        return None
    digest, payload = content[:32], content[32:]
    return payload if digest == hashlib.sha256(key + payload).digest() else None


def _write(path, key, payload):
    """Replace a file as a whole."""
    new = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    descriptor = os.open(
        new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0), 0o644
    )
    try:
        with open(descriptor, "wb") as file:
            file.write(hashlib.sha256(key + payload).digest() + payload)
        os.replace(new, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise
