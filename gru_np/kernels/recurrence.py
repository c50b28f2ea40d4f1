"""The GRU over time, compiled: `gru_np.recurrence` fused into loops over packed panels.

The mathematics is `gru_np.equations`, through `vector`. What is added here is the order of work:

- Weights are packed once per call. Inputs are projected a few steps ahead, for as many steps as
  keep the result in cache; the loop over time then needs one product a step (two if the reset comes
  before) and one pass over the gates.
- The batch is cut in blocks of rows that go through all of time one after the other, so a
  block's state and pre-activations stay in the first caches.
- Going back, the loop leaves the gradients of the pre-activations of a chunk of steps, and the
  input and weight gradients are products over the chunk while it is in cache, cut by rows of dx and
  by units of the weights.

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
    pack_units,
    product,
    sweep,
    tile_packed,
    transpose_tile,
)
from gru_np.kernels.meetings import OFTEN, arrive, dissolve, dissolved, finish, meet, wait
from gru_np.kernels.vector import (
    first_lanes,
    gru_candidate,
    gru_candidate_backward,
    gru_gates,
    gru_gates_backward,
    gru_step,
    gru_step_backward,
    in_a_row,
    lanes,
    load,
    load_pair,
    own_code,
    prefetch,
    sigmoid,
    sigmoid_derivative,
    store,
    store_pair,
    tanh,
    tanh_derivative,
)


@inner
def _pack(w, first, gates, H, begin, end, depth, packed, at):
    """Pack the vectors begin..end of units of the gates from `first` on, each where it belongs.

    An empty w is zeros. Returns where the packing of all units ends.
    """
    own_code()
    L = lanes(packed)
    each = gates * L * depth
    if len(w):
        pack_units(
            w, first * H * depth, depth, gates, H, begin, end, depth, packed, at + begin * each
        )
    else:
        clear(packed, at + begin * each, at + end * each)
    return at + (H + L - 1) // L * each


# Vectors of units that go through product and gates together: 24 KiB of sums on AVX2; fewer would
# begin and end the gates' long chain of operations too often.
TOGETHER = 256


@inner
def _pack_part(W_ih, W_hh, b_ih, b_hh, I, H, reset_after, begin, end, packed):  # noqa: E741
    """Pack the vectors begin..end of units; see `pack_forward`."""
    own_code()
    at = _pack(W_ih, 0, 3, H, begin, end, I, packed, 0)
    if reset_after:
        at = _pack(W_hh, 0, 3, H, begin, end, H, packed, at)
    else:
        at = _pack(W_hh, 0, 2, H, begin, end, H, packed, at)
        at = _pack(W_hh, 2, 1, H, begin, end, H, packed, at)
    at = _pack(b_ih, 0, 3, H, begin, end, 1, packed, at)
    if reset_after:
        at = _pack(b_hh, 0, 3, H, begin, end, 1, packed, at)
    else:
        at = _pack(b_hh, 0, 2, H, begin, end, 1, packed, at)
        at = _pack(b_hh, 2, 1, H, begin, end, 1, packed, at)


@entry
def pack_forward(W_ih, W_hh, b_ih, b_hh, I, H, reset_after, packed):  # noqa: E741
    """Pack all that a forward pass multiplies by or adds: input side, then hidden side."""
    W_ih, W_hh = in_a_row(W_ih), in_a_row(W_hh)
    L = lanes(packed)
    _pack_part(W_ih, W_hh, b_ih, b_hh, I, H, reset_after, 0, (H + L - 1) // L, packed)


@inner
def _step_after(
    a_ih, a_hh, work, states, before, after, state_row, saved, at, saved_row, U, rows, count, h,
    out, H,
):  # fmt: skip
    """Run `count` vectors of units of some rows, reset after the product: the new state, and saved.

    Pre-activations follow each other. Row m goes from `before` + m * state_row to `after` + as
    much, and saves at `at` + m * saved_row, or nothing if at < 0. Two vectors at a time, the first
    of a row with the last of the one before if need be; the very last may pair with itself. Memory
    for rows of H numbers from h[out] on is asked for.
    """
    own_code()
    L = lanes(work)
    m, v = 0, 0
    for x in range(0, 3 * L * rows * count, 6 * L):
        next_m, next_v, next_x = m, v + 1, x + 3 * L
        if next_v == count:
            next_m, next_v = m + 1, 0
        if next_m == rows:
            next_m, next_v, next_x = m, v, x
        here, there = m * state_row + v * L, next_m * state_row + next_v * L
        y, next_y, x, next_x = a_hh + x, a_hh + next_x, a_ih + x, a_ih + next_x
        a_hn = load_pair(work, y + 2 * L, next_y + 2 * L)
        h_next, r, z, n = gru_step(
            load_pair(work, x, next_x), load_pair(work, x + L, next_x + L),
            load_pair(work, x + 2 * L, next_x + 2 * L),
            load_pair(work, y, next_y), load_pair(work, y + L, next_y + L), a_hn,
            load_pair(states, before + here, before + there), sigmoid, tanh,
        )  # fmt: skip
        store_pair(states, after + here, after + there, h_next)
        prefetch(h, out + m * H + v * L)
        prefetch(h, out + next_m * H + next_v * L)
        if at >= 0:
            p, q = at + m * saved_row + v * L, at + next_m * saved_row + next_v * L
            store_pair(saved, p, q, n)
            store_pair(saved, p + U, q + U, r)
            store_pair(saved, p + 2 * U, q + 2 * U, z)
            store_pair(saved, p + 3 * U, q + 3 * U, a_hn)
        m, v = next_m, next_v + 1
        if v == count:
            m, v = m + 1, 0


@inner
def _gates_before(a_ih, a_hh, states, state, rh, r_z, U, work):
    """First half of a step for U units, reset before: r and z into rows at r_z, r h into states."""
    own_code()
    L = lanes(work)
    for u in range(0, U, 2 * L):
        v = min(u + L, U - L)
        x, y, next_x, next_y = a_ih + 3 * u, a_hh + 2 * u, a_ih + 3 * v, a_hh + 2 * v
        r, z, r_h = gru_gates(
            load_pair(work, x, next_x), load_pair(work, x + L, next_x + L),
            load_pair(work, y, next_y), load_pair(work, y + L, next_y + L),
            load_pair(states, state + u, state + v), sigmoid,
        )  # fmt: skip
        store_pair(work, r_z + u, r_z + v, r)
        store_pair(work, r_z + U + u, r_z + U + v, z)
        store_pair(states, rh + u, rh + v, r_h)


@inner
def _candidate_before(a_ih, a_hn, states, state, after, r_z, U, saved, at, apart, work):
    """Second half of a step for U units, reset before; n, r and z are saved `apart`."""
    own_code()
    L = lanes(work)
    for u in range(0, U, 2 * L):
        v = min(u + L, U - L)
        z = load_pair(work, r_z + U + u, r_z + U + v)
        h_next, n = gru_candidate(
            load_pair(work, a_ih + 3 * u + 2 * L, a_ih + 3 * v + 2 * L),
            load_pair(work, a_hn + u, a_hn + v), z,
            load_pair(states, state + u, state + v), tanh,
        )  # fmt: skip
        store_pair(states, after + u, after + v, h_next)
        if at >= 0:
            p, q = at + u, at + v
            store_pair(saved, p, q, n)
            store_pair(saved, p + apart, q + apart, load_pair(work, r_z + u, r_z + v))
            store_pair(saved, p + 2 * apart, q + 2 * apart, z)


@inner
def units_together(rows, J, reset_after):
    """Return how many vectors of units go through product and gates together, of J.

    For many rows a few panels, whose pre-activations the gates still find in the first cache. For
    few rows, and where the reset stands between two products, all.
    """
    return max(1, min(J, TOGETHER // rows) if reset_after and rows > 2 else J)


@inner
def project(
    x, x_row, packed, at, bias, I, rows, first, last, together, work, a_ih  # noqa: E741
):  # fmt: skip
    """a_ih = W_ih x + b_ih of the vectors first..last of units, packed as a matrix of their own.

    In the order [units / `together`][row][vector][gate][lane].
    """
    own_code()
    L = lanes(work)
    J = last - first
    at, bias = at + 3 * L * first * I, bias + 3 * L * first
    for j in range(0, J, together):
        n = min(together, J - j)
        product(
            x, x_row, packed, at, packed, bias, 0,
            work, a_ih + 3 * L * j * (rows - 1), 3 * L * n, rows, 3 * J, I, 3 * j, 3 * (j + n),
        )  # fmt: skip


@inner
def step(
    a_ih, of, row, a_hh, states, before, after, rh, state_row, saved, at, saved_row, valid, iv,
    packed, hh, H, rows, reset_after, work, h, out, first, last, meetings, part, parts, soon, lines,
):  # fmt: skip
    """One step of a block of rows for the vectors first..last of units: for every way forward.

    In `work` lie a_ih, as `project` left it for `of` rows, of which these are from `row` on, and
    a_hh, scratch of 6 numbers a unit and row. In `states`, which parts of a team share, lie rows
    `state_row` apart, from `before` to `after`, and r h at `rh` if the reset comes before. Row m
    saves at `at` + m * saved_row unless at < 0; valid[iv + m] says whether it counts. The caller
    will copy the new states, `rows` rows of H numbers, to h[out]: while the gates are at work that
    memory is asked for, because the copy alone would wait for every line of it; and so are, during
    the product, the `lines` vectors at the address `soon`, if the reset comes after.

    The weights of these units are packed as a matrix of their own. The caller meets the team before
    the new states are read. Returns how often a meeting within the step took long.
    """
    own_code()
    L, long_waits = lanes(work), 0
    U = (H + L - 1) // L * L
    J, at_unit = last - first, first * L
    W = J * L
    bias = hh + 3 * U * H + 3 * U
    state, before, after = address(states, before), before + at_unit, after + at_unit
    if at >= 0:
        at += at_unit
    if reset_after:
        hh, bias = hh + 3 * at_unit * H, bias + 3 * at_unit
        together = units_together(rows, J, True)
        groups = (J + together - 1) // together
        # the states change places at every step, and so does the order of units
        back = before > after
        for group in range(groups):
            j = (groups - 1 - group if back else group) * together
            n = min(together, J - j)
            sweep(
                back, soon, lines, state, state_row, packed, hh, packed, bias, 0,
                work, a_hh - 3 * L * j, 3 * L * n, rows, 3 * J, H, 3 * j, 3 * (j + n),
            )  # fmt: skip
            lines = 0
            _step_after(
                a_ih + 3 * L * (j * of + row * n), a_hh, work, states, before + j * L,
                after + j * L, state_row, saved, at + j * L if at >= 0 else -1, saved_row, U, rows,
                n, h, out + at_unit + j * L, H,
            )  # fmt: skip
    else:
        product(
            state, state_row, packed, hh + 2 * at_unit * H, packed, bias + 2 * at_unit, 0,
            work, a_hh, 2 * W, rows, 2 * J, H, 0, 2 * J,
        )  # fmt: skip
        r_z, a_hn, x = a_hh + 2 * W * rows, a_hh + 4 * W * rows, a_ih + 3 * W * row
        for m in range(rows):
            r_h, of_m = rh + m * state_row + at_unit, 2 * W * m
            _gates_before(
                x + 3 * W * m, a_hh + of_m, states, before + m * state_row, r_h, r_z + of_m, W, work
            )
        long_waits = meet(meetings, part, parts)
        hh, bias = hh + 2 * U * H + at_unit * H, bias + 2 * U + at_unit
        product(
            address(states, rh), state_row, packed, hh, packed, bias, 0,
            work, a_hn, W, rows, J, H, 0, J,
        )  # fmt: skip
        for m in range(rows):
            to = at + m * saved_row if at >= 0 else -1
            _candidate_before(
                x + 3 * W * m, a_hn + W * m, states, before + m * state_row,
                after + m * state_row, r_z + 2 * W * m, W, saved, to, U, work,
            )  # fmt: skip
    if len(valid):
        for m in range(rows):
            if not valid[iv + m]:
                # h[t + 1] = h[t]; what was saved is never used, but is defined
                copy_row(states, before + m * state_row, states, after + m * state_row, W, W)
                if at >= 0:
                    for gate in range(4 if reset_after else 3):
                        to = at + m * saved_row + gate * U
                        clear(saved, to, to + W)
    return long_waits


@entry
def forward(
    x, x_time, x_batch, W_ih, W_hh, b_ih, b_hh, h, saved, packed, valid, T, B, I, H,  # noqa: E741
    reset_after, low, high, first, last, by_units, block, chunk, scratch, states,
    meetings, part, parts,
):  # fmt: skip
    """Run `gru_np.recurrence.gru_forward`; h[0] is already there. One part of a team's work.

    The part packs the vectors first..last of units. Then it runs all of them for the batch rows
    low..high; or `by_units` only these, for all rows, in states that the team shares.

    A team that loses too much time with waiting is dissolved, and the first part does the rest.

    x[t, b] begins at t * x_time + b * x_batch. An empty `saved` saves nothing, an empty `valid`
    masks nothing. `block` rows go through time together, their inputs `chunk` steps at a time.
    """
    x, h, saved = in_a_row(x), in_a_row(h), in_a_row(saved)
    W_ih, W_hh = in_a_row(W_ih), in_a_row(W_hh)
    L = lanes(h)
    J = (H + L - 1) // L
    U = J * L
    team = address(meetings, 0)
    _pack_part(W_ih, W_hh, b_ih, b_hh, I, H, reset_after, first, last, packed)
    each = parts  # how many meet at every step
    if not by_units:
        meet(team, part, parts)
        first, last, each = 0, J, 1
    long_waits = 0
    saved_row = (4 if reset_after else 3) * U
    hh = 3 * U * I
    b_ih_at = hh + 3 * U * H
    # Rows as far apart as a power of two would share few places in the first cache.
    state_row = U + 2 * L
    a_hh, a_ih = 0, 6 * block * U
    copies = a_ih + 3 * U * block * chunk
    for r0 in range(low, high, block):
        rows = min(block, high - r0)
        W, at_unit = (last - first) * L, first * L
        count = min(W, H - at_unit)
        together = units_together(rows, last - first, reset_after)
        before, after = 0, rows * state_row
        for m in range(rows):
            copy_row(h, (r0 + m) * H + at_unit, states, m * state_row + at_unit, count, W)
        meet(team, part, each)
        t0 = 0
        while t0 < T:
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
            project(
                rows_of_x, x_row, packed, 0, b_ih_at, I, steps * rows, first, last, together,
                scratch, a_ih,
            )  # fmt: skip
            for t in range(t0, t0 + steps):
                at = (t * B + r0) * saved_row if len(saved) else -1
                out = ((t + 1) * B + r0) * H
                # What the next step saves in, or the x that this one's will be in the next chunk.
                soon, lines = 0, 0
                if each == 1 and len(saved):
                    soon, lines = address(saved, at + B * saved_row), rows * saved_row // L
                elif each == 1 and x_batch == I:
                    soon = address(x, (t + steps) * x_time + r0 * x_batch)
                    lines = rows * I // L
                long_waits += step(
                    a_ih, steps * rows, (t - t0) * rows, a_hh, states, before, after,
                    2 * rows * state_row, state_row, saved, at, saved_row, valid, t * B + r0,
                    packed, hh, H, rows, reset_after, scratch, h, out,
                    first, last, team, part, each, soon, lines,
                )  # fmt: skip
                if long_waits >= OFTEN and part == 0:
                    dissolve(team)
                arrive(team, part, each)
                before, after = after, before
                for m in range(rows):
                    state = before + m * state_row + at_unit
                    copy_row(states, state, h, out + m * H + at_unit, count, count)
                long_waits += wait(team, part, each)
                if dissolved(team, part, each):
                    if part:
                        finish(team, part, parts)
                        return
                    first, last, each = 0, J, 1
                    W, at_unit, count, steps = U, 0, H, t + 1 - t0
                    together = units_together(rows, J, reset_after)
                    break
            t0 += steps
    finish(team, part, parts)


@inner
def _pack_columns(
    W_ih, W_hh, I, H, reset_after, first, last, first_input, last_input, packed  # noqa: E741
):  # fmt: skip
    """Pack the weights as the gradients multiply by them: hidden side, then input side.

    Of W_hh's columns only the vectors first..last, of W_ih's first_input..last_input.
    """
    own_code()
    L = lanes(packed)
    U = (H + L - 1) // L * L
    c = first * L
    columns = min(H, last * L) - c
    if reset_after:
        pack_rows(W_hh, c, H, 3, H, columns, 0, packed, 3 * U * c)
    else:
        pack_rows(W_hh, c, H, 2, H, columns, 0, packed, 2 * U * c)
        pack_rows(W_hh, 2 * H * H + c, H, 1, H, columns, 0, packed, 2 * U * U + U * c)
    # da_ih lies as n, r, z
    c = first_input * L
    pack_rows(W_ih, c, I, 3, H, min(I, last_input * L) - c, 2, packed, 3 * U * (U + c))


@inner
def _back_vector(dh, g, h, s, saved, at, work, carry, da, to, U):
    """One vector of units, reset after: gradient of `_step_after`, and dh's direct path."""
    dh_t, da_r, da_z, da_in, da_hn = gru_step_backward(
        load(dh, g) + load(work, carry), load(h, s),
        load(saved, at + U), load(saved, at + 2 * U), load(saved, at), load(saved, at + 3 * U),
        sigmoid_derivative, tanh_derivative,
    )  # fmt: skip
    store(work, carry, dh_t)
    store(da, to, da_in)
    store(da, to + U, da_r)
    store(da, to + 2 * U, da_z)
    store(da, to + 3 * U, da_hn)


@inner
def _back_after(
    dh, h, saved, b, B, H, first, last, valid, work, carry, spare, da, to, row, rows
):  # fmt: skip
    """Elementwise part of a step of `rows` rows, of which b is the first of T * B; reset after."""
    own_code()
    L = lanes(work)
    U = (H + L - 1) // L * L
    begin, end, full = first * L, min(last * L, H), min(last * L, H // L * L)
    for m in range(rows):
        if len(valid) and not valid[b + m]:
            # h[t + 1] = h[t]
            _add_row(dh, (b + m) * H + begin, work, carry + m * U + begin, end - begin)
            _clear_parts(da, to + m * row + begin, 4, U, (last - first) * L)
            continue
        g, at, c, d = (b + m) * H, (b + m) * 4 * U, carry + m * U, to + m * row
        for u in range(begin, full, L):
            _back_vector(dh, g + u, h, g + u, saved, at + u, work, c + u, da, d + u, U)
            # what the step before will read
            prefetch(dh, g - B * H + u)
            prefetch(h, g - B * H + u)
        if begin <= full < end:
            copy_row(dh, g + full, work, spare, H - full, L)
            copy_row(h, g + full, work, spare + L, H - full, L)
            _back_vector(
                work, spare, work, spare + L, saved, at + full, work, c + full, da, d + full, U
            )
            _clear_tail(da, d, 4, H)
            _clear_tail(work, c, 1, H)


@inner
def _clear_parts(array, at, parts, apart, count):
    """Zero `count` numbers in each of some parts of a row."""
    for part in range(parts):
        clear(array, at + part * apart, at + part * apart + count)


@inner
def _add_row(source, i, target, j, count):
    """target[j : j + count] += source[i : i + count]."""
    own_code()
    L = lanes(target)
    k = 0
    while k + L <= count:
        store(target, j + k, load(target, j + k) + load(source, i + k))
        k += L
    while k < count:
        target[j + k] += source[i + k]
        k += 1


@inner
def _back_candidate(g, h, carry, dz, saved, at, begin, end, U, da, to, work):
    """Gradient of `_candidate_before` for units begin..end: da_n, dz and dh's direct path."""
    own_code()
    L = lanes(work)
    for u in range(begin, end, L):
        dh_t, dz_u, da_n = gru_candidate_backward(
            load(work, g + u) + load(work, carry + u), load(work, h + u),
            load(saved, at + 2 * U + u), load(saved, at + u), tanh_derivative,
        )  # fmt: skip
        store(work, carry + u, dh_t)
        store(work, dz + u, dz_u)
        store(da, to + u, da_n)


@inner
def _back_gates(drh, h, carry, dz, saved, at, begin, end, U, da, to, work):
    """Gradient of `_gates_before`: da_r, da_z, and dh's path through r h added to carry."""
    own_code()
    L = lanes(work)
    for u in range(begin, end, L):
        dh_rh, da_r, da_z = gru_gates_backward(
            load(work, drh + u), load(work, dz + u), load(work, h + u),
            load(saved, at + U + u), load(saved, at + 2 * U + u), sigmoid_derivative,
        )  # fmt: skip
        store(work, carry + u, load(work, carry + u) + dh_rh)
        store(da, to + U + u, da_r)
        store(da, to + 2 * U + u, da_z)


@inner
def _clear_tail(array, at, parts, H):
    """Zero the lanes beyond the last unit: 0 * inf from a huge input may have made them NaN."""
    L = lanes(array)
    U = (H + L - 1) // L * L
    if U > H:
        for part in range(parts):
            last = at + part * U + U - L
            store(array, last, first_lanes(load(array, last), H - U + L))


@inner
def _back_before(
    dh, h, saved, b, B, H, first, last, valid, work, carry, spare, da, to, row, rows, packed,
    meetings, part, parts,
):  # fmt: skip
    """All of a step of `rows` rows, of which b is the first of T * B; reset before.

    Returns whether a meeting within it took long.
    """
    own_code()
    L = lanes(work)
    J = (H + L - 1) // L
    U = J * L
    begin, end, whole = first * L, last * L, min(last * L, H)
    states, g, dz, drh = spare, spare + rows * U, spare + 2 * rows * U, spare + 3 * rows * U
    for m in range(rows):
        c, d, of_m = carry + m * U, to + m * row, m * U
        if len(valid) and not valid[b + m]:
            # h[t + 1] = h[t]
            _add_row(dh, (b + m) * H + begin, work, c + begin, whole - begin)
            _clear_parts(da, d + begin, 3, U, end - begin)
            continue
        source, count, width = (b + m) * H + begin, whole - begin, end - begin
        copy_row(dh, source, work, g + of_m + begin, count, width)
        copy_row(h, source, work, states + of_m + begin, count, width)
        _back_candidate(
            g + of_m, states + of_m, c, dz + of_m, saved, (b + m) * 3 * U, begin, end, U, da, d,
            work,
        )  # fmt: skip
        if first < last == J:
            _clear_tail(da, d, 1, H)
            _clear_tail(work, dz + of_m, 1, H)
            _clear_tail(work, c, 1, H)
    long_wait = meet(meetings, part, parts)
    # a_hn[t] = rh @ W_hn.T + b_hn
    clear(work, drh, drh + rows * U)
    product(
        address(da, to), row, packed, 2 * U * U, work, drh, U, work, drh, U, rows, J, U, first, last
    )
    for m in range(rows):
        if len(valid) == 0 or valid[b + m]:
            c, d, of_m = carry + m * U, to + m * row, m * U
            _back_gates(
                drh + of_m, states + of_m, c, dz + of_m, saved, (b + m) * 3 * U, begin, end, U,
                da, d, work,
            )  # fmt: skip
            if first < last == J:
                _clear_tail(da, d + U, 2, H)
                _clear_tail(work, c, 1, H)
    return long_wait


@inner
def _back_steps(
    dh, h, saved, valid, packed, da, base, carries, t0, t1, B, H, low, high, first, last,
    reset_after, block, work, long_waits, meetings, part, parts,
):  # fmt: skip
    """Gradients of the pre-activations of the steps t0..t1, last first, of batch rows low..high.

    Only those of the vectors first..last of units; the team meets at every step if it has several
    parts. Row b of step t of da is (t1 - 1 - t) B + b, counted from `base`. Returns the first step
    done, which is not t0 if the team was dissolved before, and how often the parts waited long.
    """
    own_code()
    L = lanes(h)
    J = (H + L - 1) // L
    U = J * L
    gates = 4 if reset_after else 3
    row = gates * U + L
    spare, begin, width, done = block * U, first * L, (last - first) * L, t0
    for r0 in range(low, high, block):
        rows = min(block, high - r0)
        for m in range(rows):
            copy_row(carries, (r0 + m) * U + begin, work, m * U + begin, width, 0)
        for t in range(t1 - 1, t0 - 1, -1):
            b, to = t * B + r0, base + ((t1 - 1 - t) * B + r0) * row
            if reset_after:
                _back_after(
                    dh, h, saved, b, B, H, first, last, valid, work, 0, spare, da, to, row, rows
                )
            else:
                long_wait = _back_before(
                    dh, h, saved, b, B, H, first, last, valid, work, 0, spare, da, to, row, rows,
                    packed, meetings, part, parts,
                )  # fmt: skip
                long_waits += long_wait if t < t1 - 1 else 0
            if long_waits >= OFTEN and part == 0:
                dissolve(meetings)
            long_wait = meet(meetings, part, parts)
            # the first of them ends the products too, whose parts may differ
            long_waits += long_wait if t < t1 - 1 else 0
            # the rows whose gates are read next: of the step before, the next block, the next chunk
            soon = b - B
            if t == t0:
                soon = (t1 - 1) * B + r0 + block if r0 + block < high else (t0 - 1) * B + low
            lines = rows * gates * U // L if soon >= 0 and parts == 1 else 0
            # a_hh = h[t] @ W_hh.T, or if the reset comes before only its r and z
            sweep(
                t % 2 == 1, address(saved, soon * gates * U), lines, address(da, to + U), row,
                packed, 0, work, 0, U, work, 0, U, rows, J, (gates - 1) * U, first, last,
            )  # fmt: skip
            if rows == B and dissolved(meetings, part, parts):
                done = t
                break
        for m in range(rows):
            copy_row(work, m * U + begin, carries, (r0 + m) * U + begin, width, 0)
    return done, long_waits


# Rows of dx at a time.
DX_ROWS = 64


@inner
def _input_gradient(
    da, base, row, packed, valid, dx, t1, B, H, I, low, high, work  # noqa: E741
):  # fmt: skip
    """dx = da_ih @ W_ih for rows low..high of da; zero at masked steps."""
    own_code()
    L = lanes(da)
    U, V = (H + L - 1) // L * L, (I + L - 1) // L * L
    clear(work, 0, V)
    for q0 in range(low, high, DX_ROWS):
        rows = min(DX_ROWS, high - q0)
        product(
            address(da, base + q0 * row), row, packed, 3 * U * U, work, 0, 0,
            work, V, V, rows, V // L, 3 * U, 0, V // L,
        )  # fmt: skip
        for m in range(rows):
            b = (t1 - 1 - (q0 + m) // B) * B + (q0 + m) % B
            if len(valid) and not valid[b]:
                clear(dx, b * I, (b + 1) * I)
            else:
                copy_row(work, V + m * V, dx, b * I, I, I)


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
        # ask for the next sums, for there may be more of them than the second-level cache holds
        for line in range((c + ROWS) * 3 * L, (c + 2 * ROWS) * 3 * L, L):
            prefetch(sums, at + line)
        here = address(sums, at + c * 3 * L)
        tile_packed(
            min(ROWS, columns - c), width, sums, address(slices, first + c // ROWS * stride), 0,
            panel, 0, here if begun else start, 3 * L if begun else 0, here, 3 * L, depth,
        )  # fmt: skip


@inner
def _pack_steps(source, time, batch, t1, B, q0, depth, columns, out, io, stride):
    """Make slices of the rows of x or h that belong to the rows q0.. of da."""
    own_code()
    k = 0
    while k < depth:
        t, b = t1 - 1 - (q0 + k) // B, (q0 + k) % B
        count = min(B - b, depth - k)
        first = t * time + b * batch
        pack_slices(source, first, batch, count, columns, out, io + k * ROWS, stride)
        k += count


@inner
def _weight_gradient(
    x, x_time, x_batch, h, saved, da, base, row, valid, T, t0, t1, B, I, H, reset_after,  # noqa: E741
    first, last, sums, work,
):  # fmt: skip
    """Add the steps t0..t1 to dW_ih = da_ih^T x, dW_hh = da_hh^T h and the sums of the biases.

    Only for the vectors of units first..last. Each number is one chain over all steps, last step
    first, whatever is done at a time or by one thread.
    """
    own_code()
    L = lanes(h)
    U = (H + L - 1) // L * L
    each, hidden, bias = 3 * L * (I + H + 2), 3 * L * I, 3 * L * (I + H)
    stride = DEPTH * ROWS
    of_h = (I + ROWS - 1) // ROWS * stride
    of_rh = of_h + (H + ROWS - 1) // ROWS * stride
    panel = of_rh + (H + ROWS - 1) // ROWS * stride
    zeros = panel + 3 * L * DEPTH
    rows_at = zeros + 3 * L
    clear(work, zeros, rows_at)
    start = address(work, zeros)
    for q0 in range(0, (t1 - t0) * B, DEPTH):
        depth = min(DEPTH, (t1 - t0) * B - q0)
        begun = t1 < T or q0 > 0
        _pack_steps(x, x_time, x_batch, t1, B, q0, depth, I, work, 0, stride)
        if len(valid):
            # masked x may be NaN, and 0 * NaN is NaN: make it zero
            for k in range(depth):
                if not valid[(t1 - 1 - (q0 + k) // B) * B + (q0 + k) % B]:
                    for to in range(k * ROWS, of_h, stride):
                        clear(work, to, to + ROWS)
        _pack_steps(h, B * H, H, t1, B, q0, depth, H, work, of_h, stride)
        if not reset_after:
            # the n rows of W_hh saw r h instead of h
            for k in range(depth):
                b = (t1 - 1 - (q0 + k) // B) * B + (q0 + k) % B
                to = rows_at + k * U
                copy_row(h, b * H, work, to, H, U)
                for u in range(0, U, L):
                    store(work, to + u, load(saved, (3 * b + 1) * U + u) * load(work, to + u))
            pack_slices(work, rows_at, U, depth, H, work, of_rh, stride)
        for j in range(first, last):
            at, da_j = j * each, base + q0 * row + j * L
            to_hh, b_ih, b_hh = at + hidden, at + bias, at + bias + 3 * L
            here, of_n = address(work, panel), address(work, panel + 2 * L)
            # a_ih = W_ih x + b_ih
            _pack_panel(da, da_j + U, da_j + 2 * U, da_j, row, depth, work, panel, sums, b_ih)
            _products(work, 0, stride, I, here, 3, begun, start, sums, at, depth)
            # a_hh = W_hh h + b_hh
            if reset_after:
                _pack_hn(da, da_j + 3 * U, row, depth, work, panel + 2 * L, sums, b_hh + 2 * L)
                _products(work, of_h, stride, H, here, 3, begun, start, sums, to_hh, depth)
            else:
                _products(work, of_h, stride, H, here, 2, begun, start, sums, to_hh, depth)
                _products(work, of_rh, stride, H, of_n, 1, begun, start, sums, to_hh + 2 * L, depth)


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


@inner
def _unpack_all(sums, I, H, reset_after, first, last, dW_ih, dW_hh, db_ih, db_hh):  # noqa: E741
    """Weight and bias gradients of the vectors of units first..last."""
    own_code()
    L = lanes(sums)
    each, hidden, bias = 3 * L * (I + H + 2), 3 * L * I, 3 * L * (I + H)
    for j in range(first, last):
        at = j * each
        # r and z, and n if the reset comes before, have one sum for both biases
        copy_row(sums, at + bias, sums, at + bias + 3 * L, (2 if reset_after else 3) * L, 0)
        _unpack(sums, at, I, j, H, dW_ih)
        _unpack(sums, at + hidden, H, j, H, dW_hh)
        _unpack(sums, at + bias, 1, j, H, db_ih)
        _unpack(sums, at + bias + 3 * L, 1, j, H, db_hh)


@entry
def backward(
    x, x_time, x_batch, W_ih, W_hh, dh, dh_first, h, saved, packed, valid, T, B, I, H,  # noqa: E741
    reset_after, chunk, low, high, first, last, first_input, last_input, by_units, block, carries,
    da, sums, work,
    dx, dh0, dW_ih, dW_hh, db_ih, db_hh, meetings, part, parts,
):  # fmt: skip
    """Run `gru_np.recurrence.gru_backward`, last step first, in chunks. One part of a team's work.

    What the loop over a chunk leaves in da is multiplied while it is in the second-level cache. Of
    the loop, a part does the batch rows low..high; or `by_units` the vectors first..last of units,
    for all rows. It packs the columns of these, and of first_input..last_input. Of the products it
    does an equal share: rows of dx, units of the weights. All of them need the loop's whole da, so
    the team meets between; da has room for two chunks, so that who is done with the products may go
    on.

    dh is the gradient by h[1:], dh_first that by h[0], or empty.

    Each number is one chain of operations whatever the chunks and parts. A team that shares units
    and loses too much time with waiting is dissolved, and the first part does the rest.
    """
    x, dh, h, saved = in_a_row(x), in_a_row(dh), in_a_row(h), in_a_row(saved)
    dx, dh0, dW_ih, dW_hh = in_a_row(dx), in_a_row(dh0), in_a_row(dW_ih), in_a_row(dW_hh)
    L = lanes(h)
    J = (H + L - 1) // L
    U = J * L
    row = (4 if reset_after else 3) * U + L
    team = address(meetings, 0)
    _pack_columns(
        in_a_row(W_ih), in_a_row(W_hh), I, H, reset_after, first, last, first_input, last_input,
        packed,
    )  # fmt: skip
    each = parts  # how many meet at every step
    if not by_units:
        first, last, each = 0, J, 1
    long_waits, others = 0, parts  # how many do the products
    of_mine, to_mine = J * part // parts, J * (part + 1) // parts
    for b in range(low, high):
        clear(carries, b * U + first * L, b * U + last * L)
    bias = 3 * L * (I + H)
    for j in range(of_mine, to_mine):
        # the others begin with the first product, if there is one
        size = bias + 6 * L
        clear(sums, j * size + (bias if T * B else 0), (j + 1) * size)
    meet(team, part, parts)
    base, t1 = 0, T
    while t1 > 0:
        t0, long_waits = _back_steps(
            dh, h, saved, valid, packed, da, base, carries, max(0, t1 - chunk), t1, B, H, low,
            high, first, last, reset_after, block, work, long_waits, team, part, each,
        )  # fmt: skip
        if others > 1:
            meet(team, part, others)
            if dissolved(team, part, others):
                if part:
                    finish(team, part, parts)
                    return
                low, high, first, last, each, others = 0, B, 0, J, 1, 1
                of_mine, to_mine = 0, J
        n = (t1 - t0) * B
        _input_gradient(
            da, base, row, packed, valid, dx, t1, B, H, I, n * part // others,
            n * (part + 1) // others, work,
        )  # fmt: skip
        _weight_gradient(
            x, x_time, x_batch, h, saved, da, base, row, valid, T, t0, t1, B, I, H, reset_after,
            of_mine, to_mine, sums, work,
        )  # fmt: skip
        if others > 1:
            base = chunk * B * row - base
        t1 = t0
    for b in range(low, high):
        for u in range(first * L, min(last * L, H)):
            direct = dh_first[b * H + u] if len(dh_first) else 0
            dh0[b * H + u] = direct + carries[b * U + u]
    _unpack_all(sums, I, H, reset_after, of_mine, to_mine, dW_ih, dW_hh, db_ih, db_hh)
    finish(team, part, parts)
