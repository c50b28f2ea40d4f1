"""One step of a whole model in one compiled call: embedding, GRU layers, dense layer, softmax.

Weights are packed once, when the `Stack` is made; a step then reads them once and allocates only
its results. The states have the bits of `gru_forward`'s, because both run `recurrence.step`.

A step may take as little as its weights take to be read from the cache, a few microseconds. Every
array given to compiled code costs a tenth of one, so all weights lie in one array, all settings in
another, and working memory is the compiled code's own.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.extending import intrinsic

from gru_np._checks import require_rank
from gru_np.kernels._arguments import indices, require_layer
from gru_np.kernels._jit import entry, inner
from gru_np.kernels.fused import NOTHING, aligned, flat, pack_forward, padded
from gru_np.kernels.matmul import INT64, address, copy_row, pack_transposed, product
from gru_np.kernels.recurrence import project as project_inputs
from gru_np.kernels.recurrence import step, units_together
from gru_np.kernels.vector import (
    borrowed,
    in_a_row,
    lanes,
    load,
    max_lanes,
    maximum,
    own_code,
    splat,
    store,
    sum_lanes,
)

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


@intrinsic
def nothing_masked(typingctx):
    """Empty mask."""

    def emit(context, builder, sig, args):
        data = context.get_data_type(types.bool_).as_pointer()(None)
        return borrowed(context, builder, types.bool_, data, INT64(0))

    return types.Array(types.bool_, 1, "C")(), emit


# What a plan begins with: number of GRU layers; where x comes from; outputs and activation of the
# dense layer; units to reserve for a row; rows of the embedding and where its table begins. Then
# follow I, H, reset_after and the place of the weights for each layer, and the dense layer's place.
LAYERS, SOURCE, OUTPUTS, SOFTMAX, WIDEST, TOKENS, TABLE, HEAD = range(8)
GIVEN, PROJECTED, LOOKED_UP = range(3)


@entry
def stream(tokens, x, before, after, y, packed, plan):
    """Run one step of a stack; see `Stack`. -1, or the first row whose token there is not."""
    L, B = lanes(packed), len(y)
    layers, source_of_x, outputs, widest = plan[LAYERS], plan[SOURCE], plan[OUTPUTS], plan[WIDEST]
    if source_of_x != GIVEN:
        for m in range(B):
            if tokens[m] < 0 or tokens[m] >= plan[TOKENS]:
                return m
    x, before, after, y = in_a_row(x), in_a_row(before), in_a_row(after), in_a_row(y)
    # work, from a whole vector on: a layer's input, its state before and after, a_ih, then a_hh
    # and the rest; the dense layer's results lie from a_ih on
    block = B * widest
    size = 12 * block + B * ((outputs + L - 1) // L * L)
    room = np.empty(size + L, packed.dtype)
    work = room[-address(room, 0) // room.itemsize % L :]
    source, state, next_state, a_ih, a_hh = 0, block, 2 * block, 3 * block, 6 * block
    carried = 0
    for layer in range(layers):
        p = HEAD + 4 * layer
        I, H, reset_after, at = plan[p], plan[p + 1], plan[p + 2] != 0, plan[p + 3]  # noqa: E741
        U = (H + L - 1) // L * L
        J = U // L
        b_ih = at + 3 * U * (I + H)
        together = units_together(B, J, reset_after)
        if layer == 0 and source_of_x == PROJECTED:
            # into the order of `project`
            for m in range(B):
                for j in range(0, J, together):
                    n = 3 * L * min(together, J - j)
                    row = plan[TABLE] + tokens[m] * 3 * U + 3 * L * j
                    copy_row(packed, row, work, a_ih + 3 * L * j * B + n * m, n, n)
        else:
            here, row = address(work, source), (I + L - 1) // L * L
            if layer == 0 and source_of_x == GIVEN:
                here, row = address(x, 0), I
            elif layer == 0:
                for m in range(B):
                    copy_row(x, tokens[m] * I, work, source + m * row, I, I)
            project_inputs(here, row, packed, at, b_ih, I, B, 0, J, together, work, a_ih)
        for m in range(B):
            copy_row(before, carried + m * H, work, state + m * U, H, U)
        step(
            a_ih, B, 0, a_hh, work, state, next_state, a_hh + 5 * block, U, packed, -1, 0,
            nothing_masked(), 0, packed, at + 3 * U * I, H, B, reset_after, work, after, carried,
            0, J, 0, 0, 1, 0, 0,
        )  # fmt: skip
        for m in range(B):
            copy_row(work, next_state + m * U, after, carried + m * H, H, H)
        carried += B * H
        source, next_state = next_state, source
    if outputs:
        at = plan[HEAD + 4 * layers]
        V = (outputs + L - 1) // L * L
        product(
            address(work, source), U, packed, at, packed, at + V * H, 0,
            work, a_ih, V, B, V // L, H, 0, V // L,
        )  # fmt: skip
        for m in range(B):
            if plan[SOFTMAX]:
                _softmax(work, a_ih + m * V, outputs)
            copy_row(work, a_ih + m * V, y, m * outputs, outputs, outputs)
    return -1


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
        self.sizes, size = [], layers[0].W_ih.shape[-1] if embedding is None else embedding.shape[1]
        self.inputs = size
        for layer in layers:
            size = require_layer(*layer[:4], size, dtype)
            self.sizes.append(size)
        pieces = [pack_forward(*layer, dtype) for layer in layers]
        at, of_layers = 0, []
        for layer, piece in zip(layers, pieces, strict=True):
            H, I = layer.W_hh.shape[1], layer.W_ih.shape[1]  # noqa: E741
            of_layers += [I, H, int(layer.reset_after), at]
            at += len(piece)
        self.outputs = 0
        if dense is not None:
            W, b = dense
            require_rank("step", "W of the dense layer", W, ("outputs", size))
            self.outputs, H = W.shape
            if b is not None:
                require_rank("step", "b of the dense layer", b, (self.outputs,))
            piece = np.empty(padded(self.outputs, dtype) * (H + 1), dtype)
            bias = NOTHING[dtype] if b is None else flat(b, dtype)
            pack_dense(flat(W, dtype), bias, self.outputs, H, piece)
            pieces.append(piece)
        of_dense = at
        # what `stream` is given where it wants nothing
        self.tokens, self.x = np.empty(0, np.int64), np.empty((0, 0), dtype)
        table, source, V = 0, GIVEN, 0
        U = padded(self.sizes[0], dtype)
        if embedding is not None:
            V, E = embedding.shape
            if V * 3 * U * dtype.itemsize <= TABLE_BYTES:
                table, source = sum(map(len, pieces)), PROJECTED
                piece = np.empty(V * 3 * U, dtype)
                project(flat(embedding, dtype), pieces[0], piece, V, E, self.sizes[0])
                pieces.append(piece)
            else:
                source, self.x = LOOKED_UP, flat(embedding, dtype).reshape(V, E)
        self.by_token = embedding is not None
        self.packed = aligned(sum(map(len, pieces)), dtype)
        np.concatenate(pieces, out=self.packed)
        widest = max(padded(n, dtype) for n in [*self.sizes, self.inputs])
        settings = [len(layers), source, self.outputs, int(softmax), widest, V, table]
        self.plan = np.array([*settings, *of_layers, of_dense], np.int64)

    def step(self, x, states=None):
        """Advance by one step.

        Parameters
        ----------
        x : (B,) int token ids if there is an embedding, else (B, I)
        states : list of (B, H), optional
            One per GRU layer; None is zeros. Not modified.

        Returns
        -------
        y : (B, outputs), or (B, H) of the last layer without a dense one
        states : list of (B, H)

        Raises
        ------
        IndexError
            If a token is not in 0..V - 1.
        ValueError, TypeError
            If x or a state does not fit.
        """
        dtype, B, sizes = self.dtype, len(x), self.sizes
        tokens = self.tokens
        if self.by_token:
            tokens, x = flat(indices("step", "x", x, (B,)), self.tokens.dtype), self.x
        else:
            x = flat(np.asarray(x), dtype).reshape(B, self.inputs)
        if states is None:
            before = np.zeros((1, B * sum(sizes)), dtype)
        else:
            for state, H in zip(states, sizes, strict=True):
                require_rank("step", "state", np.asarray(state), (B, H))
            states = [flat(np.asarray(state), dtype) for state in states]
            before = (states[0] if len(states) == 1 else np.concatenate(states)).reshape(1, -1)
        if len(sizes) == 1:
            after = np.empty((B, sizes[0]), dtype)
            result = [after]
        else:
            after, result, at = np.empty((1, B * sum(sizes)), dtype), [], 0
            for H in sizes:
                result.append(after[0, at : at + B * H].reshape(B, H))
                at += B * H
        y = np.empty((B, self.outputs), dtype) if self.outputs else result[-1]
        wrong = stream(tokens, x, before, after, y, self.packed, self.plan)
        if wrong >= 0:
            raise IndexError(f"row {wrong}: there is no token {tokens[wrong]}")
        return y, result

    def next(self, x, before):
        """Do as `step` does, for a single layer and arrays that are in order already.

        Contiguous and writable, of the stack's dtype, ids int64. Where a token is not in 0..V - 1
        nothing is done.

        Returns
        -------
        y, after
            None, None if a token is not in 0..V - 1.
        """
        after = np.empty(before.shape, self.dtype)
        if self.by_token:
            tokens, x = x, self.x
        else:
            tokens = self.tokens
        y = np.empty((len(before), self.outputs), self.dtype) if self.outputs else after
        if stream(tokens, x, before, after, y, self.packed, self.plan) >= 0:
            return None, None
        return y, after
