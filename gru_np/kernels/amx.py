"""Products of float32 matrices on the tile unit of newer x86 processors (AMX).

The unit multiplies bfloat16, a float32 whose significand is cut to 8 bits, and sums in float32. A
float32 has 24 bits, so three bfloat16 hold it exactly, x = x1 + x2 + x3, each rounded from what the
ones before leave, and

    a b = a1 b1 + (a1 b2 + a2 b1) + (a1 b3 + a2 b2 + a3 b1)

but for less than 2^-22 of it: the precision of float32, for six products, of which the unit does 16
in the time of one of float32. Numbers below 1e-33 lose bits and those below 1e-38 count as zero.

A tile is 16 rows of 64 bytes. Operands come in blocks: their three parts, of each two tiles.

    left     row m: a[m, k], a[m, k + 16] for k = 0 ... 15, side by side     32 m x 32 k
    right    row k: b[k, v], b[k + 16, v] for v = 0 ... 15, side by side     32 k x 32 v

Every element is summed in one order, whatever the block it falls in.
"""

import ctypes
import sys
from functools import cache

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from gru_np.kernels.matmul import INT64
from gru_np.kernels.vector import FEATURES, VECTORS, Emit

SIDE = 32  # rows and columns of a block
TILE = 1024  # bytes
PART = 2 * TILE
BLOCK = 3 * PART
BLOCK_NUMBERS = BLOCK // 4  # as an array of float32
# As many blocks of an operand as stay in the first-level cache.
DEEP = 11

BYTE = ir.IntType(8)
# Parts of a and of b, each pair of neighbours sharing one of them, which need not be read again.
PRODUCTS = [(2, 0), (1, 0), (1, 1), (0, 1), (0, 0), (0, 2)]
_SYS_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XTILEDATA = 158, 0x1023, 18


@cache
def ready() -> bool:
    """Whether the processor has the unit and the system lets this process use it."""
    if "amx-bf16" not in FEATURES or "avx512f" not in FEATURES or sys.platform != "linux":
        return False
    try:
        ask = ctypes.CDLL(None).syscall
        return ask(_SYS_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XTILEDATA) == 0
    except (OSError, AttributeError):
        return False


def _call(builder, name, *args):
    """Call an instruction of the unit; tile registers are given by their numbers."""
    kind = ir.FunctionType(ir.VoidType(), [arg.type for arg in args])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}")
    builder.call(function, args)


def _register(i):
    return ir.Constant(BYTE, i)


@intrinsic
def open_tiles(typingctx):
    """Set all eight tile registers to 16 rows of 64 bytes; each thread has its own."""
    settings = bytes([1] + [0] * 15 + [64, 0] * 8 + [0] * 16 + [16] * 8 + [0] * 8)

    def emit(context, builder, sig, args):
        kind = ir.ArrayType(BYTE, len(settings))
        place = cgutils.alloca_once_value(builder, ir.Constant(kind, bytearray(settings)))
        _call(builder, "ldtilecfg", builder.bitcast(place, BYTE.as_pointer()))
        return context.get_dummy_value()

    return types.void(), emit


@intrinsic
def close_tiles(typingctx):
    """Let go of the tile registers, so that the system need not save them."""

    def emit(context, builder, sig, args):
        _call(builder, "tilerelease")
        return context.get_dummy_value()

    return types.void(), emit


@intrinsic
def multiply(typingctx, a, b, c, c_row, add, depth):
    """c (32, 32) = the sum of `depth` blocks of a times those of b; c counts too if `add`.

    a, b and c are addresses; rows of c are `c_row` bytes apart.
    """

    def emit(context, builder, sig, args):
        a, b, c, c_row, add, depth = args
        const = lambda i: ir.Constant(INT64, i)  # noqa: E731

        def move(name, register, base, row):
            _call(
                builder, name, _register(register), builder.inttoptr(base, BYTE.as_pointer()), row
            )

        corners = [
            builder.add(builder.add(c, builder.mul(c_row, const(16 * m))), const(64 * v))
            for m in range(2)
            for v in range(2)
        ]
        adds = builder.icmp_signed("!=", add, const(0))
        with builder.if_else(adds) as (then, otherwise):
            with then:
                for i, corner in enumerate(corners):
                    move("tileloadd64", i, corner, c_row)
            with otherwise:
                for i in range(4):
                    _call(builder, "tilezero", _register(i))
        with cgutils.for_range(builder, depth) as loop:
            step = builder.mul(loop.index, const(BLOCK))
            a_k, b_k = builder.add(a, step), builder.add(b, step)
            held = {}
            for parts in PRODUCTS:
                for first, base, part in zip((4, 6), (a_k, b_k), parts, strict=True):
                    if held.get(first) != part:
                        held[first] = part
                        for i in range(2):
                            place = builder.add(base, const(part * PART + i * TILE))
                            move("tileloadd64", first + i, place, const(64))
                for i in range(4):
                    numbers = map(_register, (i, 4 + i // 2, 6 + i % 2))
                    _call(builder, "tdpbf16ps", *numbers)
        for i, corner in enumerate(corners):
            move("tilestored64", i, corner, c_row)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 6), emit


@intrinsic
def put_parts(typingctx, even, odd, to):
    """Write a row of a block: the three parts of two vectors, side by side, from address `to`."""

    def emit(context, builder, sig, args):
        even, odd, to = args
        e = Emit(context, builder, VECTORS[types.float32])
        upper, half, shift = (e.int_const(i) for i in (-0x10000, 0x8000, 16))

        def split(x):
            """Bits of x rounded to 8, and what it loses."""
            rounded = builder.and_(builder.add(builder.bitcast(x, e.int), half), upper)
            return rounded, builder.fsub(x, builder.bitcast(rounded, e.type))

        for part in range(3):
            if part < 2:
                low, even = split(even)
                high, odd = split(odd)
            else:  # 8 bits are left
                low, high = (builder.bitcast(x, e.int) for x in (even, odd))
                high = builder.and_(high, upper)
            row = builder.or_(builder.lshr(low, shift), high)
            place = builder.add(to, ir.Constant(INT64, part * PART))
            place = builder.inttoptr(place, e.element.as_pointer())
            e.put(builder.bitcast(row, e.type), place)
        return context.get_dummy_value()

    return types.void(VECTORS[types.float32], VECTORS[types.float32], types.intp), emit
