"""The compiled twins of `gru_np.recurrence`: packing, scratch memory and threads around kernels."""

import threading
from collections import deque
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from gru_np.kernels import recurrence as kernel
from gru_np.kernels import small
from gru_np.kernels._arguments import is_plain
from gru_np.kernels._settings import num_threads
from gru_np.kernels.matmul import DEPTH
from gru_np.kernels.threads import cut, threads_for, together
from gru_np.kernels.vector import REGISTER_BYTES, ROWS
from gru_np.recurrence import valid_steps

# Rows of the batch that go through time together: their state and pre-activations stay in cache.
BLOCK = 32
# Inputs are projected ahead of time: as many rows as fit in half of a usual second-level cache, but
# enough that reading W_ih once for all of them costs little beside multiplying by it.
CHUNK_BYTES, CHUNK_ROWS = 128 * 1024, 64
# Gradients of pre-activations that the loop leaves before they are multiplied: a quarter of a usual
# second-level cache.
DA_BYTES = 512 * 1024
# Where threads have rows of their own and meet only between loop and products, so many operations
# for each that a thread without a core of its own does not keep the others waiting too often.
CHUNK_OPERATIONS = 200_000_000
# Threads share the batch; but of fewer rows than these, or where W_hh takes more than a good part
# of a usual second-level cache, they share the units: each reads only a part of the weights then.
# What it pays is the half of every new state that comes from the other's cache, 30 ns a line.
LEAST_ROWS, OWN_BYTES = 8, 1024 * 1024
# Who shares units meets the others at every step: so many operations make that worth while.
STEP_OPERATIONS = 300_000
# Of fewer numbers it takes longer to find where a vector begins than straddling costs.
SMALL = 4096
NOTHING = {dtype: np.empty(0, dtype) for dtype in (np.dtype("f4"), np.dtype("f8"))}
NO_STATE = {dtype: np.empty((0, 0), dtype) for dtype in NOTHING}
NO_ROWS = {dtype: np.empty((0, 0, 0, 0), dtype) for dtype in NOTHING}
NO_MASK = np.empty(0, np.bool_)
KINDS = {*NOTHING}


class Saved(NamedTuple):
    """What `gru_forward` leaves for `gru_backward`; r, z, n and a_hn are views (T, B, H)."""

    x: Any
    h: Any  # (T + 1, B, H)
    rows: Any  # (T, B, parts, U): n, r, z and, reset after, a_hn; units padded to whole vectors
    valid: Any  # (T, B) bool or None
    W_ih: Any
    W_hh: Any
    b_ih: Any
    b_hh: Any
    reset_after: bool

    @property
    def n(self):
        """New gate."""
        return self.rows[:, :, 0, : self.h.shape[2]]

    @property
    def r(self):
        """Reset gate."""
        return self.rows[:, :, 1, : self.h.shape[2]]

    @property
    def z(self):
        """Update gate."""
        return self.rows[:, :, 2, : self.h.shape[2]]

    @property
    def a_hn(self):
        """W_hn h + b_hn; None if the reset comes before the product (not needed then)."""
        return self.rows[:, :, 3, : self.h.shape[2]] if self.reset_after else None


def aligned(size, dtype):
    """Return new memory that begins at a whole vector."""
    if size < SMALL:
        return np.empty(size, dtype)
    # From NumPy's own, 16 bytes off, every AVX-512 load would straddle two cache lines.
    memory = np.empty(size * dtype.itemsize + REGISTER_BYTES, np.uint8)
    skip = -memory.ctypes.data % REGISTER_BYTES
    return memory[skip : skip + size * dtype.itemsize].view(dtype)


# What one pass saved, the next may save in: the system would clear it page by page. So many are
# kept; smaller ones are no matter.
_returned: deque[Any] = deque(maxlen=8)
LENT_BYTES = 1024 * 1024


class _Lent:
    """Memory under an array and its views, to be lent again once none of them is left."""

    def __init__(self, memory):
        self.memory, self.__array_interface__ = memory, memory.__array_interface__

    def __del__(self, give_back=_returned.append):
        give_back(self.memory)


def lent(size, dtype):
    """As `aligned`, from memory that an earlier array gave back if some fits."""
    if size * dtype.itemsize < LENT_BYTES:
        return aligned(size, dtype)
    memory = None
    for _ in range(len(_returned)):
        try:
            found = _returned.popleft()
        except IndexError:  # another thread was faster
            break
        if found.dtype == dtype and size <= len(found) <= 2 * size:
            memory = found
            break
        _returned.append(found)
    return np.asarray(_Lent(aligned(size, dtype) if memory is None else memory))[:size]


class _Scratch(threading.local):
    """Memory each thread reuses from call to call, by name, grown as needed."""

    def __init__(self):
        self.arrays = {}

    def get(self, name, dtype, size):
        """At least `size` elements, whatever they hold."""
        array = self.arrays.get((name, dtype))
        if array is None or len(array) < size:
            self.arrays[name, dtype] = array = aligned(size, dtype)
        return array


scratch = _Scratch()


def plain(array, dtype):
    """Return the array, or a copy of it, contiguous and writable and of the dtype."""
    # carray: contiguous, aligned and writable in one look
    if (array.dtype is dtype or array.dtype == dtype) and array.flags.carray:
        return array
    return np.array(array, dtype, order="C")


def flat(array, dtype):
    """Return a flat contiguous writable array of the dtype, a view if it can be.

    numba compiles once more for arrays that are read-only or out of order; this leaves one kind.
    """
    return plain(array, dtype).reshape(-1)


def as_it_lies(x, dtype):
    """x (T, B, I) as it lies and the strides of time and batch; a view if it can be."""
    T, B, I = x.shape  # noqa: E741
    if not x.flags.c_contiguous:
        batch_first = x.transpose(1, 0, 2)
        if batch_first.flags.c_contiguous:
            return plain(batch_first, dtype), I, T * I
    return plain(x, dtype), B * I, I


def padded(H, dtype):
    """H rounded up to whole vectors."""
    L = REGISTER_BYTES // dtype.itemsize
    return -(-H // L) * L


def rows_at_once(rows):
    """Rows per block: as equal as can be, whole tiles, at most BLOCK."""
    blocks = max(1, -(-rows // BLOCK))
    return max(1, min(rows, -(-rows // blocks // ROWS) * ROWS if rows > ROWS else rows))


@lru_cache(maxsize=256)
def _cut_units(vectors, parts):
    """Bounds of each part's share of the vectors of units; a lonely last one stays with its panel.

    Cut at whole panels, so that parts packed one by one make one matrix.
    """
    panels = max(1, (vectors + 1) // 3)
    shares = [(2 * panels * i + parts) // (2 * parts) for i in range(parts + 1)]
    return [3 * share if share < panels else vectors for share in shares]


def _cut_rows(B, by_units, parts):
    """Each part's share of the batch, and how many rows go through time together."""
    shares = [(0, B)] * parts if by_units else [*pairwise(cut(B, parts, 1))]
    return shares, rows_at_once(max(high - low for low, high in shares))


def _by_units(B, U, dtype):
    """Whether parts of a team share the units, rather than the batch."""
    return B < LEAST_ROWS or 3 * U * U * dtype.itemsize > OWN_BYTES


def pack_forward(W_ih, W_hh, b_ih, b_hh, reset_after, dtype, out=None):
    """Weights and biases as `kernel.forward` reads them."""
    H, I = W_hh.shape[1], W_ih.shape[1]  # noqa: E741
    U = padded(H, dtype)
    size = 3 * U * (I + H + 2)
    out = aligned(size, dtype) if out is None else out
    kernel.pack_forward(
        plain(W_ih, dtype), plain(W_hh, dtype),
        NOTHING[dtype] if b_ih is None else plain(b_ih, dtype),
        NOTHING[dtype] if b_hh is None else plain(b_hh, dtype),
        I, H, reset_after, out,
    )  # fmt: skip
    return out


class _Forward(NamedTuple):
    """How one forward pass is cut, and how much memory it works in."""

    by_units: bool  # whether parts share the units, rather than the batch
    shares: Any  # of every part, for every number of parts: arguments of `kernel.forward`
    packed: int
    states: int
    loop: int


class _Backward(NamedTuple):
    """The same of a backward pass."""

    by_units: bool
    chunk: int  # time steps whose gradients are multiplied together
    shares: Any
    packed: int
    da: int
    carries: int
    sums: int
    loop: int


# Numbers that follow from the shape alone are worked out once a shape, not once a step: a small
# step is over before they are.
_plans = lru_cache(maxsize=256)


@_plans
def _plan_forward(T, B, I, H, dtype, _):  # noqa: E741
    """Plan a forward pass; the last argument is the number of threads allowed."""
    U, L = padded(H, dtype), REGISTER_BYTES // dtype.itemsize
    by_units = _by_units(B, U, dtype)
    operations = 6 * T * B * H * (I + H)
    threads = threads_for(operations, -(-U // L // 3) if by_units else B)
    if by_units and operations < T * STEP_OPERATIONS:
        threads = 1
    ahead = max(CHUNK_ROWS, CHUNK_BYTES // (3 * U * dtype.itemsize or 1))
    shares, states, loop = [], 0, 0
    for parts in range(1, threads + 1):
        rows, block = _cut_rows(B, by_units, parts)
        chunk, units = max(1, min(T, ahead // block)), pairwise(_cut_units(U // L, parts))
        shares.append([
            (*of_rows, *of_units, by_units and parts > 1, block, chunk)
            for of_rows, of_units in zip(rows, units, strict=True)
        ])  # fmt: skip
        # twice the states and r h, in rows a little longer than U
        states = max(states, 3 * block * (U + 2 * L))
        loop = max(loop, 6 * block * U + chunk * block * (3 * U + I))
    return _Forward(by_units, shares, 3 * U * (I + H + 2), states, loop)


@_plans
def _plan_backward(T, B, I, H, reset_after, dtype, _):  # noqa: E741
    """Plan a backward pass; the last argument is the number of threads allowed."""
    U, V, L = padded(H, dtype), padded(I, dtype), REGISTER_BYTES // dtype.itemsize
    by_units = _by_units(B, U, dtype)
    operations = 12 * T * B * H * (I + H)
    threads = threads_for(operations, -(-U // L // 3) if by_units else max(B, U // L))
    if by_units and operations < T * STEP_OPERATIONS:
        threads = 1
    gates = 4 if reset_after else 3
    # Steps whose gradients stay in cache.
    at_once = max(DEPTH, DA_BYTES // (gates * U * dtype.itemsize or 1))
    if threads > 1 and not by_units:
        at_once = max(at_once, threads * CHUNK_OPERATIONS // (12 * H * (I + H)))
    chunk = max(1, min(T, at_once // max(1, B)))
    slices = DEPTH * (I + 2 * H + 3 * ROWS + 3 * L + U) + 3 * L
    shares, loop = [], 0
    for parts in range(1, threads + 1):
        rows, block = _cut_rows(B, by_units, parts)
        units, inputs = (pairwise(_cut_units(n // L, parts)) for n in (U, V))
        shares.append([
            (*of_rows, *of_units, *of_inputs, by_units and parts > 1, block)
            for of_rows, of_units, of_inputs in zip(rows, units, inputs, strict=True)
        ])  # fmt: skip
        loop = max(loop, 5 * block * U + 2 * L, (kernel.DX_ROWS + 1) * V, slices)
    da = min(threads, 2) * chunk * B * (gates * U + L)
    return _Backward(
        by_units, chunk, shares, 3 * U * (U + V), da, B * U, 3 * U * (I + H + 2), loop
    )  # fmt: skip


def gru_forward(
    x, h0, W_ih, W_hh, b_ih, b_hh, reset_after=True, lengths=None, mask=None, *, inference=False
):
    """As `gru_np.recurrence.gru_forward`, for tanh and sigmoid and arrays of one dtype.

    `inference` saves nothing.
    """
    T, B, I = x.shape  # noqa: E741
    H, dtype = W_hh.shape[1], x.dtype
    reset_after = bool(reset_after)
    valid = None if lengths is None and mask is None else valid_steps(T, B, lengths, mask)
    if T == B == 1 and valid is None and I and H:
        return _forward_once(x, h0, W_ih, W_hh, b_ih, b_hh, reset_after, dtype, inference)
    h = lent((T + 1) * B * H, dtype).reshape(T + 1, B, H)
    h[0] = 0 if h0 is None else h0
    rows = NO_ROWS[dtype] if inference else rows_for(T, B, H, reset_after, dtype)
    saved = Saved(x, h, rows, valid, W_ih, W_hh, b_ih, b_hh, reset_after)
    forward_of(saved)()
    return h, None if inference else saved


def rows_for(T, B, H, reset_after, dtype):
    """Memory for what is saved of the gates; whatever it holds."""
    shape = T, B, 4 if reset_after else 3, padded(H, dtype)
    size = T * B * shape[2] * shape[3]
    return lent(size, dtype).reshape(shape)


def forward_of(saved):
    """Make a function of nothing that computes what a pass saves, h[1:] and the gates, from h[0].

    It reads x and the weights as they are when it is called, and may be called again; those that
    are not contiguous, writable and of h's dtype, though, are copied here.
    """
    x, h, rows, valid, W_ih, W_hh, b_ih, b_hh, reset_after = saved
    T, B, I = x.shape  # noqa: E741
    H, dtype = h.shape[2], h.dtype
    plan = _plan_forward(T, B, I, H, dtype, num_threads())
    weights = (
        plain(W_ih, dtype), plain(W_hh, dtype),
        NOTHING[dtype] if b_ih is None else plain(b_ih, dtype),
        NOTHING[dtype] if b_hh is None else plain(b_hh, dtype),
    )  # fmt: skip
    x, x_time, x_batch = as_it_lies(x, dtype)
    valid = NO_MASK if valid is None else flat(valid, np.bool_)

    def forward():
        packed, shared = scratch.get("packed", dtype, plan.packed), None
        if plan.by_units:
            shared = scratch.get("states", dtype, plan.states)

        def task(part, parts, meetings):
            states = shared
            if parts == 1 or states is None:
                states = scratch.get("states", dtype, plan.states)
            kernel.forward(
                x, x_time, x_batch, *weights, h, rows, packed, valid, T, B, I, H, reset_after,
                *plan.shares[parts - 1][part], scratch.get("loop", dtype, plan.loop), states,
                meetings, part, parts,
            )  # fmt: skip

        if T and B and H:
            together(task, len(plan.shares), closely=plan.by_units)

    return forward


def gru_backward(dh, saved):
    """As `gru_np.recurrence.gru_backward`, from dh by h or by h[1:] alone."""
    saved = _as_left(saved)
    T, B, I = saved.x.shape  # noqa: E741
    if T == B == 1 and saved.valid is None and I and saved.W_hh.size:
        return _backward_once(dh if len(dh) > T else np.stack([np.zeros_like(dh[0]), dh[0]]), saved)
    H, dtype = saved.W_hh.shape[1], saved.h.dtype
    dx, dh0 = lent(T * B * I, dtype).reshape(T, B, I), np.empty((B, H), dtype)
    dW_ih, dW_hh = np.empty((3 * H, I), dtype), np.empty((3 * H, H), dtype)
    db_ih, db_hh = np.empty(3 * H, dtype), np.empty(3 * H, dtype)
    backward_of(saved, dh, dx, dh0, dW_ih, dW_hh, db_ih, db_hh)()
    return (
        dx, dh0, dW_ih, dW_hh,
        None if saved.b_ih is None else db_ih, None if saved.b_hh is None else db_hh,
    )  # fmt: skip


def _as_left(saved):
    """Give what a pass saved, or raise unless it is as the pass left it; it was in other hands."""
    x, h, rows, valid, W_ih, W_hh, _, _, reset_after = saved
    try:
        (T, B, I), H, dtype = x.shape, W_hh.shape[1], h.dtype  # noqa: E741
        of_rows = T, B, 4 if reset_after else 3, padded(H, dtype)
        if (
            {*map(type, (x, h, rows, W_ih, W_hh))} == {np.ndarray}
            and {x.dtype, dtype, rows.dtype, W_ih.dtype, W_hh.dtype} < KINDS  # one of the two
            and h.shape == (T + 1, B, H)
            and rows.shape == of_rows
            and W_ih.shape == (3 * H, I)
            and W_hh.shape == (3 * H, H)
            and (valid is None or is_plain(valid, NO_MASK.dtype, (T, B)))
        ):
            if h.flags.carray and rows.flags.carray:
                return saved
            return saved._replace(h=plain(h, dtype), rows=plain(rows, dtype))
    except (AttributeError, ValueError, IndexError):
        pass
    raise ValueError(
        "gru_backward: saved must be as gru_forward gave it, got arrays whose shapes and dtypes do "
        "not belong together; keep it unchanged until the way back"
    )


def backward_of(saved, dh, dx, dh0, dW_ih, dW_hh, db_ih, db_hh):
    """Make a function of nothing that computes all gradients from dh and what a pass saved.

    dh is the gradient by h, or by h[1:] alone.

    As `forward_of`, it may be called again.
    """
    x, h, rows, valid, W_ih, W_hh, _, _, reset_after = saved
    T, B, I = x.shape  # noqa: E741
    H, dtype = h.shape[2], h.dtype
    plan = _plan_backward(T, B, I, H, reset_after, dtype, num_threads())
    W_ih, W_hh, dh = plain(W_ih, dtype), plain(W_hh, dtype), flat(dh, dtype)
    dh_first, dh = np.split(dh, [len(dh) - T * B * H])
    x, x_time, x_batch = as_it_lies(x, dtype)
    valid = NO_MASK if valid is None else flat(valid, np.bool_)

    def backward():
        packed, da = scratch.get("packed", dtype, plan.packed), scratch.get("da", dtype, plan.da)
        carries = scratch.get("carries", dtype, plan.carries)
        sums = scratch.get("sums", dtype, plan.sums)

        def task(part, parts, meetings):
            kernel.backward(
                x, x_time, x_batch, W_ih, W_hh, dh, dh_first, h, rows, packed, valid, T, B, I, H,
                reset_after, plan.chunk, *plan.shares[parts - 1][part], carries, da, sums,
                scratch.get("loop", dtype, plan.loop), dx, dh0, dW_ih, dW_hh, db_ih, db_hh,
                meetings, part, parts,
            )  # fmt: skip

        together(task, len(plan.shares), closely=plan.by_units)

    return backward


# One row and one time step: see `gru_np.kernels.small`.


def _forward_once(x, h0, W_ih, W_hh, b_ih, b_hh, reset_after, dtype, inference):
    """As `gru_forward` for T = B = 1 without mask."""
    H = W_hh.shape[1]
    h = np.empty((2, 1, H), dtype)
    if inference:
        rows = NO_ROWS[dtype]
    else:
        rows = np.empty((1, 1, 4 if reset_after else 3, padded(H, dtype)), dtype)
    small.forward(
        plain(x, dtype), NO_STATE[dtype] if h0 is None else plain(h0, dtype),
        plain(W_ih, dtype), plain(W_hh, dtype),
        NOTHING[dtype] if b_ih is None else plain(b_ih, dtype),
        NOTHING[dtype] if b_hh is None else plain(b_hh, dtype),
        h, rows, reset_after,
    )  # fmt: skip
    if inference:
        return h, None
    return h, Saved(x, h, rows, None, W_ih, W_hh, b_ih, b_hh, reset_after)


def _backward_once(dh, saved):
    """As `gru_backward` for T = B = 1 without mask."""
    x, h, rows, _, W_ih, W_hh, b_ih, b_hh, reset_after = saved
    dtype, wide, square = h.dtype, W_ih.shape, W_hh.shape
    dx, dh0 = np.empty(x.shape, dtype), np.empty((1, square[1]), dtype)
    dW_ih, dW_hh = np.empty(wide, dtype), np.empty(square, dtype)
    db_ih, db_hh = np.empty(wide[0], dtype), np.empty(wide[0], dtype)
    small.backward(
        plain(dh, dtype), plain(x, dtype), h, rows, plain(W_ih, dtype), plain(W_hh, dtype),
        dx, dh0, dW_ih, dW_hh, db_ih, db_hh, reset_after,
    )  # fmt: skip
    return (
        dx, dh0, dW_ih, dW_hh, None if b_ih is None else db_ih, None if b_hh is None else db_hh
    )  # fmt: skip
