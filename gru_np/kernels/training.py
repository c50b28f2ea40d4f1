"""What a training step needs beside the recurrence: scratch memory and threads around kernels."""

import ctypes
import math
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from gru_np._checks import require_rank, spell
from gru_np.kernels import amx, head, head_amx, updates
from gru_np.kernels._arguments import indices, is_plain, require_inside, require_real
from gru_np.kernels._settings import num_threads
from gru_np.kernels.fused import NOTHING, flat, lent, plain, scratch
from gru_np.kernels.matmul import DEPTH
from gru_np.kernels.threads import cut, run, threads_for
from gru_np.kernels.vector import REGISTER_BYTES, ROWS

# Logits that may exist at a time; what does not fit is done in chunks of rows.
LOGIT_BYTES = 48 * 1024 * 1024
# Panels whose products go together through a block of W.
GROUP = 8
# From so many classes on, float32 goes to the tile unit where there is one: what is done once for
# each row of h must not weigh too much.
TILE_UNIT_CLASSES = 1024
# There as many panels go together as have so much of h, in blocks.
STATE_BYTES = 1024 * 1024
# An update is bound by memory: as many operations' time as this goes into one number.
UPDATE_OPERATIONS = 100
# Gradients of so few numbers together it is quicker to copy than to ask for their addresses.
FEW = 1 << 15
NO_WEIGHT = np.empty(0)
INTP = np.dtype(np.intp)
HEAD, LOOK_UP = "dense_cross_entropy", "embedding_gradient"


class CrossEntropy(NamedTuple):
    """What `dense_cross_entropy` gives; without gradient the last three are None."""

    value: float  # sum of weight / count * l
    hits: Any  # (n,) the weight where the largest logit is the label's, else 0
    dh: Any  # of h's shape
    dW: Any  # (V, H)  # noqa: N815
    db: Any  # (V,); None without bias


class _Chunk(NamedTuple):
    """Panels whose logits exist at a time, and how threads share them and the classes."""

    first: int
    last: int
    rows: list[int]
    classes: list[int]


@lru_cache(maxsize=64)
def _chunks(n, V, H, rows, grain, fit, products, threads):
    """Cut n rows, `rows` a panel, in chunks of at most `fit` panels; for at most `threads`."""
    panels, panel = -(-n // rows), rows * V
    count = -(-panels // max(1, fit or panels))
    bounds = [panels * i // max(1, count) for i in range(count + 1)]
    chunks = []
    for first, last in pairwise(bounds):
        parts = threads_for(2 * products * (last - first) * panel * H, last - first)
        of_threads = [first + i for i in cut(last - first, parts, 1)]
        classes = [min(V, i * grain) for i in cut(-(-V // grain), parts, 1)]
        chunks.append(_Chunk(first, last, of_threads, classes))
    return chunks


@lru_cache(maxsize=16)
def _all_rows(n, H):
    """Where each of n contiguous rows begins."""
    return np.arange(0, n * H, H)


def dense_cross_entropy(h, W, b, labels, weight, kept, count, gradient=True):
    """Cross-entropy of softmax(h W^T + b) over the kept positions, and all its gradients.

    h (B, H) or (B, T, H); labels, weight (None: 1) and kept (bool; None: all) are of h's positions;
    the sum is divided by `count`. A sequence that is a view of an array with time first is read,
    and its gradient written, as it lies.
    """
    positions = h.shape[:-1]
    if h.ndim not in (2, 3) or h.dtype not in NOTHING:
        raise ValueError(
            f"{HEAD}: h must be real (B, H) or (B, T, H), got {h.dtype} of shape {spell(h.shape)}"
        )
    require_rank(HEAD, "W", W, ("classes", h.shape[-1]))
    labels = indices(HEAD, "labels", labels, positions)
    if weight is not None:
        require_rank(HEAD, "weight", weight, positions)
        weight = plain(weight, NO_WEIGHT.dtype)
    if kept is not None:
        require_rank(HEAD, "kept", kept, positions)
        kept = plain(kept, np.bool_)
    V, H = W.shape
    dtype = h.dtype
    time_first = h.ndim == 3 and not h.flags.c_contiguous
    if time_first:
        h, labels = h.transpose(1, 0, 2), labels.T
        weight, kept = weight if weight is None else weight.T, kept if kept is None else kept.T
    if kept is None:
        n = labels.size
        offsets, labels = _all_rows(n, H), labels.reshape(-1)
        weight = NO_WEIGHT if weight is None else np.ascontiguousarray(weight).reshape(-1)
    else:
        offsets, labels = np.flatnonzero(kept) * H, labels[kept]
        weight, n = NO_WEIGHT if weight is None else weight[kept], len(labels)
    labels = plain(labels, INTP)
    require_inside(HEAD, "labels", head.first_outside(labels, V), labels, V)
    losses, hits = np.empty(n), np.empty(n)
    dh = dW = db = None
    if gradient:
        dh = lent(h.size, dtype).reshape(h.shape) if n * H == h.size else np.zeros(h.shape, dtype)
        dW = (np.empty if n else np.zeros)((V, H), dtype)
        db = None if b is None else (np.empty if n else np.zeros)(V, dtype)
    cross_entropy_of(losses, hits, dh, dW, db, h, offsets, W, b, labels, weight, count)()
    if time_first and gradient:
        dh = dh.transpose(1, 0, 2)
    return CrossEntropy(float(np.add.reduce(losses)), hits, dh, dW, db)


def cross_entropy_of(losses, hits, dh, dW, db, h, offsets, W, b, labels, weight, count):
    """Make a function of nothing that computes them; no gradients if dh is None.

    Rows of h begin at the offsets. It reads all arrays as they are when it is called, and may be
    called again; those that are not contiguous and writable, though, are copied here. The labels
    are trusted.
    """
    V, H = W.shape
    if b is not None:
        require_rank(HEAD, "b", b, (V,))
    for name, array in (("h", h), ("W", W), ("b", h if b is None else b)):
        require_real(HEAD, name, array)
    dtype, nothing, gradient = h.dtype, NOTHING[h.dtype], dh is not None
    on_unit = V >= TILE_UNIT_CLASSES and dtype == np.float32 and amx.ready()
    return partial(
        _on_tile_unit if on_unit else _in_vectors,
        flat(h, dtype), offsets, plain(W, dtype), nothing if b is None else plain(b, dtype),
        plain(labels, INTP), weight, count, len(losses), V, H, gradient, losses, hits,
        dh.reshape(-1) if gradient else nothing, dW, nothing if db is None else db,
    )  # fmt: skip


def _in_vectors(
    h, offsets, W, b, labels, weight, count, n, V, H, gradient, losses, hits, dh, dW, db
):  # fmt: skip
    """All of it by `gru_np.kernels.head`."""
    dtype, nothing = h.dtype, NOTHING[h.dtype]
    L = REGISTER_BYTES // dtype.itemsize
    panel, padded, total = 3 * L * V, -(-H // L) * L, -(-n // L) * L
    fit = max(1, LOGIT_BYTES // (panel * dtype.itemsize)) if gradient else 0
    rows = scratch.get("rows", dtype, total * padded) if gradient else nothing
    slices = DEPTH * (H + ROWS)
    for first, last, of_rows, of_classes in _chunks(
        n, V, H, 3 * L, ROWS, fit, 3 if gradient else 1, num_threads()
    ):
        shared = scratch.get("logits", dtype, (last - first) * panel) if gradient else None

        def along_rows(i, bounds=of_rows, first=first, shared=shared):
            low, high = bounds[i], bounds[i + 1]
            group = min(GROUP, high - low)
            columns = group * 3 * L * H
            own = scratch.get("head", dtype, 2 * columns + slices + 15 * L)
            logits = shared if gradient else scratch.get("logits", dtype, group * panel)
            head.rows_forth_and_back(
                h, offsets, W, b, labels, weight, count, n, V, H, low, high,
                first, group, gradient, logits, own, columns, slices, rows, total,
                losses, hits, dh,
            )  # fmt: skip

        def along_classes(i, bounds=of_classes, first=first, last=last, shared=shared):
            head.weight_gradient(
                shared, rows, total, n, V, H, bounds[i], bounds[i + 1], first, last, first > 0,
                scratch.get("sums", dtype, 16 * ROWS * padded), dW, db,
            )  # fmt: skip

        run(along_rows, len(of_rows) - 1)
        if gradient:
            run(along_classes, len(of_classes) - 1)


def _on_tile_unit(
    h, offsets, W, b, labels, weight, count, n, V, H, gradient, losses, hits, dh, dW, db
):  # fmt: skip
    """All of it by `gru_np.kernels.head_amx`."""
    dtype, S, N = h.dtype, amx.SIDE, amx.BLOCK_NUMBERS
    K = -(-H // S)
    panel = -(-V // S) * S * S
    fit = max(1, LOGIT_BYTES // (panel * dtype.itemsize))
    together = max(1, min(fit, STATE_BYTES // (K * amx.BLOCK)))
    gaps, get = np.empty(n), scratch.get
    for first, last, of_rows, of_classes in _chunks(
        n, V, H, S, S, fit if gradient else 0, 3 if gradient else 1, num_threads()
    ):
        chunk = last - first
        shared = get("logits", dtype, chunk * panel) if gradient else None
        scaled = get("scaled", dtype, K * chunk * N if gradient else 0)
        factors = get("factors", dtype, chunk * S)

        def along_rows(i, bounds=of_rows, first=first, chunk=chunk, shared=shared,
                       scaled=scaled, factors=factors):  # fmt: skip
            low, high = bounds[i], bounds[i + 1]
            group = min(together, high - low)
            head_amx.rows_forth_and_back(
                h, offsets, W, b, labels, weight, count, n, V, H, low, high, first, group, gradient,
                shared if gradient else get("logits", dtype, group * panel),
                get("states", dtype, group * K * N),
                get("blocks", dtype, max(head_amx.WIDE * K, amx.DEEP) * N),
                get("right", dtype, head_amx.WIDE * N), get("spare", dtype, K * S * S),
                get("sums", dtype, group * K * S * S),
                get("stats", dtype, group * head_amx.STATS),
                gaps, chunk, scaled, factors, losses, hits, dh,
            )  # fmt: skip

        def along_classes(i, bounds=of_classes, first=first, chunk=chunk, shared=shared,
                          scaled=scaled, factors=factors):  # fmt: skip
            head_amx.weight_gradient(
                shared, scaled, factors, V, H, bounds[i], bounds[i + 1], chunk, first > 0,
                get("blocks", dtype, head_amx.OVER * amx.DEEP * N),
                get("sums", dtype, head_amx.OVER * K * S * S),
                get("stats", dtype, head_amx.OVER * S * 16), dW, db,
            )  # fmt: skip

        run(along_rows, len(of_rows) - 1)
        if gradient:
            run(along_classes, len(of_classes) - 1)


def embedding_gradient(ids, dy, V):
    """dW (V, E): each row the sum of dy (..., E) over the places where its id stands."""
    if dy.dtype not in NOTHING or dy.ndim == 0:
        raise TypeError(f"{LOOK_UP}: dy must be real vectors, got {dy.dtype}")
    E, dtype = dy.shape[-1], dy.dtype
    ids = indices(LOOK_UP, "ids", ids, dy.shape[:-1])
    if dy.ndim == 3 and not dy.flags.c_contiguous:
        ids, dy = ids.T, dy.transpose(1, 0, 2)
    dW, ids = np.empty((V, E), dtype), flat(ids, INTP)
    require_inside(LOOK_UP, "ids", head.first_outside(ids, V), ids, V)
    embedding_gradient_of(dW, ids, flat(dy, dtype))()
    return dW


def embedding_gradient_of(dW, ids, dy):
    """Make a function of nothing that computes it from flat arrays; it may be called again.

    The ids are trusted.
    """
    V, E = dW.shape
    L = REGISTER_BYTES // dW.itemsize
    threads = threads_for(8 * (ids.size + V) * E, max(1, E // L))
    columns = cut(E, threads, L)

    def task(i):
        head.embedding_gradient(ids, dy, columns[i], columns[i + 1], dW)

    return lambda: run(task, threads)


# ------------------------------------------------------------------------------- the optimiser


class Averages:
    """Parameters and what Adam keeps of them, with their addresses: made once, used every step."""

    def __init__(self, columns):
        """Take (p, m, v, v_max or None) of each; contiguous, writable, of one dtype."""
        self.arrays = [array for column in columns for array in column if array is not None]
        self.sizes = [column[0].size for column in columns]
        dtype = columns[0][0].dtype
        for column in columns:
            for array in column:
                if array is not None and not (
                    is_plain(array, dtype, column[0].shape) and array.flags.carray
                ):
                    raise ValueError(
                        "averages: all arrays must be contiguous, writable, of one dtype, and of "
                        f"their parameter's shape, got {array.dtype} of {spell(array.shape)}"
                    )
        self.like = NOTHING[dtype]
        self.table = np.zeros((len(columns), 6), np.intp)
        places = (updates.P, updates.M, updates.V, updates.V_MAX)
        for row, column in zip(self.table, columns, strict=True):
            row[updates.SIZE] = column[0].size
            for place, array in zip(places, column, strict=True):
                row[place] = 0 if array is None else _address(array)
        self.pieces = -(-self.table[:, updates.SIZE] // updates.PIECE)
        self.size = int(self.table[:, updates.SIZE].sum())
        self.ones = np.ones(len(columns), self.like.dtype)
        self.zeros = np.zeros(len(columns), self.like.dtype)
        # small gradients are brought together, in one array, unless they lie so
        self.together = np.empty(self.size if self.size <= FEW else 0, self.like.dtype)
        sizes = self.table[:, updates.SIZE]
        self.begin = (np.cumsum(sizes) - sizes) * self.like.itemsize
        self.flat = None  # the array that the table has addresses of

    def __reduce__(self):
        """Copies have other addresses: a copied optimiser makes its own."""
        return type(None), ()

    def norms(self, gradients):
        """Euclidean norm of each gradient."""
        gradients = self._take(gradients)
        sums = np.empty(int(self.pieces.sum()))
        threads = threads_for(UPDATE_OPERATIONS * self.size, len(sums))
        bounds = cut(len(sums), threads, 1)
        run(
            lambda i: updates.squares(self.table, self.like, bounds[i], bounds[i + 1], sums),
            threads,
        )
        ends = np.cumsum(self.pieces)
        return [math.sqrt(sums[b - a : b].sum()) for a, b in zip(self.pieces, ends, strict=True)]

    def adam(self, gradients, scales, decays, step_size, beta_1, beta_2, epsilon):
        """`optimizers.adam_update` of all in one pass: see `updates.adam`.

        `scales` and `decays` are one number a parameter, or None: none is clipped, none decays.
        """
        gradients = self._take(gradients)
        scales = self.ones if scales is None else np.array(scales, self.like.dtype)
        decays = self.zeros if decays is None else np.array(decays, self.like.dtype)
        a, b = 1.0 - beta_1, 1.0 - beta_2
        threads = threads_for(UPDATE_OPERATIONS * self.size, self.size)
        bounds = cut(self.size, threads, 1024)

        def task(i):
            updates.adam(
                self.table, self.like, decays, scales, bounds[i], bounds[i + 1],
                a, b, step_size, epsilon,
            )  # fmt: skip

        run(task, threads)

    def _take(self, gradients):
        """Enter the addresses of the gradients; give them, contiguous, to be kept meanwhile.

        They are one array each, or all of them one after the other in a single one.
        """
        if isinstance(gradients, np.ndarray):
            return self._take_flat(gradients)
        gradients = list(gradients)
        if [g.size for g in gradients] != self.sizes:
            raise ValueError("averages: gradients must have the sizes of the parameters")
        if len(self.together):
            np.concatenate(gradients, axis=None, out=self.together)
            return self._take_flat(self.together)
        self.flat = None
        gradients = [plain(g, self.like.dtype) for g in gradients]
        self.table[:, updates.G] = [_address(g) for g in gradients]
        return gradients

    def _take_flat(self, flat):
        if flat is not self.flat:
            if not (is_plain(flat, self.like.dtype, (self.size,)) and flat.flags.carray):
                raise ValueError("averages: gradients must have the sizes of the parameters")
            self.flat = flat
            self.table[:, updates.G] = _address(flat) + self.begin
        return flat


def _address(array):
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(array))
    except (TypeError, ValueError):  # read-only or empty; the other way takes three times as long
        return array.__array_interface__["data"][0]
