"""The head of `gru_np.kernels.head` once more, its three products on the tile unit (float32).

    x = h W^T + b    l = ln(1 + s) + (x_a - x_y)    s = sum over k of e_k, but for k = a
    e = exp(x - x_a)    f = w / count / (1 + s)    dx = f d,  d = e - (1 + s) [k = y]
    dh = f d W       dW = d^T (f h)       db = sum of f d

with a the place of the largest logit; where a = y, d_a is -s, which 1 - (1 + s) would lose.

Logits lie transposed in panels of 32 rows of h, [v][row], V rounded up to 32. A group of panels
goes through W twice. On the first way the largest logit is found while a block is in cache; on the
second, logits become e and at once a block of the product e W. As s is known only after that, d
differs from e at the label by what is mended last: one row of W for each row of dh.
"""

import math

import numpy as np

from gru_np.kernels._jit import entry, inner
from gru_np.kernels.amx import (
    BLOCK_NUMBERS,
    DEEP,
    SIDE,
    TILE,
    close_tiles,
    multiply,
    open_tiles,
    put_parts,
)
from gru_np.kernels.head import put_rows, where_equal, where_greater
from gru_np.kernels.matmul import address, transpose_tile
from gru_np.kernels.vector import (
    exp_of_negative,
    first_lanes,
    fma,
    in_a_row,
    lanes,
    load,
    own_code,
    prefetch,
    splat,
    store,
    sum_lanes,
)

CELL = SIDE * SIDE  # numbers of a block in float32
WIDE = 6  # blocks of classes at a time on the second way
OVER = 4  # and for dW
# Of each panel's rows: largest logit, its place, s, what e is there.
BEST, PLACE, TOTAL, AT_BEST, STATS = 0, SIDE, 2 * SIDE, 3 * SIDE, 4 * SIDE


@inner
def some(array, index, count):
    """array[index : index + count], then zeros; count may be anything."""
    own_code()
    L = lanes(array)
    if count >= L:
        return load(array, index)
    if count <= 0:
        return splat(array, 0)
    if index + L <= len(array):
        return first_lanes(load(array, index), count)
    # the last numbers of the array: those before come too, and go again
    spare = np.zeros(2 * L, array.dtype)
    for k in range(count):
        spare[k] = array[index + k]
    return load(spare, 0)


@inner
def transpose(source, i, row, rows, columns, target, j, width):
    """target[c, r] = source[r, c], rows and columns as many as given, `width` apart in target.

    All of 32 rows are written, those from `rows` on as zeros.
    """
    own_code()
    L = lanes(source)
    for r0 in range(0, SIDE, L):
        k = 0
        if r0 + L <= rows:
            while k + L <= columns:
                transpose_tile(source, i + r0 * row + k, row, target, j + k * width + r0, width)
                k += L
        for r in range(r0, r0 + L):
            for u in range(k, columns):
                target[j + u * width + r] = source[i + r * row + u] if r < rows else 0


@inner
def rows_evenly(offsets, i, count):
    """Distance of `count` rows from row i on if they are all as far apart, else 0."""
    step = offsets[i + 1] - offsets[i] if count > 1 else 1
    for m in range(2, count):
        if offsets[i + m] != offsets[i] + m * step:
            return 0
    return step


@inner
def pack_states(h, offsets, n, p, H, spare, out, o):
    """Right blocks of the rows of h that panel p holds, k from 0 to H."""
    own_code()
    i, count = p * SIDE, min(SIDE, n - p * SIDE)
    K = (H + SIDE - 1) // SIDE
    step = rows_evenly(offsets, i, count)
    if step:
        transpose(h, offsets[i], step, count, H, spare, 0, SIDE)
    else:
        for m in range(SIDE):
            for u in range(H):
                spare[u * SIDE + m] = h[offsets[i + m] + u] if m < count else 0
    for u in range(H * SIDE, K * CELL):
        spare[u] = 0
    for k in range(K):
        pack_right(spare, k * CELL, out, o + k * BLOCK_NUMBERS)


@inner
def pack_right(source, i, out, o):
    """A right block of 32 x 32 numbers that lie in a row."""
    own_code()
    L = lanes(source)
    for q in range(L):
        for c in range(2):
            at, to = i + q * SIDE + c * L, address(out, o) + c * TILE + q * 4 * L
            put_parts(load(source, at), load(source, at + L * SIDE), to)


@inner
def pack_left(source, i, out, o):
    """A left block of 32 x 32 numbers that lie in a row."""
    own_code()
    L = lanes(source)
    for m in range(SIDE):
        at, to = i + m * SIDE, address(out, o) + m * 4 * L
        put_parts(load(source, at), load(source, at + L), to)


@inner
def pack_classes(W, V, H, v, k0, k1, out, o):
    """Left blocks of the rows v ... v + 31 of W, one for each block k0..k1 of columns."""
    own_code()
    L = lanes(W)
    for k in range(k0, k1):
        to = address(out, o + (k - k0) * BLOCK_NUMBERS)
        if v + SIDE <= V and (k + 1) * SIDE <= H:
            for m in range(SIDE):
                at = (v + m) * H + k * SIDE
                put_parts(load(W, at), load(W, at + L), to + m * 4 * L)
        else:
            for m in range(SIDE):
                at, left = (v + m) * H + k * SIDE, H - k * SIDE if v + m < V else 0
                put_parts(some(W, at, left), some(W, at + L, left - L), to + m * 4 * L)


@inner
def find_best(b, V, v0, panels, of_p, stats, of_stats):
    """Add b to the logits of 32 classes from v0 on, and see whether one is larger than before."""
    own_code()
    L = lanes(panels)
    at = of_p + v0 * SIDE
    most, where = load(stats, of_stats + BEST), load(stats, of_stats + PLACE)
    most_2, where_2 = load(stats, of_stats + BEST + L), load(stats, of_stats + PLACE + L)
    for v in range(v0, min(V, v0 + SIDE)):
        x, x_2 = load(panels, at), load(panels, at + L)
        if len(b):
            bias = splat(panels, b[v])
            x, x_2 = x + bias, x_2 + bias
            store(panels, at, x)
            store(panels, at + L, x_2)
        here = splat(panels, v)
        where = where_greater(x, most, here, where)
        where_2 = where_greater(x_2, most_2, here, where_2)
        most = where_greater(x, most, x, most)
        most_2 = where_greater(x_2, most_2, x_2, most_2)
        at += SIDE
    store(stats, of_stats + BEST, most)
    store(stats, of_stats + BEST + L, most_2)
    store(stats, of_stats + PLACE, where)
    store(stats, of_stats + PLACE + L, where_2)


@inner
def logits(W, V, H, b, p0, p1, first, panels, states, blocks, stats):
    """The first way through W: logits of the panels p0..p1, and the largest of each row."""
    own_code()
    L, K, padded = lanes(panels), (H + SIDE - 1) // SIDE, (V + SIDE - 1) // SIDE * SIDE
    cuts = (K + DEEP - 1) // DEEP
    for p in range(p1 - p0):
        for c in range(0, SIDE, L):
            store(stats, p * STATS + BEST + c, splat(panels, -np.inf))
            store(stats, p * STATS + PLACE + c, splat(panels, 0))
            store(stats, p * STATS + TOTAL + c, splat(panels, 0))
    for v in range(0, V, SIDE):
        for cut in range(cuts):
            k0, k1 = K * cut // cuts, K * (cut + 1) // cuts
            pack_classes(W, V, H, v, k0, k1, blocks, 0)
            for p in range(p1 - p0):
                multiply(
                    address(blocks, 0), address(states, (p * K + k0) * BLOCK_NUMBERS),
                    address(panels, ((p0 + p - first) * padded + v) * SIDE), 4 * SIDE,
                    k0, k1 - k0,
                )  # fmt: skip
        for p in range(p1 - p0):
            find_best(b, V, v, panels, (p0 + p - first) * padded * SIDE, stats, p * STATS)
    # classes that there are not: e = 0
    for p in range(p0 - first, p1 - first):
        for i in range((p * padded + V) * SIDE, (p + 1) * padded * SIDE):
            panels[i] = -np.inf


@inner
def two_exponentials(panels, at, here, most, where, there, s, to):
    """Turn logits of 16 rows into e, of one class and of the 16th after it; give s with them."""
    L = lanes(panels)
    e = exp_of_negative(load(panels, at) - most)
    e_2 = exp_of_negative(load(panels, at + L * SIDE) - most)
    # the classes `here` and `here` + 16
    none, here_2 = splat(panels, 0), here + splat(panels, L)
    s = s + (where_equal(here, where, none, e) + where_equal(here_2, where, none, e_2))
    e, e_2 = where_equal(here, where, there, e), where_equal(here_2, where, there, e_2)
    store(panels, at, e)
    store(panels, at + L * SIDE, e_2)
    put_parts(e, e_2, to)
    return s


@inner
def exponentials(v0, count, panels, of_p, following, stats, of_stats, blocks):
    """Turn the logits of `count` blocks of 32 classes into e, also as right blocks; add to s.

    Those `following` numbers on are asked for meanwhile.
    """
    own_code()
    L = lanes(panels)
    most, most_2 = load(stats, of_stats + BEST), load(stats, of_stats + BEST + L)
    where, where_2 = load(stats, of_stats + PLACE), load(stats, of_stats + PLACE + L)
    there, there_2 = load(stats, of_stats + AT_BEST), load(stats, of_stats + AT_BEST + L)
    s, s_2, one = splat(panels, 0), splat(panels, 0), splat(panels, 1)
    for block in range(count):
        v = v0 + block * SIDE
        here, to = splat(panels, v), address(blocks, block * BLOCK_NUMBERS)
        for at in range(of_p + v * SIDE, of_p + (v + L) * SIDE, SIDE):
            for line in range(0, SIDE, L):
                prefetch(panels, at + following + line)
                prefetch(panels, at + following + L * SIDE + line)
            s = two_exponentials(panels, at, here, most, where, there, s, to)
            s_2 = two_exponentials(panels, at + L, here, most_2, where_2, there_2, s_2, to + TILE)
            here, to = here + one, to + 4 * L
    store(stats, of_stats + TOTAL, load(stats, of_stats + TOTAL) + s)
    store(stats, of_stats + TOTAL + L, load(stats, of_stats + TOTAL + L) + s_2)


@inner
def exponentials_and_products(
    W, V, H, p0, p1, first, panels, blocks, right, spare, sums, stats, backward
):
    """The second way through W: e of the panels p0..p1, and the sums W^T e, [column][row]."""
    own_code()
    K, padded = (H + SIDE - 1) // SIDE, (V + SIDE - 1) // SIDE * SIDE
    for v in range(0, V, WIDE * SIDE):
        count = min(WIDE, (padded - v) // SIDE)
        if backward:
            for block in range(count):
                u = v + block * SIDE
                transpose(W, u * H, H, min(SIDE, V - u), H, spare, 0, SIDE)
                for i in range(H * SIDE, K * CELL):
                    spare[i] = 0
                for k in range(K):
                    pack_left(spare, k * CELL, blocks, (k * WIDE + block) * BLOCK_NUMBERS)
        for p in range(p1 - p0):
            of_p = (p0 + p - first) * padded * SIDE
            exponentials(v, count, panels, of_p, padded * SIDE, stats, p * STATS, right)
            if backward:
                for k in range(K):
                    multiply(
                        address(blocks, k * WIDE * BLOCK_NUMBERS), address(right, 0),
                        address(sums, (p * K + k) * CELL), 4 * SIDE, v, count,
                    )  # fmt: skip


@inner
def finish(
    h, offsets, W, labels, weight, divisor, n, V, H, p, of_p, backward, panels, sums, of_sums,
    spare, stats, of_stats, gaps, chunk, place, scaled, factors, losses, hits, dh,
):  # fmt: skip
    """Of the rows of panel p, `place` of `chunk`: loss, hit, f, d, dh, and f h as right blocks."""
    own_code()
    L, K = lanes(panels), (H + SIDE - 1) // SIDE
    i0, rows = p * SIDE, min(SIDE, n - p * SIDE)
    width = K * SIDE
    if backward:
        for k in range(0, width, L):
            for c in range(0, SIDE, L):
                transpose_tile(sums, of_sums + k * SIDE + c, SIDE, spare, c * width + k, width)
    for m in range(SIDE):
        i, f = i0 + m, place * SIDE + m
        if m >= rows:
            factors[f] = 0
            continue
        # l = ln(1 + s) + (x_a - x_y)
        s, w = stats[of_stats + TOTAL + m], weight[i] if len(weight) else 1.0
        losses[i] = (math.log1p(np.float64(s)) + gaps[i]) * (w / divisor)
        right = np.int64(stats[of_stats + PLACE + m]) == labels[i]
        hits[i] = w if right else 0.0
        if not backward:
            continue
        factors[f] = w / divisor
        # d = e - (1 + s) [k = y]
        mend = -factors[f]
        factors[f] = factors[f] / (1 + s)
        at = of_p + labels[i] * SIDE + m
        if right:
            panels[at] = -s
            mend = -s * factors[f]
        else:
            panels[at] = panels[at] - (1 + s)
        # dh = f d W
        share, to, of_label = splat(panels, factors[f]), offsets[i], labels[i] * H
        k = 0
        while k + L <= H:
            y = load(spare, m * width + k) * share
            store(dh, to + k, fma(splat(panels, mend), load(W, of_label + k), y))
            k += L
        for u in range(k, H):
            dh[to + u] = spare[m * width + u] * factors[f] + mend * W[of_label + u]
    if not backward:
        return
    for q in range(L):
        low, high = i0 + q, i0 + q + L
        low_left, high_left = H if q < rows else 0, H if q + L < rows else 0
        low_at, high_at = offsets[min(low, n - 1)], offsets[min(high, n - 1)]
        low_f = splat(panels, factors[place * SIDE + q])
        high_f = splat(panels, factors[place * SIDE + q + L])
        for k in range(0, width, L):
            to = address(scaled, (k // SIDE * chunk + place) * BLOCK_NUMBERS)
            to += k % SIDE // L * TILE + q * 4 * L
            put_parts(
                some(h, low_at + k, low_left - k) * low_f,
                some(h, high_at + k, high_left - k) * high_f,
                to,
            )


@entry
def rows_forth_and_back(
    h, offsets, W, b, labels, weight, divisor, n, V, H, low, high, first, group, backward,
    panels, states, blocks, right, spare, sums, stats, gaps, chunk, scaled, factors,
    losses, hits, dh,
):  # fmt: skip
    """All that has to do with a row alone, for the panels low..high: l, hit or miss, d and dh.

    `panels` begins with panel `first`; if not `backward`, with that of the group under way.
    """
    L, K, padded = lanes(panels), (H + SIDE - 1) // SIDE, (V + SIDE - 1) // SIDE * SIDE
    W = in_a_row(W)
    open_tiles()
    for p0 in range(low, high, group):
        p1 = min(high, p0 + group)
        if not backward:
            first = p0
        for p in range(p0, p1):
            pack_states(h, offsets, n, p, H, spare, states, (p - p0) * K * BLOCK_NUMBERS)
        logits(W, V, H, b, p0, p1, first, panels, states, blocks, stats)
        for p in range(p0, p1):
            of_stats = (p - p0) * STATS
            for c in range(0, SIDE, L):
                store(stats, of_stats + AT_BEST + c, splat(panels, 1))
            for m in range(min(SIDE, n - p * SIDE)):
                i = p * SIDE + m
                x = panels[((p - first) * padded + labels[i]) * SIDE + m]
                gaps[i] = np.float64(stats[of_stats + BEST + m]) - np.float64(x)
                if np.int64(stats[of_stats + PLACE + m]) == labels[i]:
                    stats[of_stats + AT_BEST + m] = 0
        exponentials_and_products(
            W, V, H, p0, p1, first, panels, blocks, right, spare, sums, stats, backward
        )
        for p in range(p0, p1):
            finish(
                h, offsets, W, labels, weight, divisor, n, V, H, p, (p - first) * padded * SIDE,
                backward, panels, sums, (p - p0) * K * CELL, spare, stats, (p - p0) * STATS, gaps,
                chunk, p - first, scaled, factors, losses, hits, dh,
            )  # fmt: skip
    close_tiles()


@entry
def weight_gradient(
    panels, scaled, factors, V, H, low, high, chunk, add, blocks, sums, bias_sums, dW, db
):
    """dW and db of the classes low..high from the `chunk` panels; added to if `add`."""
    L, K, padded = lanes(panels), (H + SIDE - 1) // SIDE, (V + SIDE - 1) // SIDE * SIDE
    width, dW = K * SIDE, in_a_row(dW)
    cuts = (chunk + DEEP - 1) // DEEP
    open_tiles()
    for v0 in range(low, high, OVER * SIDE):
        v1 = min(high, v0 + OVER * SIDE)
        count = (v1 - v0 + SIDE - 1) // SIDE
        for i in range(0, count * SIDE * L, L):
            store(bias_sums, i, splat(panels, 0))
        for cut in range(cuts):
            p0, p1 = chunk * cut // cuts, chunk * (cut + 1) // cuts
            for p in range(p0, p1):
                f, f_2 = load(factors, p * SIDE), load(factors, p * SIDE + L)
                for u in range(count):
                    at = (p * padded + v0 + u * SIDE) * SIDE
                    for line in range(at, at + CELL, L):
                        prefetch(panels, line + padded * SIDE)
                    pack_left(panels, at, blocks, (u * DEEP + p - p0) * BLOCK_NUMBERS)
                    if len(db):
                        for m in range(u * SIDE, (u + 1) * SIDE):
                            s = fma(f, load(panels, at), load(bias_sums, m * L))
                            store(bias_sums, m * L, fma(f_2, load(panels, at + L), s))
                            at += SIDE
            for k in range(K):
                for u in range(count):
                    multiply(
                        address(blocks, u * DEEP * BLOCK_NUMBERS),
                        address(scaled, (k * chunk + p0) * BLOCK_NUMBERS),
                        address(sums, u * SIDE * width + k * SIDE), 4 * width, p0, p1 - p0,
                    )  # fmt: skip
        put_rows(sums, width, dW, H, v0, v1, add)
        if len(db):
            for v in range(v0, v1):
                value = sum_lanes(load(bias_sums, (v - v0) * L))
                db[v] = db[v] + value if add else value
    close_tiles()
