"""The GRU over time, compiled: `gru_np.recurrence` fused into loops over packed panels.

The mathematics is `gru_np.equations`, through `vector`. What is added here is the order of work:

- Weights are packed once per call. Inputs are projected a few steps ahead, for as many steps as
  keep the result in cache; the loop over time then needs one product a step (two if the reset comes
  before) and one pass over the gates.
- The batch is cut in blocks of rows that go through all of time one after the other, so a
  block's state and pre-activations stay in the first caches.
- Going back, the loop leaves the gradients of the pre-activations, and the input and weight
  gradients are products over all steps, cut by rows of dx and by units of the weights.

Layouts, with U units: H rounded up to whole vectors of L lanes. The three parts of a pre-activation
row are interleaved by vector, r z n r z n ..., as the panels produce them. What is saved, and its
gradient, are rows [n | r | z | a_hn] of U each (without a_hn if the reset comes before), so the
gradients on the input's side, n r z, are neighbours, and so are those on the state's side, r z hn.
"""

from gru_np.kernels._jit import entry, inner
from gru_np.kernels.matmul import (
    DEPTH,
    ROWS,
    address,
    clear,
    copy_row,
    pack_rows,
    pack_slices,
    pack_transposed,
    product,
    sweep,
    tile_packed,
    transpose_tile,
)
from gru_np.kernels.vector import (
    first_lanes,
    gru_candidate,
    gru_candidate_backward,
    gru_gates,
    gru_gates_backward,
    gru_step,
    gru_step_backward,
    lanes,
    load,
    load_pair,
    own_code,
    sigmoid,
    sigmoid_derivative,
    splat,
    store,
    store_pair,
    tanh,
    tanh_derivative,
)


@inner
def _pack_bias(bias, gates, first, H, packed, at):
    """Pack a bias like the columns of its matrix; an empty one is zeros."""
    own_code()
    L = lanes(packed)
    if len(bias):
        return pack_transposed(bias, first * H, 1, gates, H, 1, packed, at)
    end = at + gates * ((H + L - 1) // L) * L
    clear(packed, at, end)
    return end


# Vectors of units that go through product and gates together: 24 KiB of sums on AVX2; fewer would
# begin and end the gates' long chain of operations too often.
TOGETHER = 256


@entry
def pack_forward(W_ih, W_hh, b_ih, b_hh, I, H, reset_after, packed):  # noqa: E741
    """Pack all that a forward pass multiplies by or adds: input side, then hidden side."""
    at = pack_transposed(W_ih, 0, I, 3, H, I, packed, 0)
    if reset_after:
        at = pack_transposed(W_hh, 0, H, 3, H, H, packed, at)
    else:
        at = pack_transposed(W_hh, 0, H, 2, H, H, packed, at)
        at = pack_transposed(W_hh, 2 * H * H, H, 1, H, H, packed, at)
    at = _pack_bias(b_ih, 3, 0, H, packed, at)
    if reset_after:
        at = _pack_bias(b_hh, 3, 0, H, packed, at)
    else:
        at = _pack_bias(b_hh, 2, 0, H, packed, at)
        at = _pack_bias(b_hh, 1, 2, H, packed, at)


@inner
def _step_after(a_ih, a_hh, work, before, after, apart, saved, at, saved_apart, U, count):
    """Run `count` vectors of units, reset after the product: state `before` -> `after`, and saved.

    Pre-activations follow each other, states lie `apart`, what is saved (nothing if at < 0)
    `saved_apart`. Two vectors at a time; the last of an odd number pairs with itself.
    """
    own_code()
    L = lanes(work)
    for q in range(0, count, 2):
        p = min(q + 1, count - 1)
        x, next_x, y, next_y = (
            a_ih + 3 * L * q,
            a_ih + 3 * L * p,
            a_hh + 3 * L * q,
            a_hh + 3 * L * p,
        )
        a_hn = load_pair(work, y + 2 * L, next_y + 2 * L)
        h_next, r, z, n = gru_step(
            load_pair(work, x, next_x), load_pair(work, x + L, next_x + L),
            load_pair(work, x + 2 * L, next_x + 2 * L),
            load_pair(work, y, next_y), load_pair(work, y + L, next_y + L), a_hn,
            load_pair(work, before + q * apart, before + p * apart), sigmoid, tanh,
        )  # fmt: skip
        store_pair(work, after + q * apart, after + p * apart, h_next)
        if at >= 0:
            u, v = at + q * saved_apart, at + p * saved_apart
            store_pair(saved, u, v, n)
            store_pair(saved, u + U, v + U, r)
            store_pair(saved, u + 2 * U, v + 2 * U, z)
            store_pair(saved, u + 3 * U, v + 3 * U, a_hn)


@inner
def _gates_before(a_ih, a_hh, state, r_z, H, work):
    """First half of a step, reset before: r, z and r h into three rows at r_z."""
    own_code()
    L = lanes(work)
    U = (H + L - 1) // L * L
    for u in range(0, U, 2 * L):
        v = min(u + L, U - L)
        x, y, next_x, next_y = a_ih + 3 * u, a_hh + 2 * u, a_ih + 3 * v, a_hh + 2 * v
        r, z, rh = gru_gates(
            load_pair(work, x, next_x), load_pair(work, x + L, next_x + L),
            load_pair(work, y, next_y), load_pair(work, y + L, next_y + L),
            load_pair(work, state + u, state + v), sigmoid,
        )  # fmt: skip
        store_pair(work, r_z + u, r_z + v, r)
        store_pair(work, r_z + U + u, r_z + U + v, z)
        store_pair(work, r_z + 2 * U + u, r_z + 2 * U + v, rh)


@inner
def _candidate_before(a_ih, a_hn, state, after, r_z, saved, at, H, work):
    """Second half of a step, reset before."""
    own_code()
    L = lanes(work)
    U = (H + L - 1) // L * L
    for u in range(0, U, 2 * L):
        v = min(u + L, U - L)
        z = load_pair(work, r_z + U + u, r_z + U + v)
        h_next, n = gru_candidate(
            load_pair(work, a_ih + 3 * u + 2 * L, a_ih + 3 * v + 2 * L),
            load_pair(work, a_hn + u, a_hn + v), z,
            load_pair(work, state + u, state + v), tanh,
        )  # fmt: skip
        store_pair(work, after + u, after + v, h_next)
        if at >= 0:
            store_pair(saved, at + u, at + v, n)
            store_pair(saved, at + U + u, at + U + v, load_pair(work, r_z + u, r_z + v))
            store_pair(saved, at + 2 * U + u, at + 2 * U + v, z)


@inner
def units_together(rows, J, reset_after):
    """Return how many vectors of units go through product and gates together, of J.

    For many rows a few panels, whose pre-activations the gates still find in the first cache. For
    few rows, and where the reset stands between two products, all.
    """
    return min(J, max(1, TOGETHER // rows)) if reset_after and rows > 2 else J


@inner
def project(x, x_row, packed, at, bias, I, U, rows, together, work, a_ih):  # noqa: E741
    """a_ih = W_ih x + b_ih, in the order [units / `together`][row][vector][gate][lane]."""
    own_code()
    L = lanes(work)
    J = U // L
    for j in range(0, J, together):
        n = min(together, J - j)
        product(
            x, x_row, packed, at, packed, bias, 0,
            work, a_ih + 3 * L * j * (rows - 1), 3 * L * n, rows, 3 * J, I, 3 * j, 3 * (j + n),
        )  # fmt: skip


@inner
def step(
    a_ih, of, first, a_hh, before, after, state_row, saved, at, saved_row, valid, iv, packed, hh, H,
    rows, reset_after, s,
):  # fmt: skip
    """One step of a block of rows: one place for every way to run forward.

    In `s` lie a_ih, as `project` left it for `of` rows, of which these are from `first` on; a_hh,
    scratch of 6 U a row; and states, `state_row` apart, from `before` to `after`. Row m saves at
    `at` + m * saved_row unless at < 0; valid[iv + m] says whether it counts.
    """
    own_code()
    L = lanes(s)
    J = (H + L - 1) // L
    U = J * L
    bias = hh + 3 * U * (H + 1)
    h = address(s, before)
    if reset_after:
        together = units_together(rows, J, True)
        groups = (J + together - 1) // together
        # the states change places at every step, and so does the order of units
        back = before > after
        for group in range(groups):
            j = (groups - 1 - group if back else group) * together
            n = min(together, J - j)
            sweep(
                back, h, state_row, packed, hh, packed, bias, 0,
                s, a_hh - 3 * L * j, 3 * L * n, rows, 3 * J, H, 3 * j, 3 * (j + n),
            )  # fmt: skip
            x, to = a_ih + 3 * L * (j * of + first * n), -1
            here, there = before + j * L, after + j * L
            if n == 1:
                if at >= 0:
                    to = at + j * L
                _step_after(x, a_hh, s, here, there, state_row, saved, to, saved_row, U, rows)
            else:
                for m in range(rows):
                    if at >= 0:
                        to = at + j * L + m * saved_row
                    _step_after(
                        x + 3 * L * n * m, a_hh + 3 * L * n * m, s, here + m * state_row,
                        there + m * state_row, L, saved, to, L, U, n,
                    )  # fmt: skip
    else:
        product(h, state_row, packed, hh, packed, bias, 0, s, a_hh, 2 * U, rows, 2 * J, H, 0, 2 * J)
        r_z, a_hn = a_hh + 2 * U * rows, a_hh + 5 * U * rows
        x = a_ih + 3 * U * first
        for m in range(rows):
            _gates_before(
                x + m * 3 * U, a_hh + m * 2 * U, before + m * state_row, r_z + m * 3 * U, H, s
            )
        product(
            address(s, r_z + 2 * U), 3 * U, packed, hh + 2 * U * H, packed, bias + 2 * U, 0,
            s, a_hn, U, rows, J, H, 0, J,
        )  # fmt: skip
        for m in range(rows):
            to = at + m * saved_row if at >= 0 else -1
            _candidate_before(
                x + m * 3 * U, a_hn + m * U, before + m * state_row, after + m * state_row,
                r_z + m * 3 * U, saved, to, H, s,
            )  # fmt: skip
    if len(valid):
        for m in range(rows):
            if not valid[iv + m]:
                # h[t + 1] = h[t]; what was saved is never used, but is defined
                copy_row(s, before + m * state_row, s, after + m * state_row, U, U)
                if at >= 0:
                    clear(saved, at + m * saved_row, at + (m + 1) * saved_row)


@entry
def forward(
    x, x_time, x_batch, h, saved, packed, valid, T, B, I, H, low, high,  # noqa: E741
    reset_after, block, chunk, scratch,
):  # fmt: skip
    """Run `gru_np.recurrence.gru_forward` for the batch rows low..high; h[0] is already there.

    x[t, b] begins at t * x_time + b * x_batch. An empty `saved` saves nothing, an empty `valid`
    masks nothing. `block` rows go through time together, their inputs `chunk` steps at a time.
    """
    L = lanes(h)
    J = (H + L - 1) // L
    U = J * L
    saved_row = (4 if reset_after else 3) * U
    hh = 3 * U * I
    b_ih = hh + 3 * U * H
    # Rows as far apart as a power of two would share few places in the first cache.
    state_row = U + 2 * L
    state, a_hh = 0, 2 * block * state_row
    a_ih = a_hh + 6 * block * U
    copies = a_ih + 3 * U * block * chunk
    for r0 in range(low, high, block):
        rows = min(block, high - r0)
        together = units_together(rows, J, reset_after)
        before, after = state, state + block * state_row
        for m in range(rows):
            copy_row(h, (r0 + m) * H, scratch, before + m * state_row, H, U)
        for t0 in range(0, T, chunk):
            steps = min(chunk, T - t0)
            # a_ih = W_ih x + b_ih
            rows_of_x, x_row = address(x, t0 * x_time + r0 * x_batch), x_batch
            if rows == 1:
                x_row = x_time
            elif x_time != rows * x_batch and steps > 1:
                for s in range(steps):
                    for m in range(rows):
                        source = (t0 + s) * x_time + (r0 + m) * x_batch
                        copy_row(x, source, scratch, copies + (s * rows + m) * I, I, I)
                rows_of_x, x_row = address(scratch, copies), I
            project(rows_of_x, x_row, packed, 0, b_ih, I, U, steps * rows, together, scratch, a_ih)
            for t in range(t0, t0 + steps):
                at = (t * B + r0) * saved_row if len(saved) else -1
                step(
                    a_ih, steps * rows, (t - t0) * rows, a_hh, before, after, state_row,
                    saved, at, saved_row,
                    valid, t * B + r0, packed, hh, H, rows, reset_after, scratch,
                )  # fmt: skip
                before, after = after, before
                for m in range(rows):
                    copy_row(scratch, before + m * state_row, h, ((t + 1) * B + r0 + m) * H, H, H)


@entry
def pack_backward(W_ih, W_hh, I, H, reset_after, packed):  # noqa: E741
    """Pack the weights as the gradients multiply by them: hidden side, then input side."""
    if reset_after:
        at = pack_rows(W_hh, 0, H, 3, H, H, 0, packed, 0)
    else:
        at = pack_rows(W_hh, 0, H, 2, H, H, 0, packed, 0)
        at = pack_rows(W_hh, 2 * H * H, H, 1, H, H, 0, packed, at)
    # da_ih lies as n, r, z
    pack_rows(W_ih, 0, I, 3, H, I, 2, packed, at)


@inner
def _back_after(g, h, carry, saved, da, H, grads, work):
    """All units of one row, reset after: gradient of `_step_after`, and dh's direct path."""
    own_code()
    L = lanes(work)
    U = (H + L - 1) // L * L
    for u in range(0, U, L):
        dh_t, da_r, da_z, da_in, da_hn = gru_step_backward(
            load(work, g + u) + load(work, carry + u), load(work, h + u),
            load(saved, da + U + u), load(saved, da + 2 * U + u), load(saved, da + u),
            load(saved, da + 3 * U + u), sigmoid_derivative, tanh_derivative,
        )  # fmt: skip
        store(work, carry + u, dh_t)
        store(grads, da + u, da_in)
        store(grads, da + U + u, da_r)
        store(grads, da + 2 * U + u, da_z)
        store(grads, da + 3 * U + u, da_hn)


@inner
def _back_candidate(g, h, carry, dz, saved, da, H, grads, work):
    """Gradient of `_candidate_before`: da_n, dz and dh's direct path."""
    own_code()
    L = lanes(work)
    U = (H + L - 1) // L * L
    for u in range(0, U, L):
        dh_t, dz_u, da_n = gru_candidate_backward(
            load(work, g + u) + load(work, carry + u), load(work, h + u),
            load(saved, da + 2 * U + u), load(saved, da + u), tanh_derivative,
        )  # fmt: skip
        store(work, carry + u, dh_t)
        store(work, dz + u, dz_u)
        store(grads, da + u, da_n)


@inner
def _back_gates(drh, h, carry, dz, saved, da, H, grads, work):
    """Gradient of `_gates_before`: da_r, da_z, and dh's path through r h added to carry."""
    own_code()
    L = lanes(work)
    U = (H + L - 1) // L * L
    for u in range(0, U, L):
        dh_rh, da_r, da_z = gru_gates_backward(
            load(work, drh + u), load(work, dz + u), load(work, h + u),
            load(saved, da + U + u), load(saved, da + 2 * U + u), sigmoid_derivative,
        )  # fmt: skip
        store(work, carry + u, load(work, carry + u) + dh_rh)
        store(grads, da + U + u, da_r)
        store(grads, da + 2 * U + u, da_z)


@inner
def _clear_tail(array, at, parts, H):
    """Zero the lanes beyond the last unit: 0 * inf from a huge input may have made them NaN."""
    L = lanes(array)
    U = (H + L - 1) // L * L
    if U > H:
        for part in range(parts):
            last = at + part * U + U - L
            store(array, last, first_lanes(load(array, last), H - U + L))


@entry
def backward(
    dh, h, saved, packed, valid, da, dh0, T, B, H, low, high, reset_after, block, work
):  # fmt: skip
    """Run the loop of `gru_np.recurrence.gru_backward` for the batch rows low..high."""
    L = lanes(h)
    J = (H + L - 1) // L
    U = J * L
    parts = 4 if reset_after else 3
    row = parts * U
    carry, states = 0, block * U
    g, dz, drh = 2 * block * U, 3 * block * U, 4 * block * U
    for r0 in range(low, high, block):
        rows = min(block, high - r0)
        clear(work, carry, carry + rows * U)
        for t in range(T - 1, -1, -1):
            first = (t * B + r0) * row
            for m in range(rows):
                b, c = t * B + r0 + m, carry + m * U
                copy_row(dh, (b + B) * H, work, g + m * U, H, U)
                if len(valid) and not valid[b]:
                    # h[t + 1] = h[t]
                    for u in range(0, U, L):
                        store(work, c + u, load(work, c + u) + load(work, g + m * U + u))
                        store(work, dz + m * U + u, splat(work, 0))
                    clear(da, b * row, (b + 1) * row)
                    clear(work, states + m * U, states + (m + 1) * U)
                    continue
                copy_row(h, b * H, work, states + m * U, H, U)
                if reset_after:
                    _back_after(g + m * U, states + m * U, c, saved, b * row, H, da, work)
                    _clear_tail(da, b * row, 4, H)
                else:
                    _back_candidate(
                        g + m * U, states + m * U, c, dz + m * U, saved, b * row, H, da, work
                    )
                    _clear_tail(da, b * row, 1, H)
                    _clear_tail(work, dz + m * U, 1, H)
                _clear_tail(work, c, 1, H)
            if reset_after:
                # a_hh = h[t] @ W_hh.T
                sweep(
                    t % 2 == 1, address(da, first + U), row, packed, 0, work, carry, U,
                    work, carry, U, rows, J, 3 * U, 0, J,
                )  # fmt: skip
            else:
                # a_hn[t] = rh @ W_hn.T + b_hn
                clear(work, drh, drh + rows * U)
                product(
                    address(da, first), row, packed, 2 * U * U, work, drh, U,
                    work, drh, U, rows, J, U, 0, J,
                )  # fmt: skip
                for m in range(rows):
                    b = t * B + r0 + m
                    if len(valid) == 0 or valid[b]:
                        _back_gates(
                            drh + m * U, states + m * U, carry + m * U, dz + m * U,
                            saved, b * row, H, da, work,
                        )  # fmt: skip
                        _clear_tail(da, b * row + U, 2, H)
                        _clear_tail(work, carry + m * U, 1, H)
                # a_hr, a_hz = np.split(h[t] @ W_hr_hz.T + b_hr_hz, 2, axis=-1)
                product(
                    address(da, first + U), row, packed, 0, work, carry, U,
                    work, carry, U, rows, J, 2 * U, 0, J,
                )  # fmt: skip
        for m in range(rows):
            b = r0 + m
            for u in range(H):
                dh0[b * H + u] = dh[b * H + u] + work[carry + m * U + u]


@entry
def input_gradient(da, packed, valid, dx, H, I, low, high, reset_after, block, work):  # noqa: E741
    """dx = da_ih @ W_ih for the rows low..high of T * B; zero at masked steps."""
    L = lanes(da)
    U, V = (H + L - 1) // L * L, (I + L - 1) // L * L
    row = (4 if reset_after else 3) * U
    at = 3 * U * U
    clear(work, 0, V)
    for r0 in range(low, high, block):
        rows = min(block, high - r0)
        product(
            address(da, r0 * row), row, packed, at, work, 0, 0,
            work, V, V, rows, V // L, 3 * U, 0, V // L,
        )  # fmt: skip
        for m in range(rows):
            if len(valid) and not valid[r0 + m]:
                clear(dx, (r0 + m) * I, (r0 + m + 1) * I)
            else:
                copy_row(work, V + m * V, dx, (r0 + m) * I, I, I)


@inner
def _pack_panel(da, r, z, n, row, depth, panel, at, bias, ib):
    """Make a panel [k][r z n] of one vector of units of da's rows; add its sums to a bias."""
    own_code()
    L = lanes(da)
    total_r, total_z, total_n = load(bias, ib), load(bias, ib + L), load(bias, ib + 2 * L)
    for k in range(depth):
        da_r, da_z, da_n = load(da, r + k * row), load(da, z + k * row), load(da, n + k * row)
        to = at + k * 3 * L
        store(panel, to, da_r)
        store(panel, to + L, da_z)
        store(panel, to + 2 * L, da_n)
        total_r, total_z, total_n = total_r + da_r, total_z + da_z, total_n + da_n
    store(bias, ib, total_r)
    store(bias, ib + L, total_z)
    store(bias, ib + 2 * L, total_n)


@inner
def _pack_hn(da, hn, row, depth, panel, at, bias, ib):
    """Put hn in the place of n in a panel; add its sum to a bias."""
    own_code()
    L = lanes(da)
    total = load(bias, ib)
    for k in range(depth):
        da_hn = load(da, hn + k * row)
        store(panel, at + k * 3 * L, da_hn)
        total = total + da_hn
    store(bias, ib, total)


@inner
def _products(slices, first, stride, columns, panel, width, begun, start, sums, at, depth):
    """sums[c, :width vectors] += slices^T panel for every column c of x or h.

    Sums not yet begun start from the zeros at `start`.
    """
    own_code()
    L = lanes(sums)
    for c in range(0, columns, ROWS):
        here = address(sums, at + c * 3 * L)
        tile_packed(
            min(ROWS, columns - c), width, sums, address(slices, first + c // ROWS * stride), 0,
            panel, 0, here if begun else start, 3 * L if begun else 0, here, 3 * L, depth,
        )  # fmt: skip


@inner
def _unpack(sums, at, columns, j, H, out):
    """Gradients of unit block j, [column][gate][lane], to rows of a (3H, columns) array."""
    own_code()
    L = lanes(sums)
    count = min(L, H - j * L)
    for g in range(3):
        source, target = at + g * L, (g * H + j * L) * columns
        c = 0
        if count == L:
            while c + L <= columns:
                transpose_tile(sums, source + c * 3 * L, 3 * L, out, target + c, columns)
                c += L
        while c < columns:
            for lane in range(count):
                out[target + lane * columns + c] = sums[source + c * 3 * L + lane]
            c += 1


@entry
def weight_gradient(
    x, x_time, x_batch, h, saved, da, valid, T, B, I, H, reset_after, first, last,  # noqa: E741
    dW_ih, dW_hh, db_ih, db_hh, sums, slices,
):  # fmt: skip
    """dW_ih = da_ih^T x, dW_hh = da_hh^T h and the bias sums, for the unit blocks first..last.

    Rows of T * B in order, so no bit depends on how blocks are shared among threads.
    """
    L = lanes(h)
    J = (H + L - 1) // L
    U = J * L
    row = (4 if reset_after else 3) * U
    each = 3 * L * (I + H + 2)
    hidden, bias = 3 * L * I, 3 * L * (I + H)
    stride = DEPTH * ROWS
    of_h = (I + ROWS - 1) // ROWS * stride
    of_rh = of_h + (H + ROWS - 1) // ROWS * stride
    panel = of_rh + (H + ROWS - 1) // ROWS * stride
    zeros = panel + 3 * L * DEPTH
    rows_at = zeros + 3 * L
    clear(slices, zeros, rows_at)
    start = address(slices, zeros)
    for j in range(first, last):
        # the others begin with the first product, if there is one
        clear(sums, j * each + (bias if T * B else 0), (j + 1) * each)
    for k0 in range(0, T * B, DEPTH):
        depth = min(DEPTH, T * B - k0)
        if len(valid) or x_batch != I:
            # masked x may be NaN, and 0 * NaN is NaN: make it zero
            for k in range(depth):
                to = rows_at + k * I
                if len(valid) and not valid[k0 + k]:
                    clear(slices, to, to + I)
                else:
                    t, b = (k0 + k) // B, (k0 + k) % B
                    copy_row(x, t * x_time + b * x_batch, slices, to, I, I)
            pack_slices(slices, rows_at, I, depth, I, slices, 0, stride)
        else:
            pack_slices(x, k0 * I, I, depth, I, slices, 0, stride)
        pack_slices(h, k0 * H, H, depth, H, slices, of_h, stride)
        if not reset_after:
            # the n rows of W_hh saw r h instead of h
            for k in range(depth):
                to, r = rows_at + k * U, (k0 + k) * row + U
                copy_row(h, (k0 + k) * H, slices, to, H, U)
                for u in range(0, U, L):
                    store(slices, to + u, load(saved, r + u) * load(slices, to + u))
            pack_slices(slices, rows_at, U, depth, H, slices, of_rh, stride)
        for j in range(first, last):
            at, da_j = j * each, k0 * row + j * L
            to_hh, b_ih, b_hh = at + hidden, at + bias, at + bias + 3 * L
            here, of_n = address(slices, panel), address(slices, panel + 2 * L)
            # a_ih = W_ih x + b_ih
            _pack_panel(da, da_j + U, da_j + 2 * U, da_j, row, depth, slices, panel, sums, b_ih)
            _products(slices, 0, stride, I, here, 3, k0 > 0, start, sums, at, depth)
            # a_hh = W_hh h + b_hh
            if reset_after:
                _pack_hn(da, da_j + 3 * U, row, depth, slices, panel + 2 * L, sums, b_hh + 2 * L)
                _products(slices, of_h, stride, H, here, 3, k0 > 0, start, sums, to_hh, depth)
            else:
                _products(slices, of_h, stride, H, here, 2, k0 > 0, start, sums, to_hh, depth)
                _products(
                    slices, of_rh, stride, H, of_n, 1, k0 > 0, start, sums, to_hh + 2 * L, depth
                )
    for j in range(first, last):
        # r and z, and n if the reset comes before, have one sum for both biases
        at = j * each + bias
        copy_row(sums, at, sums, at + 3 * L, 2 * L if reset_after else 3 * L, 0)
    for j in range(first, last):
        at = j * each
        _unpack(sums, at, I, j, H, dW_ih)
        _unpack(sums, at + hidden, H, j, H, dW_hh)
        _unpack(sums, at + bias, 1, j, H, db_ih)
        _unpack(sums, at + bias + 3 * L, 1, j, H, db_hh)
