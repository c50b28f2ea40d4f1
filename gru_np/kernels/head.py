"""Dense, softmax and cross-entropy in one, compiled: what ends a language model's training step.

    x = h W^T + b    (n, V)      l = -ln softmax(x)[y]      dx = scale (softmax(x) - [k = y])
    dh = dx W    dW = dx^T h     db = sum of dx over n

as `Dense` and `SparseCategoricalCrossentropy` compute it (see there why l and dx have this form),
but for some rows of h at a time, so that the logits of all rows need not exist together.

Logits lie transposed, in panels: up to 3 vectors of rows of h, [v][row]. Each lane is a row then,
so the softmax needs no sum across lanes, and W is read as it lies. A panel goes from logits to dx
in place, for a group of panels at a time, which keeps W busy while it is in cache. The panels of a
chunk, all that there is memory for, then make dW. Every sum has one order, whatever the number of
threads.
"""

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from gru_np.kernels._jit import entry, inner
from gru_np.kernels.matmul import (
    DEPTH,
    INT64,
    address,
    clear,
    copy_row,
    copy_slice,
    transpose_tile,
)
from gru_np.kernels.vector import (
    ROWS,
    VECTORS,
    Emit,
    first_lanes,
    in_a_row,
    lanes,
    load,
    own_code,
    splat,
    store,
    sum_lanes,
)

# ------------------------------------------------------------------------------ register tiles


def make_tile(rows, blocks):
    """Write c[m, v] (+)= sum over o, k of a[o, k, m] b[o, k, v] as an intrinsic.

    a[o, k, m] lies at a + o * a_outer + k * a_k + m * a_m and b[o, k] follow each other, `blocks`
    vectors each. c is `rows` rows of whole vectors; what it held counts if `add`. Both loops run
    at least once.
    """

    @intrinsic
    def tile(typingctx, like, a, a_outer, a_k, a_m, b, c, c_row, add, outer, inner):
        vector = VECTORS[like.dtype]

        def emit(context, builder, sig, args):
            _, a, a_outer, a_k, a_m, b, c, c_row, add, outer, inner = args
            e = Emit(context, builder, vector)
            const = lambda i: ir.Constant(INT64, i)  # noqa: E731
            at = lambda pointer, i: builder.gep(pointer, [i])  # noqa: E731
            a0, b0, c0 = (builder.inttoptr(p, e.element.as_pointer()) for p in (a, b, c))
            cells = [(m, v) for m in range(rows) for v in range(blocks)]
            place = {
                (m, v): at(c0, builder.add(builder.mul(c_row, const(m)), const(v * e.lanes)))
                for m, v in cells
            }
            before = builder.block
            names = ("start", "outer", "inner", "next", "done")
            start, over, loop, follow, done = map(builder.append_basic_block, names)
            adds = builder.icmp_signed("!=", add, const(0))
            builder.cbranch(adds, start, over)
            builder.position_at_end(start)
            first = {cell: e.at(place[cell]) for cell in cells}
            builder.branch(over)

            def phis():
                return (
                    builder.phi(INT64),
                    builder.phi(INT64),
                    {c: builder.phi(e.type) for c in cells},
                )

            builder.position_at_end(over)
            o, b_o, sums_o = phis()
            for block in (before, start):
                o.add_incoming(const(0), block)
                b_o.add_incoming(const(0), block)
            for cell in cells:
                sums_o[cell].add_incoming(e.const(0), before)
                sums_o[cell].add_incoming(first[cell], start)
            a_o = at(a0, builder.mul(o, a_outer))
            a_rows = [at(a_o, builder.mul(a_m, const(m))) for m in range(rows)]
            builder.branch(loop)

            builder.position_at_end(loop)
            k, b_k, sums = phis()
            k.add_incoming(const(0), over)
            b_k.add_incoming(b_o, over)
            from_a = builder.mul(k, a_k)
            bs = [e.at(at(at(b0, b_k), const(v * e.lanes))) for v in range(blocks)]
            new = {}
            for m in range(rows):
                am = e.splat(builder.load(at(a_rows[m], from_a)))
                for v in range(blocks):
                    new[m, v] = e.fma(am, bs[v], sums[m, v])
            b_next = builder.add(b_k, const(blocks * e.lanes))
            k_next = builder.add(k, const(1))
            k.add_incoming(k_next, loop)
            b_k.add_incoming(b_next, loop)
            for cell in cells:
                sums[cell].add_incoming(sums_o[cell], over)
                sums[cell].add_incoming(new[cell], loop)
            builder.cbranch(builder.icmp_signed("<", k_next, inner), loop, follow)

            builder.position_at_end(follow)
            o_next = builder.add(o, const(1))
            o.add_incoming(o_next, follow)
            b_o.add_incoming(b_next, follow)
            for cell in cells:
                sums_o[cell].add_incoming(new[cell], follow)
            builder.cbranch(builder.icmp_signed("<", o_next, outer), over, done)

            builder.position_at_end(done)
            for cell in cells:
                e.put(new[cell], place[cell])
            return context.get_dummy_value()

        return types.void(like, *[types.intp] * 10), emit

    return tile


def _choose():
    """Compile a function that picks the tile by its number of rows and blocks."""
    arguments = "like, a, a_outer, a_k, a_m, b, c, c_row, add, outer, inner"
    names, lines = (
        {"own_code": own_code},
        [f"def tile(rows, blocks, {arguments}):", "    own_code()"],
    )
    for rows in (ROWS, 4, 2, 1) if ROWS > 4 else (ROWS, 2, 1):
        for blocks in (3, 2, 1):
            names[f"tile_{rows}_{blocks}"] = make_tile(rows, blocks)
            lines += [f"    if rows == {rows} and blocks == {blocks}:"]
            lines += [f"        return tile_{rows}_{blocks}({arguments})"]
    exec("\n".join(lines), names)
    return inner(names["tile"])


tile = _choose()


@inner
def tile_height(left):
    """Rows of the next tile when `left` are left: few heights compile in little time."""
    if left >= ROWS:
        return ROWS
    return 4 if left >= 4 else 2 if left >= 2 else 1


def _select(relation):
    """Write x where a `relation` b (false for NaN), else y."""

    @intrinsic
    def select(typingctx, a, b, x, y):
        def emit(context, builder, sig, args):
            a, b, x, y = args
            return builder.select(builder.fcmp_ordered(relation, a, b), x, y)

        return a(a, a, a, a), emit

    return select


where_greater, where_equal = _select(">"), _select("==")

# -------------------------------------------------------------------------------- the panels


@inner
def panel_vectors(p, n, like):
    """How many vectors wide panel p of n rows is: 3 but for the last."""
    L = lanes(like)
    return min(3, (n + L - 1) // L - 3 * p)


@inner
def pack_rows_of(h, offsets, n, p, H, columns, low, rows_out, total):
    """Pack the rows of h that panel p holds, twice; row i begins at h[offsets[i]].

    `columns`, from `low` on, gets them as columns [k][row]; `rows_out` as row i of panels of
    columns [i][column], `total` rows in each (nothing if it is empty). What is beyond is zero.
    """
    own_code()
    L = lanes(h)
    vectors = panel_vectors(p, n, h)
    width, J = vectors * L, (H + L - 1) // L
    for c in range(vectors):
        i0 = (3 * p + c) * L
        count = min(L, n - i0)
        step = offsets[i0 + 1] - offsets[i0] if count > 1 else 0
        even = count == L
        for m in range(2, count):
            even = even and offsets[i0 + m] == offsets[i0] + m * step
        k = 0
        if even:
            while k + L <= H:
                transpose_tile(h, offsets[i0] + k, step, columns, low + k * width + c * L, width)
                k += L
        for m in range(L):
            to, source = low + c * L + m, offsets[i0 + m] if m < count else 0
            for u in range(k, H):
                columns[to + u * width] = h[source + u] if m < count else 0
        if len(rows_out):
            for m in range(L):
                source = offsets[i0 + m] if m < count else 0
                for j0 in range(0, J, 3):
                    blocks = min(3, J - j0)
                    to = (j0 * total + (i0 + m) * blocks) * L
                    if m < count:
                        copy_row(
                            h,
                            source + j0 * L,
                            rows_out,
                            to,
                            min(blocks * L, H - j0 * L),
                            blocks * L,
                        )
                    else:
                        clear(rows_out, to, to + blocks * L)


@inner
def logits(W, V, H, columns, p0, p1, n, first, panels):
    """panel p, row v = W[v] . rows of p, for the panels p0..p1 of a group; W a block at a time."""
    own_code()
    L = lanes(panels)
    block = max(ROWS, 16384 // H // ROWS * ROWS)
    for v0 in range(0, V, block):
        v1 = min(V, v0 + block)
        for p in range(p0, p1):
            vectors = panel_vectors(p, n, panels)
            width = vectors * L
            of_p = (p - first) * V * 3 * L
            for k0 in range(0, H, DEPTH):
                right = address(columns, (p - p0) * H * 3 * L + k0 * width)
                depth = min(DEPTH, H - k0)
                v = v0
                while v < v1:
                    rows = tile_height(v1 - v)
                    tile(
                        rows, vectors, panels,
                        address(W, v * H + k0), 0, 1, H, right,
                        address(panels, of_p + v * width), width, k0, 1, depth,
                    )  # fmt: skip
                    v += rows


@inner
def softmax_panel(
    b, labels, weight, divisor, n, p, V, panels, of_p, losses, hits, backward, stats, best
):  # fmt: skip
    """Turn the logits of panel p into dx; leave the loss of each row, and whether it was a hit."""
    own_code()
    L = lanes(panels)
    vectors = panel_vectors(p, n, panels)
    width = vectors * L
    place, total, share, of_label = best + 3 * L, best + 6 * L, best + 9 * L, best + 12 * L
    for c in range(vectors):
        store(stats, best + c * L, splat(panels, -np.inf))
        store(stats, place + c * L, splat(panels, 0))
        store(stats, total + c * L, splat(panels, 0))
    # Blocks of v stay in the first-level cache for all vectors of the panel.
    for v0 in range(0, V, 64):
        for c in range(vectors):
            most, where = load(stats, best + c * L), load(stats, place + c * L)
            for v in range(v0, min(V, v0 + 64)):
                at = of_p + v * width + c * L
                x = load(panels, at)
                if len(b):
                    x = x + splat(panels, b[v])
                    store(panels, at, x)
                where = where_greater(x, most, splat(panels, v), where)
                most = where_greater(x, most, x, most)
            store(stats, best + c * L, most)
            store(stats, place + c * L, where)
    rows = min(width, n - 3 * p * L)
    for m in range(rows):
        stats[of_label + m] = panels[of_p + labels[3 * p * L + m] * width + m]
    # s = sum of exp(x_k - x_a) but for k = a; in blocks, for one long chain of sums loses digits
    for v0 in range(0, V, 64):
        for c in range(vectors):
            most, where = load(stats, best + c * L), load(stats, place + c * L)
            s = splat(panels, 0)
            for v in range(v0, min(V, v0 + 64)):
                at = of_p + v * width + c * L
                e = np.exp(load(panels, at) - most)
                if backward:
                    store(panels, at, e)
                s = s + where_equal(splat(panels, v), where, splat(panels, 0), e)
            store(stats, total + c * L, load(stats, total + c * L) + s)
    for m in range(width):
        i = 3 * p * L + m
        if m < rows:
            # l = ln(1 + s) + (x_a - x_y)
            gap = np.float64(stats[best + m]) - np.float64(stats[of_label + m])
            s = np.float64(stats[total + m])
            w = weight[i] if len(weight) else 1.0
            losses[i] = (math.log1p(s) + gap) * (w / divisor)
            hits[i] = w if np.int64(stats[place + m]) == labels[i] else 0.0
            stats[share + m] = w / divisor
            stats[share + m] = stats[share + m] / (1 + stats[total + m])
        else:
            stats[share + m] = 0
    if not backward:
        return
    for v0 in range(0, V, 64):
        for c in range(vectors):
            factor = load(stats, share + c * L)
            count = max(0, min(L, rows - c * L))
            for v in range(v0, min(V, v0 + 64)):
                at = of_p + v * width + c * L
                dx = load(panels, at) * factor
                store(panels, at, dx if count == L else first_lanes(dx, count))
    for m in range(rows):
        i = 3 * p * L + m
        at_best = of_p + np.int64(stats[place + m]) * width + m
        at_label = of_p + labels[i] * width + m
        # exp(x_a - x_a), which is not a number if x_a is infinite
        panels[at_best] = stats[share + m]
        if at_best == at_label:
            panels[at_best] = -stats[total + m] * stats[share + m]
        else:
            stats[of_label + m] = (weight[i] if len(weight) else 1.0) / divisor
            panels[at_label] = panels[at_label] - stats[of_label + m]


@inner
def input_gradient(W, V, H, p0, p1, n, first, panels, own, sums, slices, offsets, dh):
    """dh = dx W for the rows of the panels p0..p1 of a group."""
    own_code()
    L = lanes(panels)
    slots = (H + ROWS - 1) // ROWS
    deep = max(32, min(DEPTH, 65536 // (slots * ROWS)))
    for v0 in range(0, V, deep):
        depth = min(deep, V - v0)
        for q in range(slots):
            for k in range(depth):
                source, to = (v0 + k) * H + q * ROWS, slices + (q * deep + k) * ROWS
                if q * ROWS + ROWS <= H:
                    copy_slice(W, source, own, to)
                else:
                    for m in range(H - q * ROWS):
                        own[to + m] = W[source + m]
        for p in range(p0, p1):
            vectors = panel_vectors(p, n, panels)
            width = vectors * L
            right = address(panels, (p - first) * V * 3 * L + v0 * width)
            j = 0
            while j < H:
                rows = tile_height(H - j)
                tile(
                    rows, vectors, panels,
                    address(own, slices + j // ROWS * deep * ROWS + j % ROWS), 0, ROWS, 1, right,
                    address(own, sums + (p - p0) * H * 3 * L + j * width), width, v0, 1, depth,
                )  # fmt: skip
                j += rows
    for p in range(p0, p1):
        vectors = panel_vectors(p, n, panels)
        width = vectors * L
        for c in range(vectors):
            i0 = (3 * p + c) * L
            count = min(L, n - i0)
            source = sums + (p - p0) * H * 3 * L + c * L
            step = offsets[i0 + 1] - offsets[i0] if count > 1 else 0
            even = count == L
            for m in range(2, count):
                even = even and offsets[i0 + m] == offsets[i0] + m * step
            k = 0
            if even:
                while k + L <= H:
                    transpose_tile(own, source + k * width, width, dh, offsets[i0] + k, step)
                    k += L
            for m in range(count):
                for u in range(k, H):
                    dh[offsets[i0 + m] + u] = own[source + u * width + m]


@entry
def rows_forth_and_back(
    h, offsets, W, b, labels, weight, divisor, n, V, H, low, high, first, group, backward,
    panels, own, columns, slices, rows_out, total, losses, hits, dh,
):  # fmt: skip
    """All that has to do with a row alone, for the panels low..high: l, hit or miss, dx and dh.

    `panels` begins with panel `first`; if not `backward`, with that of the group under way. Of the
    memory `own`, `columns` numbers each are for a group's rows of h and of dh, `slices` for W.
    """
    W = in_a_row(W)
    L = lanes(panels)
    for p0 in range(low, high, group):
        p1 = min(high, p0 + group)
        if not backward:
            first = p0
        for p in range(p0, p1):
            pack_rows_of(h, offsets, n, p, H, own, (p - p0) * H * 3 * L, rows_out, total)
        logits(W, V, H, own, p0, p1, n, first, panels)
        for p in range(p0, p1):
            of_p = (p - first) * V * 3 * L
            softmax_panel(
                b,
                labels,
                weight,
                divisor,
                n,
                p,
                V,
                panels,
                of_p,
                losses,
                hits,
                backward,
                own,
                2 * columns + slices,
            )
        if backward:
            input_gradient(
                W, V, H, p0, p1, n, first, panels, own, columns, 2 * columns, offsets, dh
            )


@inner
def put_rows(sums, width, dW, H, v0, v1, add):
    """Copy rows of sums, `width` apart, to the rows v0..v1 of dW, or add them."""
    own_code()
    L = lanes(sums)
    for v in range(v0, v1):
        source, to = (v - v0) * width, v * H
        if add:
            k = 0
            while k + L <= H:
                store(dW, to + k, load(dW, to + k) + load(sums, source + k))
                k += L
            for u in range(k, H):
                dW[to + u] += sums[source + u]
        else:
            copy_row(sums, source, dW, to, H, H)


@entry
def weight_gradient(panels, rows_out, total, n, V, H, low, high, first, last, add, sums, dW, db):
    """dW and db of the classes low..high from the panels first..last; added to if `add`."""
    dW = in_a_row(dW)
    L = lanes(panels)
    J = (H + L - 1) // L
    block, deep = 16 * ROWS, max(1, DEPTH // (3 * L))
    for v0 in range(low, high, block):
        v1 = min(high, v0 + block)
        for o0 in range(first, last, deep):
            o1 = min(last, o0 + deep)
            full = o1 if panel_vectors(o1 - 1, n, panels) == 3 else o1 - 1
            for j0 in range(0, J, 3):
                blocks = min(3, J - j0)
                for q in range(2):
                    # the full panels, then a narrow one if there is one
                    p, outer = (o0, full - o0) if q == 0 else (full, o1 - full)
                    if outer == 0:
                        continue
                    width = (3 if q == 0 else panel_vectors(p, n, panels)) * L
                    right = address(rows_out, (j0 * total + p * 3 * L * blocks) * L)
                    v = v0
                    while v < v1:
                        rows = tile_height(v1 - v)
                        tile(
                            rows, blocks, panels,
                            address(panels, (p - first) * V * 3 * L + v * width),
                            V * 3 * L, 1, width, right,
                            address(sums, (v - v0) * J * L + j0 * L), J * L,
                            p > first, outer, width,
                        )  # fmt: skip
                        v += rows
        put_rows(sums, J * L, dW, H, v0, v1, add)
        if len(db):
            for v in range(v0, v1):
                s = splat(panels, 0)
                for p in range(first, last):
                    vectors = panel_vectors(p, n, panels)
                    at = ((p - first) * V * 3 + v * vectors) * L
                    for c in range(vectors):
                        s = s + load(panels, at + c * L)
                value = sum_lanes(s)
                db[v] = db[v] + value if add else value


# ------------------------------------------------------------------------------ the embedding


@entry
def first_outside(integers, end):
    """Where the first integer stands that is not in 0..end-1, or -1."""
    for i in range(len(integers)):
        if integers[i] < 0 or integers[i] >= end:
            return i
    return -1


@entry
def embedding_gradient(ids, dy, low, high, dW):
    """dW[id] = sum of dy over the places of id, first place first; its columns low..high."""
    E, dW = dW.shape[1], in_a_row(dW)
    L = lanes(dW)
    for v in range(len(dW) // E):
        clear(dW, v * E + low, v * E + high)
    for i in range(len(ids)):
        to, source, k = ids[i] * E, i * E, low
        while k + L <= high:
            store(dW, to + k, load(dW, to + k) + load(dy, source + k))
            k += L
        for u in range(k, high):
            dW[to + u] += dy[source + u]
