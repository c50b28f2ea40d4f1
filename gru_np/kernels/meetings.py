"""Threads that meet inside compiled code, at every time step if need be.

A team's meetings are an int64 array with one place for each part, on cache lines of their own: how
often that part has arrived. `arrive` says that what a part wrote before may be read; `wait` returns
when all the others have arrived as often. Between the two a part may do what concerns it alone.

Who waits looks again and again, for a wake-up by the system takes longer than most steps. It does
not soon offer its core to others, who would keep it so long that the team finds this part missing
next. A team that had to wait LONG and OFTEN, because its threads have no cores of their own, had
better be dissolved: the first part says when (`dissolve`), the others leave (`dissolved`), and it
goes on alone.

A part that has come to its end, or to an error, has arrived DONE times: nobody waits for it any
more.
"""

import os

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from gru_np.kernels._jit import entry, inner
from gru_np.kernels.matmul import address
from gru_np.kernels.vector import FEATURES, own_code

INT64 = ir.IntType(64)
# Elements between the places of two parts: two cache lines, because processors fetch them in pairs.
APART = 16
DONE = 2**62
# Looks, each some tens of nanoseconds, that make a long wait. From then on every look offers the
# core to others; at its end the first part leaves waiting to Python.
LONG = 50_000
OFTEN = 3
# Whether there is a way to offer the core.
POSSIBLE = os.name == "posix"


def _place(builder, place):
    return builder.inttoptr(place, INT64.as_pointer())


@intrinsic
def _tell(typingctx, place, value):
    """Write a number at an address; what was written before is to be seen before it."""

    def emit(context, builder, sig, args):
        builder.store_atomic(args[1], _place(builder, args[0]), "release", 8)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), emit


@intrinsic
def _told(typingctx, place):
    """Read a number at an address; what is read after it is at least as new."""

    def emit(context, builder, sig, args):
        return builder.load_atomic(_place(builder, args[0]), "acquire", 8, typ=INT64)

    return types.intp(types.intp), emit


@intrinsic
def _breathe(typingctx):
    """Tell the processor that this is a loop that waits."""

    def emit(context, builder, sig, args):
        if FEATURES & {"sse2"}:
            kind = ir.FunctionType(ir.VoidType(), [])
            pause = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause")
            builder.call(pause, [])
        return context.get_dummy_value()

    return types.void(), emit


@intrinsic
def _give_way(typingctx):
    """Offer the core to other threads."""

    def emit(context, builder, sig, args):
        if POSSIBLE:
            kind = ir.FunctionType(ir.IntType(32), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), emit


@inner
def arrive(meetings, part, parts):
    """Say that this part has come to the next meeting; `meetings` is the array's address."""
    own_code()
    if parts > 1:
        place = meetings + part * APART * 8
        _tell(place, _told(place) + 1)


@inner
def wait(meetings, part, parts):
    """Return when all have arrived as often as this part: whether that took long, 1 or 0."""
    own_code()
    looks = 0
    if parts > 1:
        often = _told(meetings + part * APART * 8)
        for other in range(parts):
            while _told(meetings + other * APART * 8) < often:
                looks += 1
                if looks < LONG:
                    _breathe()
                else:
                    _give_way()
    return 1 if looks > LONG else 0


@inner
def meet(meetings, part, parts):
    """Arrive and wait."""
    arrive(meetings, part, parts)
    return wait(meetings, part, parts)


@inner
def dissolve(meetings):
    """Say, as the first part, that after the meeting that comes next all others leave."""
    own_code()
    if _told(meetings + 8) == 0:
        _tell(meetings + 8, _told(meetings) + 1)


@inner
def dissolved(meetings, part, parts):
    """Whether, after the last meeting, the first part goes on alone."""
    own_code()
    if parts == 1:
        return False
    last = _told(meetings + 8)
    return 0 < last <= _told(meetings + part * APART * 8)


@inner
def finish(meetings, part, parts):
    """Say that this part is done; the first waits for the others, if it does not take long."""
    own_code()
    if parts > 1:
        _tell(meetings + part * APART * 8, DONE)
        looks = 0
        while part == 0 and looks < LONG:
            looks += 1
            missing = 0
            for other in range(1, parts):
                if _told(meetings + other * APART * 8) < DONE:
                    missing += 1
            if missing == 0:
                break
            _breathe()


@entry
def count_meetings(meetings, part, parts, times):
    """Meet so many times and do nothing else: for tests, and to measure what a meeting costs."""
    for _ in range(times):
        meet(address(meetings, 0), part, parts)
    finish(address(meetings, 0), part, parts)
