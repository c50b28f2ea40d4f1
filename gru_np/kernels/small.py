"""The GRU for one row and one time step, compiled: the weights are read as they lie.

Packing pays when packed weights are used again. Here each is used once, so the forward pass turns
tiles of them in registers on the way into its sums, and the backward pass reads a row, adds its
share to dh or dx and writes the row of the gradient, all at once. Every element of a sum is the
same chain as in `recurrence`, so the bits are those of any other batch and any chunking of time.

Layouts are `recurrence`'s, of one row.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from gru_np.kernels._jit import entry, inner
from gru_np.kernels.matmul import INT64, address, clear, copy_row
from gru_np.kernels.recurrence import _candidate_before, _gates_before, _step_after
from gru_np.kernels.vector import (
    VECTORS,
    Emit,
    first_lanes,
    fma,
    gru_candidate_backward,
    gru_gates_backward,
    gru_step_backward,
    in_a_row,
    lanes,
    load,
    own_code,
    sigmoid_derivative,
    splat,
    store,
    tanh_derivative,
)


@intrinsic
def rows_times(typingctx, like, w, row, count, x, start, depth):
    """start[j] + sum over k of w[j, k] x[k] for a vector of rows j; first k first, each fused.

    w and x are addresses, rows lie `row` elements apart. Lanes from `count` on repeat the last row.
    """
    vector = VECTORS[like.dtype]

    def emit(context, builder, sig, args):
        _, w, row, count, x, start, depth = args
        e = Emit(context, builder, vector)
        n, half = e.lanes, e.lanes // 2
        const = lambda i: ir.Constant(INT64, i)  # noqa: E731
        at = lambda pointer, i: builder.gep(pointer, [i])  # noqa: E731
        mask = lambda m: ir.Constant(ir.VectorType(ir.IntType(32), len(m)), m)  # noqa: E731
        w0, x0 = (builder.inttoptr(p, e.element.as_pointer()) for p in (w, x))
        last = builder.sub(count, const(1))
        rows = []
        for j in range(n):
            inside = builder.icmp_signed("<", const(j), count)
            rows.append(at(w0, builder.mul(row, builder.select(inside, const(j), last))))
        half_type = ir.VectorType(e.element, half)

        def two_halves(j, k):
            """Row j's and, beside them, row j + half's next `half` numbers from k on."""
            parts = []
            for r in (j, j + half):
                part = builder.load(builder.bitcast(at(rows[r], k), half_type.as_pointer()))
                part.align = e.bits // 8
                parts.append(part)
            return builder.shuffle_vector(*parts, mask(list(range(n))))

        def turned(vectors):
            """Transpose the left and the right half of `half` vectors, each for itself."""
            step = 1
            while step < half:
                upper = [i if i & step == 0 else i - step + n for i in range(n)]
                lower = [i + step if i & step == 0 else i + n for i in range(n)]
                for m in range(half):
                    if m & step == 0:
                        pair = vectors[m], vectors[m + step]
                        vectors[m], vectors[m + step] = (
                            builder.shuffle_vector(*pair, mask(lanes)) for lanes in (upper, lower)
                        )
                step *= 2
            return vectors

        def loop(first, step, sums, body):
            """For k = first, first + step ... while a whole step is left; returns k and sums."""
            before = builder.block
            head, inside, done = map(builder.append_basic_block, ("head", "inside", "done"))
            builder.branch(head)
            builder.position_at_end(head)
            k, total = builder.phi(INT64), builder.phi(e.type)
            k.add_incoming(first, before)
            total.add_incoming(sums, before)
            more = builder.icmp_signed("<=", builder.add(k, const(step)), depth)
            builder.cbranch(more, inside, done)
            builder.position_at_end(inside)
            new = body(k, total)
            k.add_incoming(builder.add(k, const(step)), builder.block)
            total.add_incoming(new, builder.block)
            builder.branch(head)
            builder.position_at_end(done)
            return k, total

        def tile(k, total):
            for h in (0, half):
                columns = turned([two_halves(j, builder.add(k, const(h))) for j in range(half)])
                for i, column in enumerate(columns):
                    value = e.splat(builder.load(at(x0, builder.add(k, const(h + i)))))
                    total = e.fma(value, column, total)
            return total

        def column(k, total):
            value = ir.Constant(e.type, ir.Undefined)
            for j in range(n):
                element = builder.load(at(rows[j], k))
                value = builder.insert_element(value, element, ir.Constant(ir.IntType(32), j))
            return e.fma(e.splat(builder.load(at(x0, k))), value, total)

        k, total = loop(const(0), n, start, tile)
        return loop(k, 1, total, column)[1]

    index = types.intp
    return vector(like, index, index, index, index, vector, index), emit


@inner
def _affine(W, gates, first, rows, columns, bias, x, work, out, each, pad):
    """Pre-activations W x + b of some gates, interleaved by vector: out + each * vector + gate.

    `first` is the first row of W; x is an address; what lies beyond the last unit is zero.
    """
    own_code()
    L = lanes(work)
    for g in range(gates):
        for j in range(0, rows, L):
            count, row = min(L, rows - j), first + g * rows + j
            start = splat(work, 0)
            if len(bias):
                copy_row(bias, row, work, pad, count, L)
                start = load(work, pad)
            a = rows_times(work, address(W, row * columns), columns, count, x, start, columns)
            store(work, out + j // L * each + g * L, first_lanes(a, count))


@entry
def forward(x, h0, W_ih, W_hh, b_ih, b_hh, h, saved, reset_after):
    """Run `gru_np.recurrence.gru_forward` for T = B = 1; empty h0 and biases are zeros."""
    x, W_ih, W_hh = in_a_row(x), in_a_row(W_ih), in_a_row(W_hh)
    h0, h, saved = in_a_row(h0), in_a_row(h), in_a_row(saved)
    I, H, L = len(x), len(h) // 2, lanes(h)  # noqa: E741
    J = (H + L - 1) // L
    U = J * L
    work = np.empty(12 * U + L, h.dtype)
    before, after, a_ih, a_hh, r_z, a_hn, pad = 0, U, 2 * U, 5 * U, 8 * U, 11 * U, 12 * U
    if len(h0):
        copy_row(h0, 0, work, before, H, U)
    else:
        clear(work, before, U)
    to = 0 if len(saved) else -1
    here = address(work, before)
    _affine(W_ih, 3, 0, H, I, b_ih, address(x, 0), work, a_ih, 3 * L, pad)
    if reset_after:
        _affine(W_hh, 3, 0, H, H, b_hh, here, work, a_hh, 3 * L, pad)
        _step_after(a_ih, a_hh, work, work, before, after, U, saved, to, 4 * U, U, 1, J, h, H, H)
    else:
        _affine(W_hh, 2, 0, H, H, b_hh, here, work, a_hh, 2 * L, pad)
        rh = r_z + 2 * U
        _gates_before(a_ih, a_hh, work, before, rh, r_z, U, work)
        _affine(W_hh, 1, 2 * H, H, H, b_hh, address(work, rh), work, a_hn, L, pad)
        _candidate_before(a_ih, a_hn, work, before, after, r_z, U, saved, to, U, work)
    copy_row(work, before, h, 0, H, H)
    copy_row(work, after, h, H, H, H)


@inner
def _share(W, first, rows, columns, da, at, v, iv, dW, out, io):
    """out += da W and dW = da v for some rows of W: the ways back from a = W v to v and to W."""
    own_code()
    L = lanes(W)
    for j in range(0, rows, 4):
        # four rows at a time, so that `out` is read and written a quarter as often
        count = min(4, rows - j)
        p, q, r = min(1, count - 1), min(2, count - 1), min(3, count - 1)
        w = (first + j) * columns
        w1, w2, w3 = w + p * columns, w + q * columns, w + r * columns
        a = splat(da, da[at + j])
        a1, a2, a3 = splat(da, da[at + j + p]), splat(da, da[at + j + q]), splat(da, da[at + j + r])
        c = 0
        while c + L <= columns:
            value, s = load(v, iv + c), load(out, io + c)
            s = fma(a, load(W, w + c), s)
            store(dW, w + c, a * value)
            if count > 1:
                s = fma(a1, load(W, w1 + c), s)
                store(dW, w1 + c, a1 * value)
            if count > 2:
                s = fma(a2, load(W, w2 + c), s)
                store(dW, w2 + c, a2 * value)
            if count > 3:
                s = fma(a3, load(W, w3 + c), s)
                store(dW, w3 + c, a3 * value)
            store(out, io + c, s)
            c += L
        while c < columns:
            s = splat(out, out[io + c])
            for m in range(count):
                here = w + m * columns + c
                s = fma(splat(da, da[at + j + m]), splat(W, W[here]), s)
                dW[here] = da[at + j + m] * v[iv + c]
            store(out, io + columns // L * L + L, s)
            out[io + c] = out[io + columns // L * L + L]
            c += 1


@entry
def backward(dh, x, h, saved, W_ih, W_hh, dx, dh0, dW_ih, dW_hh, db_ih, db_hh, reset_after):
    """Run `gru_np.recurrence.gru_backward` for T = B = 1."""
    dh, x, h, saved = in_a_row(dh), in_a_row(x), in_a_row(h), in_a_row(saved)
    W_ih, dW_ih, W_hh, dW_hh = in_a_row(W_ih), in_a_row(dW_ih), in_a_row(W_hh), in_a_row(dW_hh)
    dx, dh0 = in_a_row(dx), in_a_row(dh0)
    I, H, L = len(x), len(dh0), lanes(h)  # noqa: E741
    U, V = (H + L - 1) // L * L, (I + L - 1) // L * L
    work = np.empty(9 * U + V + 4 * L, h.dtype)
    da, g, state, dz = 0, 4 * U, 5 * U, 6 * U
    drh, carry = 7 * U, 8 * U + L
    of_x = carry + U + 2 * L
    copy_row(dh, H, work, g, H, U)
    copy_row(h, 0, work, state, H, U)
    clear(work, of_x, of_x + V)
    # a_hh = W_hh h + b_hh
    if reset_after:
        for u in range(0, U, L):
            dh_t, da_r, da_z, da_in, da_hn = gru_step_backward(
                load(work, g + u), load(work, state + u), load(saved, U + u),
                load(saved, 2 * U + u), load(saved, u), load(saved, 3 * U + u),
                sigmoid_derivative, tanh_derivative,
            )  # fmt: skip
            store(work, carry + u, dh_t)
            store(work, da + u, da_in)
            store(work, da + U + u, da_r)
            store(work, da + 2 * U + u, da_z)
            store(work, da + 3 * U + u, da_hn)
        for k in range(3):
            _share(W_hh, k * H, H, H, work, da + (k + 1) * U, work, state, dW_hh, work, carry)
    else:
        for u in range(0, U, L):
            dh_t, dz_u, da_n = gru_candidate_backward(
                load(work, g + u), load(work, state + u), load(saved, 2 * U + u), load(saved, u),
                tanh_derivative,
            )  # fmt: skip
            store(work, carry + u, dh_t)
            store(work, dz + u, dz_u)
            store(work, da + u, da_n)
        # a_hn = W_hn rh + b_hn; rh takes the place of g
        for u in range(0, U, L):
            store(work, g + u, load(saved, U + u) * load(work, state + u))
        clear(work, drh, drh + U)
        _share(W_hh, 2 * H, H, H, work, da, work, g, dW_hh, work, drh)
        for u in range(0, U, L):
            dh_rh, da_r, da_z = gru_gates_backward(
                load(work, drh + u), load(work, dz + u), load(work, state + u),
                load(saved, U + u), load(saved, 2 * U + u), sigmoid_derivative,
            )  # fmt: skip
            store(work, carry + u, load(work, carry + u) + dh_rh)
            store(work, da + U + u, da_r)
            store(work, da + 2 * U + u, da_z)
        for k in range(2):
            _share(W_hh, k * H, H, H, work, da + (k + 1) * U, work, state, dW_hh, work, carry)
    for u in range(H):
        dh0[u] = dh[u] + work[carry + u]
    # a_ih = W_ih x + b_ih, its rows as n, r, z
    for k in range(3):
        _share(W_ih, (k + 2) % 3 * H, H, I, work, da + k * U, x, 0, dW_ih, work, of_x)
    copy_row(work, of_x, dx, 0, I, I)
    for k in range(3):
        copy_row(work, da + (k + 1) % 3 * U, db_ih, k * H, H, H)
        copy_row(work, da + (k + 1 if reset_after or k < 2 else 0) * U, db_hh, k * H, H, H)
