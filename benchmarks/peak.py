"""What this machine can do: clock, fused multiply-adds, bytes from each level of memory.

A few loops in LLVM's own language, compiled for this processor, so that no compiler decision stands
between the instruction and the number. Needs llvmlite (it comes with numba).

    clock    a chain of additions and exclusive-ors of one cycle each
    fma      12 independent chains of vector fused multiply-adds: latency is 4 or 5 cycles and two
             can start at once, so 10 chains keep both units busy; 12 accumulators and 2 operands
             fit 16 registers
    read     8 independent sums over an array, many times over
    triad    a = b + s c over three arrays
"""

import ctypes
import threading
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any

import numpy as np

CHAINS, CYCLES, SUMS = 12, 32, 8
TURN = "peak"  # the worker that plays `Turn`

# Widest vectors of float32 by processor feature, and whether two fused units are certain.
LANES = {"avx512f": 16, "avx2": 8, "fma": 8, "neon": 4, "asimd": 4}


def lanes_of(features: set[str]) -> int:
    """float32 lanes of the widest vector."""
    return max((LANES[f] for f in features if f in LANES), default=4)


def _splat(vector: str, lanes: int, name: str) -> str:
    """Lines that make %name_v from the float %name."""
    return f"""
  %{name}_1 = insertelement {vector} undef, float %{name}, i32 0
  %{name}_v = shufflevector {vector} %{name}_1, {vector} undef, <{lanes} x i32> zeroinitializer"""


def program(lanes: int) -> str:
    """Write the four loops as LLVM assembly."""
    vector = f"<{lanes} x float>"
    fma = f"@llvm.fma.v{lanes}f32"
    clock = "".join(
        f"\n  %x{k} = xor i64 %y{k - 1}, %a\n  %y{k} = add i64 %x{k}, %b"
        for k in range(1, CYCLES // 2 + 1)
    )
    phis = "".join(
        f"\n  %c{k} = phi {vector} [ %b_v, %entry ], [ %d{k}, %loop ]" for k in range(CHAINS)
    )
    fmas = "".join(
        f"\n  %d{k} = call {vector} {fma}({vector} %c{k}, {vector} %a_v, {vector} %b_v)"
        for k in range(CHAINS)
    )

    def total(count: int, prefix: str) -> str:
        lines = [f"  %t0 = fadd {vector} %{prefix}0, %{prefix}0"]
        lines += [f"  %t{k} = fadd {vector} %t{k - 1}, %{prefix}{k}" for k in range(1, count)]
        return "\n".join([*lines, f"  %r = extractelement {vector} %t{count - 1}, i32 0"])

    sums = "".join(
        f"\n  %s{k} = phi {vector} [ zeroinitializer, %pass ], [ %u{k}, %loop ]"
        for k in range(SUMS)
    )
    reads = "".join(
        f"\n  %i{k} = add i64 %i, {k * lanes}"
        f"\n  %p{k} = getelementptr float, ptr %p, i64 %i{k}"
        f"\n  %v{k} = load {vector}, ptr %p{k}, align 4"
        f"\n  %u{k} = fadd {vector} %s{k}, %v{k}"
        for k in range(SUMS)
    )
    return f"""
declare {vector} {fma}({vector}, {vector}, {vector})

define i64 @clock(i64 %n, i64 %a, i64 %b) {{
entry:
  br label %loop
loop:
  %k = phi i64 [ 0, %entry ], [ %k1, %loop ]
  %y0 = phi i64 [ %a, %entry ], [ %y{CYCLES // 2}, %loop ]{clock}
  %k1 = add i64 %k, 1
  %more = icmp slt i64 %k1, %n
  br i1 %more, label %loop, label %end
end:
  ret i64 %y{CYCLES // 2}
}}

define float @fma(i64 %n, float %a, float %b) {{
entry:{_splat(vector, lanes, "a")}{_splat(vector, lanes, "b")}
  br label %loop
loop:
  %k = phi i64 [ 0, %entry ], [ %k1, %loop ]{phis}{fmas}
  %k1 = add i64 %k, 1
  %more = icmp slt i64 %k1, %n
  br i1 %more, label %loop, label %end
end:
{total(CHAINS, "d")}
  ret float %r
}}

define float @read(ptr %p, i64 %n, i64 %again) {{
entry:
  br label %pass
pass:
  %j = phi i64 [ 0, %entry ], [ %j1, %passed ]
  br label %loop
loop:
  %i = phi i64 [ 0, %pass ], [ %i_next, %loop ]{sums}{reads}
  %i_next = add i64 %i, {SUMS * lanes}
  %more = icmp slt i64 %i_next, %n
  br i1 %more, label %loop, label %passed
passed:
  %j1 = add i64 %j, 1
  %once_more = icmp slt i64 %j1, %again
  br i1 %once_more, label %pass, label %end
end:
{total(SUMS, "u")}
  ret float %r
}}

define void @triad(ptr %p, ptr %q, ptr %o, i64 %n, float %a) {{
entry:{_splat(vector, lanes, "a")}
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %i_next, %loop ]
  %pp = getelementptr float, ptr %p, i64 %i
  %qq = getelementptr float, ptr %q, i64 %i
  %oo = getelementptr float, ptr %o, i64 %i
  %x = load {vector}, ptr %pp, align 4
  %y = load {vector}, ptr %qq, align 4
  %z = call {vector} {fma}({vector} %y, {vector} %a_v, {vector} %x)
  store {vector} %z, ptr %oo, align 4
  %i_next = add i64 %i, {lanes}
  %more = icmp slt i64 %i_next, %n
  br i1 %more, label %loop, label %end
end:
  ret void
}}
"""


class Loops:
    """The compiled loops as Python functions; they release the interpreter's lock."""

    def __init__(self) -> None:
        from llvmlite import binding

        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        features = binding.get_host_cpu_features()
        self.lanes = lanes_of({name for name, present in features.items() if present})
        target = binding.Target.from_default_triple().create_target_machine(
            cpu=binding.get_host_cpu_name(), features=features.flatten(), opt=2
        )
        module = binding.parse_assembly(program(self.lanes))
        module.verify()
        self._engine = binding.create_mcjit_compiler(module, target)
        self._engine.finalize_object()
        i64, f32, pointer = ctypes.c_int64, ctypes.c_float, ctypes.c_void_p
        self.clock = self._function("clock", i64, i64, i64, i64)
        self.fma = self._function("fma", f32, i64, f32, f32)
        self.read = self._function("read", f32, pointer, i64, i64)
        self.triad = self._function("triad", None, pointer, pointer, pointer, i64, f32)

    def _function(self, name: str, result: Any, *arguments: Any) -> Any:
        address = self._engine.get_function_address(name)
        return ctypes.CFUNCTYPE(result, *arguments)(address)


class Turn:
    """The machine as a contestant: fused multiply-adds, timed once in every round.

    The mean over `seconds`, not the best within them, because the others' times are means as well.
    """

    def __init__(self, threads: int, seconds: float = 0.02) -> None:
        self.threads, self.seconds = threads, seconds
        self.loops = Loops()

    def hello(self) -> dict[str, Any]:
        """Compiled and ready; no library's version to tell."""
        return {"versions": {}}

    def time(self) -> dict[str, Any]:
        """GFLOP/s of all threads together."""
        with ThreadPoolExecutor(self.threads) as team:
            rounds = sum(team.map(self._rounds_per_second, range(self.threads)))
        return {"GFLOP/s": rounds * CHAINS * self.loops.lanes * 2 / 1e9}

    def _rounds_per_second(self, _: int) -> float:
        at_once, done = 200_000, 0  # under half a millisecond at 3 GHz: the end is met closely
        start = now = perf_counter()
        while now - start < self.seconds:
            self.loops.fma(at_once, 0.5, 0.5)
            done, now = done + at_once, perf_counter()
        return done / (now - start)

    def drop(self) -> dict[str, Any]:
        """Nothing is kept from case to case."""
        return {}


def best_seconds(call: Any, threads: int = 1, seconds: float = 0.15) -> float:
    """Fastest of many runs of `call(thread number)` on all threads together."""
    fastest, end = float("inf"), perf_counter() + seconds
    while perf_counter() < end:
        if threads == 1:
            start = perf_counter()
            call(0)
            fastest = min(fastest, perf_counter() - start)
            continue
        gate = threading.Barrier(threads)
        spans: list[tuple[float, float]] = []

        def one(number: int, gate: Any = gate, spans: Any = spans) -> None:
            gate.wait()
            start = perf_counter()
            call(number)
            spans.append((start, perf_counter()))

        team = [threading.Thread(target=one, args=(k,)) for k in range(threads)]
        for member in team:
            member.start()
        for member in team:
            member.join()
        fastest = min(fastest, max(e for _, e in spans) - min(s for s, _ in spans))
    return fastest


def measure(threads: int, cache_bytes: dict[str, int]) -> dict[str, float]:
    """GHz, GFLOP/s and GB/s with that many threads; `cache_bytes` has "L2" and "L3" of one core.

    Reads use half of the second-level cache and an array between the second and the third level;
    the triad uses arrays four times the last level and counts 12 bytes an element (the line that a
    store fetches first is not counted, as STREAM does).
    """
    loops = Loops()
    found = {"lanes": float(loops.lanes)}

    rounds = 200_000
    seconds = best_seconds(lambda _: loops.clock(rounds, 12345, 67890), 1)
    found["GHz"] = rounds * CYCLES / seconds / 1e9

    rounds = 2_000_000 // threads
    work = threads * rounds * CHAINS * loops.lanes * 2
    found["GFLOP/s"] = (
        work / best_seconds(lambda _: loops.fma(rounds, 0.5, 0.5), threads, 0.4) / 1e9
    )
    found["theory GFLOP/s"] = threads * 2 * loops.lanes * 2 * found["GHz"]

    L2, L3 = cache_bytes.get("L2", 1 << 19), cache_bytes.get("L3", 1 << 23)
    step = SUMS * loops.lanes
    for name, size in {"L2": L2 // 2, "L3": min(2 * L2 + L3 // 8, L3 // 2)}.items():
        count = max(size // 4 // step, 1) * step
        arrays = [np.ones(count, np.float32) for _ in range(threads)]
        again = max(1, (1 << 24) // (count * 4))

        def read(k: int, arrays: Any = arrays, again: int = again, count: int = count) -> None:
            loops.read(arrays[k].ctypes.data, count, again)

        seconds = best_seconds(read, threads)
        found[f"{name} read GB/s"] = threads * again * count * 4 / seconds / 1e9

    count = max(4 * L3, 1 << 26) // 4 // step * step // threads // step * step
    arrays = [[np.ones(count, np.float32) for _ in range(3)] for _ in range(threads)]

    def triad(k: int) -> None:
        b, c, a = (array.ctypes.data for array in arrays[k])
        loops.triad(b, c, a, count, 3.0)

    def copy(k: int) -> None:
        np.copyto(arrays[k][2], arrays[k][0])

    found["triad GB/s"] = threads * count * 12 / best_seconds(triad, threads, 0.5) / 1e9
    found["copy GB/s"] = threads * count * 8 / best_seconds(copy, threads, 0.5) / 1e9
    return {k: round(v, 2) for k, v in found.items()}
