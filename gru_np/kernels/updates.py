"""The optimiser's passes over all parameters, compiled: the norm of the gradient, and Adam.

Each reads every number once and needs no memory. Arrays are given by their addresses, in one table
for all parameters: a call for each of many small arrays would cost more than the arithmetic.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from gru_np.kernels._jit import entry, inner
from gru_np.kernels.matmul import INT64
from gru_np.kernels.vector import VECTORS, Emit, lanes, own_code, splat

# A sum of squares is taken in pieces of so many numbers: its bits do not depend on the threads.
PIECE = 1 << 14
# Columns of a table, one row a parameter: addresses, of which v_max may be 0, and the size.
P, G, M, V, V_MAX, SIZE = range(6)


def _element(context, builder, dtype, base, index):
    """Address of element `index` of the array at address `base`."""
    kind = context.get_value_type(dtype).as_pointer()
    return builder.gep(builder.inttoptr(base, kind), [index])


@intrinsic
def read(typingctx, like, base, index):
    """Vector at element `index` of the array of like's dtype at address `base`."""
    vector = VECTORS[like.dtype]

    def emit(context, builder, sig, args):
        return Emit(context, builder, vector).at(_element(context, builder, like.dtype, *args[1:]))

    return vector(like, types.intp, types.intp), emit


@intrinsic
def write(typingctx, like, base, index, value):
    """Write a vector there."""
    vector = VECTORS[like.dtype]

    def emit(context, builder, sig, args):
        place = _element(context, builder, like.dtype, *args[1:3])
        Emit(context, builder, vector).put(args[3], place)
        return context.get_dummy_value()

    return types.void(like, types.intp, types.intp, vector), emit


@intrinsic
def read_one(typingctx, like, base, index):
    """Number at element `index`, in all lanes of a vector."""
    vector = VECTORS[like.dtype]

    def emit(context, builder, sig, args):
        place = _element(context, builder, like.dtype, *args[1:])
        return Emit(context, builder, vector).splat(builder.load(place))

    return vector(like, types.intp, types.intp), emit


@intrinsic
def write_one(typingctx, like, base, index, value):
    """Write the first lane of a vector there."""
    vector = VECTORS[like.dtype]

    def emit(context, builder, sig, args):
        first = builder.extract_element(args[3], ir.Constant(ir.IntType(32), 0))
        builder.store(first, _element(context, builder, like.dtype, *args[1:3]))
        return context.get_dummy_value()

    return types.void(like, types.intp, types.intp, vector), emit


@intrinsic
def sum_of_squares(typingctx, like, base, begin, end):
    """Sum of the squares of the elements begin..end, in float64."""
    vector = VECTORS[like.dtype]

    def emit(context, builder, sig, args):
        _, base, begin, end = args
        e = Emit(context, builder, vector)
        wide, one = ir.VectorType(ir.DoubleType(), e.lanes), ir.DoubleType()
        widen = (lambda x, kind: builder.fpext(x, kind)) if e.single else (lambda x, kind: x)
        # The square of a float32 is exact in float64.
        sums = cgutils.alloca_once_value(builder, ir.Constant(wide, [0.0] * e.lanes))
        rest = cgutils.alloca_once_value(builder, ir.Constant(one, 0.0))
        step = ir.Constant(INT64, e.lanes)
        count = builder.sdiv(builder.sub(end, begin), step)
        with cgutils.for_range(builder, count) as loop:
            at = builder.add(begin, builder.mul(loop.index, step))
            x = widen(e.at(_element(context, builder, like.dtype, base, at)), wide)
            builder.store(builder.fadd(builder.load(sums), builder.fmul(x, x)), sums)
        tail = builder.add(begin, builder.mul(count, step))
        with cgutils.for_range(builder, builder.sub(end, tail)) as loop:
            at = builder.add(tail, loop.index)
            x = widen(builder.load(_element(context, builder, like.dtype, base, at)), one)
            builder.store(builder.fadd(builder.load(rest), builder.fmul(x, x)), rest)
        total, lanes_ = builder.load(rest), builder.load(sums)
        for i in range(e.lanes):
            lane = builder.extract_element(lanes_, ir.Constant(ir.IntType(32), i))
            total = builder.fadd(total, lane)
        return total

    return types.float64(like, types.intp, types.intp, types.intp), emit


@entry
def squares(table, like, low, high, sums):
    """sums[i] = sum of squares of piece i of all gradients, for the pieces low..high."""
    first = 0
    for row in range(len(table)):
        size = table[row, SIZE]
        pieces = (size + PIECE - 1) // PIECE
        for i in range(max(low, first), min(high, first + pieces)):
            begin = (i - first) * PIECE
            sums[i] = sum_of_squares(like, table[row, G], begin, min(size, begin + PIECE))
        first += pieces


@inner
def adam_step(p, g, m, v, peak, amsgrad, scale, decay, a, b, step_size, epsilon):
    """One vector of `optimizers.adam_update`, operation by operation, clipping and decay before."""
    g = g * scale
    p = p - p * decay
    m = m + (g - m) * a
    v = v + (g * g - v) * b
    # maximum(v_max, v), a NaN of either kept
    peak = larger(peak, v) if amsgrad else v
    return p - m / (np.sqrt(peak) + epsilon) * step_size, m, v, peak


@intrinsic
def larger(typingctx, a, b):
    """Larger of two, lane by lane; NaN if either is."""

    def emit(context, builder, sig, args):
        a, b = args
        a_or_nan = builder.fcmp_unordered("uno", a, a)
        return builder.select(builder.or_(a_or_nan, builder.fcmp_ordered(">", a, b)), a, b)

    return a(a, a), emit


@entry
def adam(table, like, decays, scales, low, high, a, b, step_size, epsilon):
    """`optimizers.adam_update` of the numbers low..high, counted through all parameters.

    a = 1 - beta_1, b = 1 - beta_2; p loses decays[i] of itself before, g is multiplied by
    scales[i].
    """
    own_code()
    L = lanes(like)
    a_, b_, e_, s_ = splat(like, a), splat(like, b), splat(like, epsilon), splat(like, step_size)
    first = 0
    for row in range(len(table)):
        size = table[row, SIZE]
        i, end = max(low, first) - first, min(high, first + size) - first
        first += size
        p, g, m, v, top = (
            table[row, P],
            table[row, G],
            table[row, M],
            table[row, V],
            table[row, V_MAX],
        )
        peak = top if top else v
        decay, scale = splat(like, decays[row]), splat(like, scales[row])
        while i + L <= end:
            p_, m_, v_, x_ = adam_step(
                read(like, p, i), read(like, g, i), read(like, m, i), read(like, v, i),
                read(like, peak, i), top != 0, scale, decay, a_, b_, s_, e_,
            )  # fmt: skip
            write(like, p, i, p_)
            write(like, m, i, m_)
            write(like, v, i, v_)
            if top:
                write(like, peak, i, x_)
            i += L
        while i < end:
            p_, m_, v_, x_ = adam_step(
                read_one(like, p, i), read_one(like, g, i), read_one(like, m, i),
                read_one(like, v, i), read_one(like, peak, i), top != 0, scale, decay,
                a_, b_, s_, e_,
            )  # fmt: skip
            write_one(like, p, i, p_)
            write_one(like, m, i, m_)
            write_one(like, v, i, v_)
            if top:
                write_one(like, peak, i, x_)
            i += 1
