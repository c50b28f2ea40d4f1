"""A SIMD vector as a numba type, and the functions of `gru_np.equations` compiled on it.

A `Vector` holds as many float32 or float64 lanes as a register of the host. `load`, `store` and
`+ - * /` with vectors or numbers are all that the equations need beside sigmoid and tanh, so
`gru_step` and the rest are compiled here from their one source, unchanged.

No fast-math flag is set anywhere: a product and a sum fuse only where `fma` says so. The bits of a
result then follow from this source, not from what LLVM made of the code around it.

Accuracy against exact arithmetic (benchmarks/activation_error.py measures all 2^32 float32
inputs): tanh and sigmoid within 1.5e-7 in float32 and 4 * 2^-53 in float64, absolute; exp and log
within 4 ulp. NaN stays NaN, infinities saturate, tanh is exactly odd and never beyond 1. The
coefficients are ours: benchmarks/activation_fit.py derives them.
"""

import operator

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, codegen, config
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import (
    intrinsic,
    lower_builtin,
    lower_cast,
    models,
    overload,
    register_model,
)
from numba.np.arrayobj import populate_array

from gru_np import equations
from gru_np.kernels._jit import inner

# ------------------------------------------------------------------------------- the host
# The one place that looks at the processor. Everything else is correct for any answer.


def host_features() -> frozenset[str]:
    """Name the instruction sets numba compiles for, as LLVM spells them."""
    text = config.CPU_FEATURES
    text = codegen.get_host_cpu_features() if text is None else text
    return frozenset(word[1:] for word in text.split(",") if word.startswith("+"))


FEATURES = host_features()
REGISTER_BYTES = 64 if "avx512f" in FEATURES else 32 if "avx" in FEATURES else 16
# Architectural vector registers: AVX-512 and NEON have 32, older x86 16. A register tile of
# ROWS x 3 sums, 3 weights and 1 broadcast input must fit, and 8 sums hide the latency of fma.
ROWS = 8 if "avx512f" in FEATURES or "neon" in FEATURES else 4
# Without the instruction, llvm.fma is a slow library call; fmuladd then rounds twice.
FMA = "fma" if FEATURES & {"fma", "neon"} else "fmuladd"
LANES = {types.float32: REGISTER_BYTES // 4, types.float64: REGISTER_BYTES // 8}


# ------------------------------------------------------------------------------- the type


class Vector(types.Type):
    """Registers of `dtype` lanes, one or more; numbers convert to it by broadcasting."""

    def __init__(self, dtype, registers=1):
        self.dtype = dtype
        self.lanes = registers * LANES[dtype]
        super().__init__(name=f"Vector({dtype}, {self.lanes})")

    def can_convert_from(self, typingctx, other):
        """Say how well `other` converts: numbers do, vectors of another dtype do not."""
        if isinstance(other, types.Integer | types.Float):
            return typingctx.can_convert(types.int64, types.float64)
        return None


VECTORS = {dtype: Vector(dtype) for dtype in LANES}
# Two registers that do the same side by side: a gate's long chain of operations, each waiting for
# the one before, leaves room for two.
PAIRS = {dtype: Vector(dtype, 2) for dtype in LANES}


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        element = ir.FloatType() if fe_type.dtype is types.float32 else ir.DoubleType()
        super().__init__(dmm, fe_type, ir.VectorType(element, fe_type.lanes))


class Emit:
    """Write vector instructions: a thin layer over llvmlite for one vector type."""

    def __init__(self, context, builder, vector):
        self.builder, self.lanes = builder, vector.lanes
        self.type = context.get_value_type(vector)
        self.element = self.type.element
        self.single = vector.dtype is types.float32
        self.bits = 32 if self.single else 64
        self.int = ir.VectorType(ir.IntType(self.bits), self.lanes)
        self.suffix = f"v{self.lanes}f{self.bits}"

    def const(self, value):
        """Broadcast a Python number."""
        return ir.Constant(self.type, [float(value)] * self.lanes)

    def int_const(self, value):
        """Broadcast a Python integer, as wide as the lanes."""
        return ir.Constant(self.int, [int(value)] * self.lanes)

    def splat(self, scalar):
        """Broadcast a scalar value."""
        undefined = ir.Constant(self.type, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(first, undefined, zeros)

    def call(self, name, *args):
        """Call an LLVM intrinsic on vectors."""
        kind = ir.FunctionType(self.type, [self.type] * len(args))
        function = cgutils.get_or_insert_function(
            self.builder.module, kind, f"llvm.{name}.{self.suffix}"
        )
        return self.builder.call(function, args)

    def fma(self, a, b, c):
        """Return a * b + c, rounded once."""
        return self.call(FMA, a, b, c)

    def horner(self, x, coefficients):
        """Polynomial in x, highest power first."""
        total = self.const(coefficients[0])
        for c in coefficients[1:]:
            total = self.fma(total, x, self.const(c))
        return total

    def clip(self, x, low, high):
        """X within [low, high]; these comparisons are false for NaN, which so stays."""
        b, low, high = self.builder, self.const(low), self.const(high)
        x = b.select(b.fcmp_ordered(">", low, x), low, x)
        return b.select(b.fcmp_ordered("<", high, x), high, x)

    def at(self, pointer, align=None):
        """Read a vector; the address need only be aligned for one element."""
        value = self.builder.load(self.builder.bitcast(pointer, self.type.as_pointer()))
        value.align = align or self.bits // 8
        return value

    def put(self, value, pointer):
        """Write a vector."""
        self.builder.store(value, self.builder.bitcast(pointer, self.type.as_pointer())).align = (
            self.bits // 8
        )

    # --------------------------------------------------------------------------- functions

    def two_to(self, n):
        """2^n for a vector of whole floats n in the normal exponent range."""
        b, mantissa, bias = self.builder, 23 if self.single else 52, 127 if self.single else 1023
        exponent = b.add(b.fptosi(n, self.int), self.int_const(bias))
        return b.bitcast(b.shl(exponent, self.int_const(mantissa)), self.type)

    def exp_parts(self, x):
        """N whole and p = exp(r) - 1 with x = n ln 2 + r, |r| <= ln(2) / 2."""
        # ln 2 in two parts; the first has so few bits that n times it is exact
        first, second = LN2_SINGLE if self.single else LN2_DOUBLE
        n = self.call("rint", self.builder.fmul(x, self.const(LOG2_E)))
        r = self.fma(n, self.const(-first), x)
        r = self.fma(n, self.const(-second), r)
        q = self.horner(r, EXP_SINGLE if self.single else EXP_DOUBLE)
        return n, self.fma(self.builder.fmul(r, r), q, r)

    def exp(self, x):
        """exp(x) = 2^n (1 + p), 2^n as two factors: either alone would overflow at the ends."""
        b = self.builder
        low, high = (-105, 90) if self.single else (-746, 710)
        n, p = self.exp_parts(self.clip(x, low, high))
        # NaN to integer is undefined in LLVM; p is NaN by then and stays so
        n = b.select(b.fcmp_ordered("ord", n, n), n, self.const(0))
        half = self.call("floor", b.fmul(n, self.const(0.5)))
        y = b.fmul(b.fadd(self.const(1), p), self.two_to(half))
        return b.fmul(y, self.two_to(b.fsub(n, half)))

    def exp_of_negative(self, x):
        """exp(x) for x <= 0, in float32 with half the operations; zero from -88 on."""
        if not self.single:
            return self.exp(x)
        # As in tanh; at -88, 2^n has the bits of zero.
        b, first, second = self.builder, *LN2_SINGLE
        low = self.const(-88)
        x = b.select(b.fcmp_ordered(">", low, x), low, x)
        round_ = self.const(1.5 * 2**23 + 127)
        t = self.fma(x, self.const(LOG2_E), round_)
        n = b.fsub(t, round_)
        scale = b.bitcast(b.shl(b.bitcast(t, self.int), self.int_const(23)), self.type)
        r = self.fma(n, self.const(-first), x)
        r = self.fma(n, self.const(-second), r)
        p = self.fma(b.fmul(r, r), self.horner(r, EXP_SINGLE), r)
        return self.fma(scale, p, scale)

    def log(self, x):
        """log(x) = e ln 2 + 2 atanh(s), s = (m - 1) / (m + 1), x = 2^e m, m near 1."""
        b = self.builder
        tiny, lift = (2.0**-126, 25) if self.single else (2.0**-1022, 54)
        small = b.fcmp_ordered("<", x, self.const(tiny))
        lifted = b.select(small, b.fmul(x, self.const(2.0**lift)), x)
        mantissa = self.int_const(23 if self.single else 52)
        dtype, whole = (np.float32, np.int32) if self.single else (np.float64, np.int64)
        root = self.int_const(int(dtype(0.5**0.5).view(whole)))
        bits = b.bitcast(lifted, self.int)
        e = b.ashr(b.sub(bits, root), mantissa)
        m = b.bitcast(b.sub(bits, b.shl(e, mantissa)), self.type)
        e = b.sitofp(e, self.type)
        e = b.select(small, b.fsub(e, self.const(lift)), e)
        f = b.fsub(m, self.const(1))
        s = b.fdiv(f, b.fadd(m, self.const(1)))
        u = b.fmul(s, s)
        # 2 atanh(s) = 2 s + 2 s u q(u); and 2 s = f - s f, whose first term is exact
        tail = b.fmul(b.fmul(u, self.horner(u, LOG_SINGLE if self.single else LOG_DOUBLE)), s)
        tail = b.fadd(tail, tail)
        first, second = LN2_SINGLE if self.single else LN2_DOUBLE
        rest = self.fma(e, self.const(second), b.fsub(tail, b.fmul(s, f)))
        y = self.fma(e, self.const(first), b.fadd(f, rest))
        infinity = self.const(float("inf"))
        y = b.select(b.fcmp_ordered("==", x, infinity), infinity, y)
        y = b.select(b.fcmp_ordered("==", x, self.const(0)), self.const(float("-inf")), y)
        return b.select(b.fcmp_ordered(">=", x, self.const(0)), y, self.const(float("nan")))

    def tanh(self, x):
        """E / (e + 2) with e = expm1(2 |x|), and the sign of x."""
        b = self.builder
        last = self.const(TANH_LAST if self.single else 20)
        size = self.call("fabs", x)
        size = b.select(b.fcmp_ordered("<", last, size), last, size)
        if self.single:
            # Adding 1.5 * 2^23 rounds to a whole number and leaves it, here with the exponent's
            # bias of 127, in the lowest bits, whence one shift makes it the exponent of 2^n.
            round_ = self.const(1.5 * 2**23 + 127)
            t = self.fma(size, self.const(2 * LOG2_E), round_)
            n = b.fsub(t, round_)
            scale = b.bitcast(b.shl(b.bitcast(t, self.int), self.int_const(23)), self.type)
            # With half = r / 2: p = expm1(r) = 2 half + half^2 (4 q). One part of ln 2 is enough,
            # for its error grows with n, but tanh grows flat faster.
            half = self.fma(n, self.const(-LN2 / 2), size)
            q = self.horner(
                half, [4 * c * 2**k for k, c in zip((4, 3, 2, 1, 0), EXP_SINGLE, strict=True)]
            )
            p = self.fma(b.fmul(half, half), q, b.fadd(half, half))
        else:
            n, p = self.exp_parts(b.fadd(size, size))
            n = b.select(b.fcmp_ordered("ord", n, n), n, self.const(0))
            scale = self.two_to(n)
        # expm1(2 |x|) = 2^n (1 + p) - 1
        e = self.fma(scale, p, b.fsub(scale, self.const(1)))
        return self.call("copysign", b.fdiv(e, b.fadd(e, self.const(2))), x)

    def sigmoid(self, x):
        """1 / (1 + exp(-x)); in float64 (1 + tanh(x / 2)) / 2, whose steps are all at hand."""
        b, one, half = self.builder, self.const(1), self.const(0.5)
        if not self.single:
            return self.fma(half, self.tanh(b.fmul(half, x)), half)
        # As in tanh; the ends make 2^n the bits of infinity and of zero, for sigmoid's 0 and 1.
        x = self.clip(x, -89, 88)
        round_ = self.const(1.5 * 2**23 + 127)
        t = self.fma(x, self.const(-LOG2_E), round_)
        n = b.fsub(t, round_)
        scale = b.bitcast(b.shl(b.bitcast(t, self.int), self.int_const(23)), self.type)
        # of opposite sign: x + n ln 2 = -r
        r = self.fma(n, self.const(LN2), x)
        odd = [c * (-1) ** k for k, c in zip((5, 4, 3, 2, 1, 0), (*EXP_SHORT, 1), strict=True)]
        return b.fdiv(one, self.fma(scale, self.horner(r, odd), one))


# Highest power first; from benchmarks/activation_fit.py.
LOG2_E = 1.4426950408889634
LN2 = 0.6931471805599453
LN2_SINGLE = (0.693359375, -2.1219444005469057e-4)  # 9 bits, then the rest
LN2_DOUBLE = (0.6931471803691238, 1.9082149292705877e-10)  # 33 bits, then the rest
TANH_LAST = 9.2  # from 9.02 on, tanh rounds to 1 in float32
EXP_SINGLE = (0.00139000058375, 0.00836313811553, 0.0416668688606, 0.166665773387, 0.499999995291)
# exp itself, but for its last term 1, to a relative 1.5e-7: enough for sigmoid
EXP_SHORT = (0.00833272561576, 0.0418750957322, 0.16666942087, 0.499993770751, 0.999999945483)
EXP_DOUBLE = (
    2.0889547721013698541e-9, 2.5105172045389129311e-8, 2.7557349055648347436e-7,
    2.7557255518097475194e-6, 0.000024801587246389196977, 0.00019841269874717794329,
    0.0013888888888917651214, 0.0083333333333261682521, 0.041666666666666618959,
    0.16666666666666670962, 0.5,
)  # fmt: skip
LOG_SINGLE = (0.147902412727, 0.199943824523, 0.333333425484)
LOG_DOUBLE = (
    0.073084375598059093799, 0.076658419488501908366, 0.090914451895763458806,
    0.11111105557778185353, 0.14285714313054544089, 0.19999999999949582265,
    0.33333333333333348501,
)  # fmt: skip


# ------------------------------------------------------------------------- memory and lanes


def element_address(context, builder, array_type, array, index):
    """Address of array[index], for a flat contiguous array."""
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])


def borrowed(context, builder, dtype, data, size):
    """Flat array of `size` numbers at the pointer `data`, which something else keeps alive."""
    out = context.make_array(types.Array(dtype, 1, "C"))(context, builder)
    itemsize = context.get_abi_sizeof(context.get_data_type(dtype))
    itemsize = ir.Constant(ir.IntType(64), itemsize)
    populate_array(out, data, [size], [itemsize], itemsize, meminfo=None)
    return out._getvalue()


@intrinsic
def in_a_row(typingctx, array):
    """The numbers of a contiguous array of any shape, as a flat array on the same memory."""

    def emit(context, builder, sig, args):
        source = context.make_array(array)(context, builder, args[0])
        return borrowed(context, builder, array.dtype, source.data, source.nitems)

    return types.Array(array.dtype, 1, "C")(array), emit


def lanes(array):
    """How many elements of the array make a vector: a constant in compiled code."""
    raise NotImplementedError("compiled code only")


@overload(lanes, inline="always")
def _lanes(array):
    count = LANES[array.dtype]
    return lambda array: count


@intrinsic
def own_code(typingctx):
    """Say that the calling function is not to be copied into its callers, to compile it once."""

    def emit(context, builder, sig, args):
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), emit


@intrinsic
def load(typingctx, array, index):
    """array[index : index + lanes], no alignment needed."""
    vector = VECTORS[array.dtype]

    def emit(context, builder, sig, args):
        address = element_address(context, builder, sig.args[0], *args)
        return Emit(context, builder, vector).at(address)

    return vector(array, types.intp), emit


@intrinsic
def store(typingctx, array, index, value):
    """array[index : index + lanes] = value."""
    vector = VECTORS[array.dtype]

    def emit(context, builder, sig, args):
        address = element_address(context, builder, sig.args[0], args[0], args[1])
        Emit(context, builder, vector).put(args[2], address)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), emit


def fetch(builder, pointer):
    """Ask for the cache line of an address to be brought to the second-level cache."""
    byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    read, second_level, data = (number(n) for n in (0, 2, 1))
    builder.call(function, [builder.bitcast(pointer, byte), read, second_level, data])


@intrinsic
def prefetch(typingctx, array, index):
    """Ask for array[index] to be brought to the second-level cache; it may lie anywhere."""

    def emit(context, builder, sig, args):
        fetch(builder, element_address(context, builder, sig.args[0], *args))
        return context.get_dummy_value()

    return types.void(array, types.intp), emit


@intrinsic
def load_pair(typingctx, array, i, j):
    """Vectors at array[i] and array[j], side by side."""
    vector, pair = VECTORS[array.dtype], PAIRS[array.dtype]

    def emit(context, builder, sig, args):
        e = Emit(context, builder, vector)
        halves = [
            e.at(element_address(context, builder, sig.args[0], args[0], k)) for k in args[1:]
        ]
        both = list(range(2 * e.lanes))
        return builder.shuffle_vector(
            *halves, ir.Constant(ir.VectorType(ir.IntType(32), len(both)), both)
        )

    return pair(array, types.intp, types.intp), emit


@intrinsic
def store_pair(typingctx, array, i, j, value):
    """Write both halves of a pair, to array[i] and array[j]."""
    vector, pair = VECTORS[array.dtype], PAIRS[array.dtype]

    def emit(context, builder, sig, args):
        e = Emit(context, builder, vector)
        for start, k in enumerate(args[1:3]):
            lanes = [start * e.lanes + lane for lane in range(e.lanes)]
            half = builder.shuffle_vector(
                args[3], args[3], ir.Constant(ir.VectorType(ir.IntType(32), e.lanes), lanes)
            )
            e.put(half, element_address(context, builder, sig.args[0], args[0], k))
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, pair), emit


@intrinsic
def splat(typingctx, array, value):
    """Broadcast a number to a vector of the array's dtype."""
    vector = VECTORS[array.dtype]

    def emit(context, builder, sig, args):
        return Emit(context, builder, vector).splat(args[1])

    return vector(array, vector.dtype), emit


@intrinsic
def first_lanes(typingctx, value, count):
    """Keep the first `count` lanes and make the others zero, whatever they held."""

    def emit(context, builder, sig, args):
        e = Emit(context, builder, sig.args[0])
        wide = ir.VectorType(ir.IntType(64), e.lanes)
        undefined = ir.Constant(wide, ir.Undefined)
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), e.lanes), [0] * e.lanes)
        first = builder.insert_element(undefined, args[1], ir.Constant(ir.IntType(32), 0))
        bound = builder.shuffle_vector(first, undefined, zeros)
        inside = builder.icmp_signed("<", ir.Constant(wide, list(range(e.lanes))), bound)
        return builder.select(inside, args[0], e.const(0))

    return value(value, types.intp), emit


@intrinsic
def sum_lanes(typingctx, value):
    """Sum of all lanes, halves first, in a fixed order."""

    def emit(context, builder, sig, args):
        return _fold(context, builder, sig.args[0], args[0], builder.fadd)

    return value.dtype(value), emit


@intrinsic
def max_lanes(typingctx, value):
    """Largest lane; NaN if any lane is."""

    def emit(context, builder, sig, args):
        return _fold(context, builder, sig.args[0], args[0], lambda a, b: _larger(builder, a, b))

    return value.dtype(value), emit


@intrinsic
def maximum(typingctx, a, b):
    """Larger of two, lane by lane; NaN if either is."""

    def emit(context, builder, sig, args):
        return _larger(builder, *args)

    return a(a, a), emit


def _larger(builder, a, b):
    """Larger of two; unordered comparison, so a NaN on either side comes through."""
    larger = builder.select(builder.fcmp_unordered(">", a, b), a, b)
    return builder.select(builder.fcmp_unordered("uno", b, b), b, larger)


def _fold(context, builder, vector, value, combine):
    """Combine lower and upper halves until one lane is left."""
    width = Emit(context, builder, vector).lanes
    while width > 1:
        width //= 2
        halves = [
            ir.Constant(ir.VectorType(ir.IntType(32), width), list(range(start, start + width)))
            for start in (0, width)
        ]
        lower, upper = (builder.shuffle_vector(value, value, half) for half in halves)
        value = combine(lower, upper)
    return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))


# --------------------------------------------------------------------------------- operators


@lower_cast(types.Integer, Vector)
@lower_cast(types.Float, Vector)
def _number_to_vector(context, builder, fromty, toty, value):
    if isinstance(fromty, types.IntegerLiteral):
        fromty = fromty.literal_type
    scalar = context.cast(builder, value, fromty, toty.dtype)
    return Emit(context, builder, toty).splat(scalar)


class _Arithmetic(AbstractTemplate):
    """Vector with vector, or with a number on either side."""

    def generic(self, args, kws):
        vectors = {arg for arg in args if isinstance(arg, Vector)}
        numbers = (Vector, types.Integer, types.Float)
        if len(vectors) == 1 and all(isinstance(arg, numbers) for arg in args):
            (vector,) = vectors
            return signature(vector, *[vector] * len(args))
        return None


def _define(function, arity, emit):
    """Give a Python function or operator a meaning on vectors."""
    infer_global(function)(type(f"_{function.__name__}", (_Arithmetic,), {"key": function}))

    @lower_builtin(function, *[Vector] * arity)
    def lower(context, builder, sig, args):
        return emit(Emit(context, builder, sig.args[0]), *args)


_define(operator.add, 2, lambda e, a, b: e.builder.fadd(a, b))
_define(operator.sub, 2, lambda e, a, b: e.builder.fsub(a, b))
_define(operator.mul, 2, lambda e, a, b: e.builder.fmul(a, b))
_define(operator.truediv, 2, lambda e, a, b: e.builder.fdiv(a, b))
_define(operator.neg, 1, lambda e, a: e.builder.fneg(a))
_define(np.tanh, 1, Emit.tanh)
_define(np.exp, 1, Emit.exp)
_define(np.log, 1, Emit.log)
_define(np.sqrt, 1, lambda e, a: e.call("sqrt", a))


@intrinsic
def fma(typingctx, a, b, c):
    """A * b + c, rounded once."""

    def emit(context, builder, sig, args):
        return Emit(context, builder, sig.args[0]).fma(*args)

    return a(a, a, a), emit


@intrinsic
def exp_of_negative(typingctx, x):
    """exp(x) for x <= 0."""

    def emit(context, builder, sig, args):
        return Emit(context, builder, sig.args[0]).exp_of_negative(*args)

    return x(x), emit


# --------------------------------------------------------------------- the equations, compiled


@intrinsic
def _logistic(typingctx, a):
    """Compute `equations.sigmoid` without its way over tanh: half the operations."""

    def emit(context, builder, sig, args):
        return Emit(context, builder, sig.args[0]).sigmoid(*args)

    return a(a), emit


@inner
def sigmoid(a):
    """Logistic function, 1 / (1 + exp(-a))."""
    return _logistic(a)


sigmoid_derivative = inner(equations.sigmoid_derivative)
tanh = inner(equations.tanh)
tanh_derivative = inner(equations.tanh_derivative)
gru_step = inner(equations.gru_step)
gru_step_backward = inner(equations.gru_step_backward)
gru_gates = inner(equations.gru_gates)
gru_candidate = inner(equations.gru_candidate)
gru_candidate_backward = inner(equations.gru_candidate_backward)
gru_gates_backward = inner(equations.gru_gates_backward)
