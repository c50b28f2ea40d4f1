"""The project's one way to compile a kernel: `inner` for callees, `entry` for what Python calls.

Only entries are cached on disk; what they call is compiled into them. numba's own cache would see a
change in the entry's file alone, ours (`_cache`) sees one in any kernel or equation source: change
one byte and all is compiled anew.
"""

import hashlib
import os
import time
from pathlib import Path

from numba import njit, types
from numba.core import event

from gru_np.kernels._cache import Kept


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
    dispatcher = njit(**OPTIONS)(function)
    if os.environ.get("GRU_NP_CACHE", "1") != "0":
        dispatcher._cache = Kept(function, DIGEST)
    return dispatcher
