"""Matrix products by register tiles on packed panels.

    c[m, v] = start[m, v] + sum over k of a[m, k] * b[k, v]

A tile of up to ROWS rows by 3 vectors keeps its sums in registers for the whole of k. Its right
side is a panel: for each k the few vectors it needs, side by side, packed once and reused.

A packed matrix is a row of blocks, each one vector wide, cut into panels of 3 blocks (of 2 where
`panel_width` finds that fills the registers better). A panel is stored as [k][block][lane] and the
panels follow each other, so the one that begins at a block lies at block * depth * lanes.

Every element is one chain of fused multiply-adds, first k first, from its start. Tile shape, cuts
in rows or in depth and the number of threads do not change a bit of it.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from gru_np.kernels._jit import inner
from gru_np.kernels.vector import (
    REGISTER_BYTES,
    ROWS,
    VECTORS,
    Emit,
    element_address,
    fetch,
    lanes,
    load,
    own_code,
    store,
)

# A slice of a panel this deep takes 24 KiB and stays in the first-level cache.
DEPTH = 24 * 1024 // (3 * REGISTER_BYTES)
# One this deep takes 192 KiB and stays in the second, which feeds a tile as fast as the first does.
DEEP = 8 * DEPTH
# So many k at a time in the loop of a large tile: there is less around the multiply-adds, which
# counts most where the core serves another thread too and takes half as many instructions of this
# one. Tiles of fewer sums are rare, and would only take longer to compile.
UNROLL, LARGE = 4, 12
INT64 = ir.IntType(64)


@intrinsic
def address(typingctx, array, index):
    """Address of array[index] as an integer; the array must outlive its use."""

    def emit(context, builder, sig, args):
        return builder.ptrtoint(element_address(context, builder, sig.args[0], *args), INT64)

    return types.intp(array, types.intp), emit


def make_tile(rows, blocks, packed=False):
    """Write a register tile of `rows` x `blocks` vectors as an intrinsic.

    a, b, start and c are addresses, the row and panel strides count elements, and `like` is an
    array that tells the dtype. `packed` says that a is [k][ROWS] rather than rows of k, and that
    the panel is 3 blocks wide however few of them are meant. More than 3 blocks are several panels,
    whose sums lie side by side in c all the same. With each k a tile on rows asks for a vector more
    from `ahead` on, which may be any address, to be brought to the second-level cache.
    """

    @intrinsic
    def tile(typingctx, like, a, a_row, b, b_panel, start, start_row, c, c_row, depth, ahead):
        vector = VECTORS[like.dtype]

        def emit(context, builder, sig, args):
            _, a, a_row, b, b_panel, start, start_row, c, c_row, depth, ahead = args
            e = Emit(context, builder, vector)
            const = lambda i: ir.Constant(INT64, i)  # noqa: E731
            at = lambda pointer, i: builder.gep(pointer, [i])  # noqa: E731
            a0, b0, s0, c0 = (builder.inttoptr(p, e.element.as_pointer()) for p in (a, b, start, c))
            cells = [(m, v) for m in range(rows) for v in range(blocks)]
            a_rows = [
                at(a0, const(m) if packed else builder.mul(a_row, const(m))) for m in range(rows)
            ]
            panels = [at(b0, builder.mul(b_panel, const(p))) for p in range(-(-blocks // 3))]

            def cell(base, row, m, v):
                return at(base, builder.add(builder.mul(row, const(m)), const(v * e.lanes)))

            def multiply(k, sums):
                """Sums with the products of one k."""
                from_b = builder.mul(k, const((3 if packed else min(blocks, 3)) * e.lanes))
                from_a = builder.mul(k, const(ROWS if packed else 1))
                bs = [
                    e.at(at(at(panels[v // 3], from_b), const(v % 3 * e.lanes)))
                    for v in range(blocks)
                ]
                if not packed:
                    line = builder.add(ahead, builder.mul(k, const(REGISTER_BYTES)))
                    fetch(builder, builder.inttoptr(line, e.element.as_pointer()))
                sums = dict(sums)
                for m in range(rows):
                    am = e.splat(builder.load(at(a_rows[m], from_a)))
                    for v in range(blocks):
                        sums[m, v] = e.fma(am, bs[v], sums[m, v])
                return sums

            def loop(k, sums, stride):
                """From k on, `stride` at a time while so many are left: the next k, and sums."""
                before = builder.block
                body, done = builder.append_basic_block("k"), builder.append_basic_block("done")
                fits = lambda k: builder.icmp_signed("<=", builder.add(k, const(stride)), depth)  # noqa: E731
                builder.cbranch(fits(k), body, done)

                builder.position_at_end(body)
                here, now = builder.phi(INT64), {mv: builder.phi(e.type) for mv in cells}
                new = now
                for more in range(stride):
                    new = multiply(builder.add(here, const(more)), new)
                following = builder.add(here, const(stride))
                builder.cbranch(fits(following), body, done)

                builder.position_at_end(done)
                last, totals = builder.phi(INT64), {mv: builder.phi(e.type) for mv in cells}
                for phis in ((here, now), (last, totals)):
                    for values, block in (((k, sums), before), ((following, new), body)):
                        phis[0].add_incoming(values[0], block)
                        for mv in cells:
                            phis[1][mv].add_incoming(values[1][mv], block)
                return last, totals

            k, sums = const(0), {mv: e.at(cell(s0, start_row, *mv)) for mv in cells}
            for stride in (UNROLL, 1) if len(cells) >= LARGE else (1,):
                k, sums = loop(k, sums, stride)
            for mv in cells:
                e.put(sums[mv], cell(c0, c_row, *mv))
            return context.get_dummy_value()

        return types.void(like, *[types.intp] * 10), emit

    return tile


def _choose(name, tiles, packed=False):
    """Compile a function that picks the tile by its number of rows and blocks."""
    arguments = "like, a, a_row, b, b_panel, start, start_row, c, c_row, depth"
    ahead = "" if packed else ", ahead"
    # Written as text because each intrinsic needs a name of its own in the calling function.
    lines = [f"def {name}(rows, blocks, {arguments}{ahead}):", "    own_code()"]
    for rows, blocks in sorted(tiles, key=lambda size: (-size[0], -size[1])):
        lines += [f"    if rows == {rows} and blocks == {blocks}:"]
        lines += [f"        return tile_{rows}_{blocks}({arguments}{ahead or ', 0'})"]
    names = {"own_code": own_code} | {
        f"tile_{rows}_{blocks}": tile for (rows, blocks), tile in tiles.items()
    }
    exec("\n".join(lines), names)
    return inner(names[name])


# One and two rows alone would wait for each fma; several panels at once give enough sums.
WIDE = {1: 12, 2: 6}
_SIZES = [(m, v) for m in range(1, ROWS + 1) for v in (1, 2, 3)]
tile = _choose("tile", {size: make_tile(*size) for size in [*_SIZES, *WIDE.items()]})
tile_packed = _choose("tile_packed", {size: make_tile(*size, packed=True) for size in _SIZES}, True)


@inner
def panel_width(left):
    """Blocks of the next panel when `left` are left: 3, or 2 where that avoids a lonely one."""
    if left == 4 or left == 2:
        return 2
    return 1 if left == 1 else 3


@inner
def product(a, a_row, b, ib, start, i0, start_row, c, ic, c_row, rows, blocks, depth, begin, end):
    """c = start + a b, for the blocks begin..end of a packed matrix b of `blocks` in all.

    a is the address of its first row, rows `a_row` elements apart. c and start are rows of whole
    vectors, block 0 at ic and i0; start_row = 0 repeats one row, such as a bias; c may be start.
    `begin` must begin a panel.
    """
    own_code()
    sweep(
        False, 0, 0, a, a_row, b, ib, start, i0, start_row, c, ic, c_row, rows, blocks, depth,
        begin, end,
    )  # fmt: skip


@inner
def sweep(
    back, soon, lines, a, a_row, b, ib, start, i0, start_row, c, ic, c_row, rows, blocks, depth,
    begin, end,
):  # fmt: skip
    """Do as `product` does, from the last panels to the first if `back`.

    Steps that read a matrix larger than the second-level cache always in the same order find
    nothing of it there; reading it to and fro, each step finds what the one before read last. And
    while the tiles of one panel are at work, they ask for the next one: so the matrix comes in
    evenly, where else the first tile of every panel would wait for it and the others would not.
    The first tiles ask instead for the `lines` vectors at the address `soon`, which somebody will
    read or write after the product and would have to wait for, while products hardly ever do.
    """
    own_code()
    L, size = lanes(c), c.itemsize
    wide = 12 if rows == 1 else 6 if rows == 2 else 3
    piece = 12 if rows <= 2 else 3
    # tiles as equal as can be
    tiles = max(1, (rows + ROWS - 1) // ROWS)
    low, higher = rows // tiles, rows % tiles
    # a lonely last block goes with the piece before, as `panel_width` may have paired it
    pieces = max(1, (end - begin + piece - 2) // piece)
    for p in range(pieces):
        q = pieces - 1 - p if back else p
        block = begin + q * piece
        last = end if q == pieces - 1 else block + piece
        while block < last:
            left = blocks - block
            width = panel_width(left)
            panel, deeper = address(b, ib + block * depth * L), width * L * size
            ahead = panel + (-3 * depth * L * size if back else depth * deeper)
            if width < wide and block + wide <= last and (left == wide or left >= wide + 2):
                width = wide
            s0, s_row, c0 = address(start, i0 + block * L), start_row, address(c, ic + block * L)
            k0 = 0
            while k0 < depth or k0 == 0:
                deep = min(DEEP, depth - k0)
                a_m, s_m, c_m = a + k0 * size, s0, c0
                for m in range(tiles):
                    height = low + 1 if m < higher else low
                    line = ahead + min(m, 2) * deep * REGISTER_BYTES
                    if lines > 0:
                        line = soon
                        soon += deep * REGISTER_BYTES
                        lines -= deep
                    tile(
                        height, width, c, a_m, a_row, panel, 3 * depth * L,
                        s_m, s_row, c_m, c_row, deep, line,
                    )  # fmt: skip
                    a_m += height * a_row * size
                    s_m += height * s_row * size
                    c_m += height * c_row * size
                s0, s_row = c0, c_row
                panel += deep * deeper
                ahead += 3 * deep * REGISTER_BYTES
                k0 += DEEP
            block += width


# ----------------------------------------------------------------------------------- packing


@intrinsic
def transpose_tile(typingctx, source, i, row, target, j, column):
    """target[j + k * column + m] = source[i + m * row + k] for m, k < lanes, in registers."""
    vector = VECTORS[source.dtype]

    def emit(context, builder, sig, args):
        source, i, row, target, j, column = args
        e = Emit(context, builder, vector)
        s0 = element_address(context, builder, sig.args[0], source, i)
        t0 = element_address(context, builder, sig.args[3], target, j)
        const = lambda m: ir.Constant(INT64, m)  # noqa: E731
        vectors = [e.at(builder.gep(s0, [builder.mul(row, const(m))])) for m in range(e.lanes)]
        # Exchange off-diagonal blocks of 1, 2, 4 ... elements between rows as far apart.
        step = 1
        while step < e.lanes:
            upper = [m if m & step == 0 else m - step + e.lanes for m in range(e.lanes)]
            lower = [m + step if m & step == 0 else m + e.lanes for m in range(e.lanes)]
            masks = [
                ir.Constant(ir.VectorType(ir.IntType(32), e.lanes), mask) for mask in (upper, lower)
            ]
            for m in range(e.lanes):
                if m & step == 0:
                    pair = vectors[m], vectors[m + step]
                    vectors[m], vectors[m + step] = (
                        builder.shuffle_vector(*pair, mask) for mask in masks
                    )
            step *= 2
        for m, value in enumerate(vectors):
            e.put(value, builder.gep(t0, [builder.mul(column, const(m))]))
        return context.get_dummy_value()

    index = types.intp
    return types.void(source, index, index, target, index, index), emit


@inner
def pack_transposed(w, first, row, gates, units, depth, out, io):
    """Pack the transpose of w (gates * units, depth): its rows become columns.

    w[g, u, k] is w[first + (g * units + u) * row + k]. Blocks follow each other unit block by unit
    block, in each all gates; lanes beyond the last unit are zero. Returns where the packing ends.
    """
    L = lanes(out)
    return pack_units(w, first, row, gates, units, 0, (units + L - 1) // L, depth, out, io)


@inner
def pack_units(w, first, row, gates, units, begin, end, depth, out, io):
    """Do as `pack_transposed` does, for the vectors begin..end of units: a matrix of its own."""
    own_code()
    L = lanes(out)
    blocks = gates * (end - begin)
    block = 0
    while block < blocks:
        width = panel_width(blocks - block)
        for v in range(width):
            g, u = (block + v) % gates, (begin + (block + v) // gates) * L
            source = first + (g * units + u) * row
            target = io + block * depth * L + v * L
            k = 0
            if u + L <= units:
                while k + L <= depth:
                    transpose_tile(w, source + k, row, out, target + k * width * L, width * L)
                    k += L
            while k < depth:
                for lane in range(L):
                    inside = u + lane < units
                    out[target + k * width * L + lane] = w[source + lane * row + k] if inside else 0
                k += 1
        block += width
    return io + blocks * depth * L


@inner
def pack_rows(w, first, row, gates, units, columns, turn, out, io):
    """Pack w (gates * units, columns) as it stands: its columns stay columns.

    Gate `turn` comes first, then the others in a circle. The depth is gates *
    units, the units of each gate rounded up to whole vectors by rows of zeros. Lanes beyond the
    last column are zero. Returns where the packing ends.
    """
    own_code()
    L = lanes(out)
    padded = (units + L - 1) // L * L
    depth, blocks = gates * padded, (columns + L - 1) // L
    block = 0
    while block < blocks:
        width = panel_width(blocks - block)
        for k in range(depth):
            g, u = k // padded, k % padded
            target = io + (block * depth + k * width) * L
            source = first + ((g + turn) % gates * units + u) * row + block * L
            for v in range(width):
                count = min(columns - (block + v) * L, L) if u < units else 0
                if count == L:
                    store(out, target + v * L, load(w, source + v * L))
                else:
                    for lane in range(L):
                        inside = lane < count
                        out[target + v * L + lane] = w[source + v * L + lane] if inside else 0
        block += width
    return io + blocks * depth * L


@inner
def copy_row(source, i, target, j, count, padded):
    """target[j : j + count] = source[i : i + count], then zeros up to `padded`."""
    own_code()
    L = lanes(target)
    k = 0
    while k + L <= count:
        store(target, j + k, load(source, i + k))
        k += L
    while k < count:
        target[j + k] = source[i + k]
        k += 1
    while k < padded:
        target[j + k] = 0
        k += 1


@intrinsic
def copy_slice(typingctx, source, i, target, j):
    """target[j : j + ROWS] = source[i : i + ROWS]."""

    def emit(context, builder, sig, args):
        source, i, target, j = args
        element = context.get_value_type(source_type := sig.args[0].dtype)
        size = 4 if source_type is types.float32 else 8
        kind = ir.VectorType(element, ROWS).as_pointer()
        from_, to = (
            builder.bitcast(element_address(context, builder, array_type, array, at), kind)
            for array_type, array, at in ((sig.args[0], source, i), (sig.args[2], target, j))
        )
        value = builder.load(from_)
        value.align = size
        builder.store(value, to).align = size
        return context.get_dummy_value()

    return types.void(source, types.intp, target, types.intp), emit


@inner
def pack_slices(source, i, row, depth, columns, out, io, stride):
    """Make `depth` rows of `source` the left side of `tile_packed`: slices [k][ROWS] of columns.

    Slices lie `stride` apart; columns beyond the last are zero. Groups of eight slices keep the
    cache lines of the source in use.
    """
    own_code()
    group = 8 * ROWS
    for c0 in range(0, columns, group):
        c1 = min(c0 + group, columns)
        for k in range(depth):
            here, to, c = i + k * row, io + c0 // ROWS * stride + k * ROWS, c0
            while c + ROWS <= c1:
                copy_slice(source, here + c, out, to)
                c += ROWS
                to += stride
            if c < c1:
                for q in range(ROWS):
                    out[to + q] = source[here + c + q] if c + q < c1 else 0


@inner
def clear(array, begin, end):
    """array[begin:end] = 0; a plain loop compiles much faster than a slice."""
    own_code()
    for i in range(begin, end):
        array[i] = 0
