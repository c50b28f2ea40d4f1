"""One step of a whole model in one compiled call: embedding, GRU layers, dense layer, softmax.

Weights are packed once, when the `Stack` is made; a step then reads them once and allocates only
its results. The states have the bits of `gru_forward`'s, because both run `recurrence.step`.
"""

from typing import Any, NamedTuple

import numpy as np

from gru_np.kernels._jit import entry, inner
from gru_np.kernels.fused import NO_MASK, NOTHING, flat, pack_forward, padded, scratch
from gru_np.kernels.matmul import address, copy_row, pack_transposed, product
from gru_np.kernels.recurrence import project as project_inputs
from gru_np.kernels.recurrence import step, units_together
from gru_np.kernels.vector import lanes, load, max_lanes, maximum, own_code, splat, store, sum_lanes

# An embedding goes through the first layer's W_ih ahead of time if the table stays this small.
TABLE_BYTES = 4 * 1024 * 1024


@entry
def pack_dense(W, b, outputs, H, packed):
    """Pack a dense layer: W (outputs, H), then its bias (zeros if empty)."""
    at = pack_transposed(W, 0, H, 1, outputs, H, packed, 0)
    if len(b):
        pack_transposed(b, 0, 1, 1, outputs, 1, packed, at)
    else:
        for i in range(at, len(packed)):
            packed[i] = 0


@entry
def project(rows, packed, table, V, E, H):
    """table[v] = W_ih rows[v] + b_ih: the a_ih of every row of an embedding."""
    L = lanes(packed)
    U = (H + L - 1) // L * L
    b_ih = 3 * U * (E + H)
    product(
        address(rows, 0), E, packed, 0, packed, b_ih, 0, table, 0, 3 * U, V, 3 * U // L, E,
        0, 3 * U // L,
    )  # fmt: skip


@inner
def _softmax(array, at, count):
    """Softmax of array[at : at + count] in place; whole vectors up to the next are scratch."""
    own_code()
    L = lanes(array)
    for i in range(at + count, at + (count + L - 1) // L * L):
        array[i] = -np.inf
    most = load(array, at)
    for i in range(at, at + count, L):
        most = maximum(most, load(array, i))
    top = splat(array, max_lanes(most))
    total = splat(array, 0)
    for i in range(at, at + count, L):
        # the largest exponent is 0, so exp cannot overflow
        e = np.exp(load(array, i) - top)
        store(array, i, e)
        total = total + e
    whole = splat(array, sum_lanes(total))
    for i in range(at, at + count, L):
        store(array, i, load(array, i) / whole)


@entry
def stream(tokens, x, table, packed, plan, before, after, y, B, no_mask, work):
    """Run one step of a stack. `plan` says what lies where in `packed`; see `Stack`."""
    L = lanes(packed)
    layers, projected, outputs, softmax = plan[0], plan[1], plan[2], plan[3]
    widest = plan[4]
    # work: a layer's input, its state before and after, a_ih, then a_hh and the rest
    block = B * widest
    source, state, next_state, a_ih, a_hh = 0, block, 2 * block, 3 * block, 6 * block
    carried = 0
    for layer in range(layers):
        I, H, reset_after, at = plan[5 + 4 * layer : 9 + 4 * layer]  # noqa: E741
        U = (H + L - 1) // L * L
        b_ih = at + 3 * U * (I + H)
        J = U // L
        together = units_together(B, J, reset_after != 0)
        if layer == 0 and projected:
            # into the order of `project`
            for m in range(B):
                for j in range(0, J, together):
                    n = 3 * L * min(together, J - j)
                    source_row = tokens[m] * 3 * U + 3 * L * j
                    copy_row(table, source_row, work, a_ih + 3 * L * j * B + n * m, n, n)
        else:
            row = I
            here = address(x, 0)
            if layer > 0:
                row = (I + L - 1) // L * L
                here = address(work, source)
            project_inputs(here, row, packed, at, b_ih, I, U, B, together, work, a_ih)
        for m in range(B):
            copy_row(before, carried + m * H, work, state + m * U, H, U)
        step(
            a_ih, B, 0, a_hh, state, next_state, U, packed, -1, 0, no_mask, 0, packed,
            at + 3 * U * I, H, B, reset_after != 0, work,
        )  # fmt: skip
        for m in range(B):
            copy_row(work, next_state + m * U, after, carried + m * H, H, H)
        carried += B * H
        source, next_state = next_state, source
    if outputs:
        at = plan[5 + 4 * layers]
        V = (outputs + L - 1) // L * L
        product(
            address(work, source), U, packed, at, packed, at + V * H, 0,
            work, a_ih, V, B, V // L, H, 0, V // L,
        )  # fmt: skip
        for m in range(B):
            if softmax:
                _softmax(work, a_ih + m * V, outputs)
            copy_row(work, a_ih + m * V, y, m * outputs, outputs, outputs)


class Layer(NamedTuple):
    """Parameters of one GRU layer of a `Stack`."""

    W_ih: Any
    W_hh: Any
    b_ih: Any = None
    b_hh: Any = None
    reset_after: bool = True


class Stack:
    """A packed stack: [embedding], GRU layers with tanh and sigmoid, [dense, [softmax]].

    Parameters
    ----------
    layers : sequence of Layer
        At least one, first to last.
    embedding : (V, E), optional
        Makes `step` take token ids.
    dense : (W (outputs, H), b (outputs,) or None), optional
        Applied to the last state.
    softmax : bool
        Turn the dense layer's results into probabilities.

    The weights are copied: make a new Stack when they have changed.
    """

    def __init__(self, layers, embedding=None, dense=None, softmax=False):
        layers = [Layer(*layer) for layer in layers]
        dtype = self.dtype = np.result_type(*(layer.W_hh for layer in layers))
        self.sizes = [layer.W_hh.shape[1] for layer in layers]
        self.embedding = None if embedding is None else np.ascontiguousarray(embedding, dtype)
        self.table = NOTHING[dtype]
        pieces, offsets, at = [], [], 0
        for layer in layers:
            pieces.append(pack_forward(*layer, dtype))
            H, I = layer.W_hh.shape[1], layer.W_ih.shape[1]  # noqa: E741
            offsets += [I, H, int(layer.reset_after), at]
            at += len(pieces[-1])
        self.inputs = layers[0].W_ih.shape[1]
        U = padded(self.sizes[0], dtype)
        if embedding is not None and len(embedding) * 3 * U * dtype.itemsize <= TABLE_BYTES:
            self.table = np.empty(len(embedding) * 3 * U, dtype)
            project(
                flat(self.embedding, dtype), pieces[0], self.table, *embedding.shape, self.sizes[0]
            )
        self.outputs = 0
        if dense is not None:
            W, b = dense
            self.outputs, H = W.shape
            packed = np.empty(padded(self.outputs, dtype) * (H + 1), dtype)
            bias = NOTHING[dtype] if b is None else flat(b, dtype)
            pack_dense(flat(W, dtype), bias, self.outputs, H, packed)
            pieces.append(packed)
            offsets.append(at)
        self.packed = np.concatenate(pieces)
        widest = max(padded(H, dtype) for H in self.sizes)
        head = [len(layers), int(len(self.table) > 0), self.outputs, int(softmax), widest]
        self.plan = np.array(head + offsets, np.int64)
        # 3 states, 3 of a_ih, 6 behind a_hh; the dense layer's results lie from a_ih on
        self.work = 12 * widest + padded(self.outputs, dtype)
        self.no_tokens, self.no_x = np.empty(0, np.int64), NOTHING[dtype]

    def step(self, x, states=None):
        """Advance by one step.

        Parameters
        ----------
        x : (B,) int token ids if there is an embedding, else (B, I)
            Ids are trusted to lie in 0..V - 1.
        states : list of (B, H), optional
            One per GRU layer; None is zeros. Not modified.

        Returns
        -------
        y : (B, outputs), or (B, H) of the last layer without a dense one
        states : list of (B, H)
        """
        dtype, B = self.dtype, len(x)
        if self.embedding is None:
            tokens, x = self.no_tokens, flat(np.asarray(x), dtype)
        elif len(self.table):
            tokens, x = flat(np.asarray(x), np.int64), self.no_x
        else:
            tokens, x = self.no_tokens, self.embedding[x].reshape(-1)
        total = B * sum(self.sizes)
        after = np.empty(total, dtype)
        if states is None:
            before = np.zeros(total, dtype)
        elif len(states) == 1:
            before = flat(np.asarray(states[0]), dtype)
        else:
            before = np.concatenate([np.asarray(s, dtype).reshape(-1) for s in states])
        y = np.empty(B * self.outputs, dtype)
        work = scratch.get("stream", dtype, B * self.work)
        stream(
            tokens, x, self.table, self.packed, self.plan, before, after, y, B, NO_MASK, work
        )  # fmt: skip
        result, at = [], 0
        for H in self.sizes:
            result.append(after[at : at + B * H].reshape(B, H))
            at += B * H
        return (y.reshape(B, -1) if self.outputs else result[-1]), result
