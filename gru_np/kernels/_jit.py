"""The project's one way to compile a kernel: `inner` for callees, `entry` for what Python calls.

numba caches a compiled function under its own bytecode and source file only; a change in a file it
draws on would go unseen. But it also looks at the values a function closes over. So every entry is
made to close over a digest of all kernel and equation sources: change one byte and it is compiled
anew. Only entries are cached; what they call is compiled into them.
"""

import hashlib
import os
import time
from pathlib import Path
from types import CellType, FunctionType

from numba import njit, types
from numba.core import event


def sources_digest() -> int:
    """Hash of every source file that compiled code may come from, as an integer."""
    folder = Path(__file__).parent
    files = [folder.parent / "equations.py", *sorted(folder.glob("*.py"))]
    hashed = hashlib.sha256()
    for file in files:
        hashed.update(file.name.encode() + b"\0")
        # without sources (a stripped install) the package is frozen, and so is its cache
        hashed.update(file.read_bytes() if file.exists() else b"")
    return int.from_bytes(hashed.digest()[:8], "little") >> 1


DIGEST = sources_digest()

# fastmath stays off: bits must not depend on how LLVM rearranges (see vector.py)
OPTIONS = {"error_model": "numpy", "nogil": True}


class _Clock(event.Listener):
    """How long numba has compiled in this process, in seconds; what comes from a cache is free."""

    def __init__(self):
        self.seconds, self.depth, self.began = 0.0, 0, 0.0

    def on_start(self, event):
        """One compilation may need another."""
        if self.depth == 0:
            self.began = time.perf_counter()
        self.depth += 1

    def on_end(self, event):
        """Count the outermost."""
        self.depth -= 1
        if self.depth == 0:
            self.seconds += time.perf_counter() - self.began


COMPILING = _Clock()
event.register("numba:compile", COMPILING)


def inner(function):
    """Compile a function that only compiled code calls, once per dtype."""
    dispatcher = njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **OPTIONS)(function)
    template = dispatcher.get_call_template

    def without_literals(args, kws):
        # numba would compile f(a, 0) and f(a, 1) separately, because 0 and 1 are literals
        return template(
            [types.unliteral(arg) for arg in args],
            {name: types.unliteral(arg) for name, arg in kws.items()},
        )

    dispatcher.get_call_template = without_literals
    return dispatcher


def entry(function):
    """Compile on first call for the dtype given; keep on disk where that is possible."""
    code = function.__code__
    closed = FunctionType(
        code.replace(co_freevars=(*code.co_freevars, "digest")),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        (*(function.__closure__ or ()), CellType(DIGEST)),
    )
    closed.__doc__, closed.__module__ = function.__doc__, function.__module__
    closed.__qualname__ = function.__qualname__
    if os.environ.get("GRU_NP_CACHE", "1") != "0":
        try:
            return njit(cache=True, **OPTIONS)(closed)
        except RuntimeError:  # no writable place for a cache: a read-only install without a home
            pass
    return njit(**OPTIONS)(closed)
