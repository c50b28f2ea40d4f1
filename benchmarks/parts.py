"""Measure what a forward pass spends its time on: each part alone, and the peak, in turns.

    python -m benchmarks.parts                       the goals' shapes from B = 8, about two minutes
    python -m benchmarks.parts --shapes 32,100,64,256 --rounds 40    printed, not kept

One thread, float32, inference, reset after. The parts are those of `kernels.recurrence.forward`:

    packing   weights and biases into panels, once a call
    inputs    a_ih = W_ih x + b_ih
    states    a_hh = W_hh h + b_hh
    gates     r, z, n and the new state
    copies    the new states into h

Each is called on memory that lies as in the whole pass, so often as there; then as many multiply-
adds run from registers alone. What takes turns within milliseconds meets the same machine, and the
fastest of many rounds the quietest: the table is made of these. The peak's time over the sum of the
parts is what the pass can reach as it is cut today. Kept are results/parts.json and .md.
"""

import argparse
import json
import os
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
from tqdm import tqdm

from . import machine, peak
from .problems import SHAPES, Shape, gru_problem
from .report import percent, replace, shown, table, time
from .workers import processors

RESULTS = Path(__file__).with_name("results") / "parts.json"
PARTS = ("packing", "inputs", "states", "gates", "copies")
TURN = 0.003  # seconds of a part's turn, about


def passes():
    """Compile run(which part, ...): what `forward` does of it in a whole pass."""
    from gru_np.kernels import recurrence as kernel
    from gru_np.kernels._jit import entry
    from gru_np.kernels.matmul import address, copy_row, sweep
    from gru_np.kernels.vector import lanes

    @entry
    def run(which, x, h, packed, work, states, saved, T, B, I, H, block, chunk):  # noqa: E741
        L = lanes(work)
        J = (H + L - 1) // L
        U = J * L
        hh, row = 3 * U * I, U + 2 * L
        b_ih = hh + 3 * U * H
        a_hh, a_ih = 0, 6 * block * U
        copies = a_ih + 3 * U * block * chunk
        for r0 in range(0, B, block):
            rows = min(block, B - r0)
            together = kernel.units_together(rows, J, True)
            before, after = 0, rows * row
            for t0 in range(0, T, chunk):
                steps = min(chunk, T - t0)
                if which == 1:
                    rows_of_x = address(x, (t0 * B + r0) * I)
                    if rows < B and steps > 1:
                        for s in range(steps):
                            for m in range(rows):
                                source = ((t0 + s) * B + r0 + m) * I
                                copy_row(x, source, work, copies + (s * rows + m) * I, I, I)
                        rows_of_x = address(work, copies)
                    kernel.project(
                        rows_of_x, I, packed, 0, b_ih, I, steps * rows, 0, J, together, work, a_ih
                    )
                    continue
                for t in range(t0, t0 + steps):
                    out = ((t + 1) * B + r0) * H
                    for j in range(0, J, together):
                        n = min(together, J - j)
                        if which == 2:
                            sweep(
                                before > after, 0, 0, address(states, before), row, packed, hh,
                                packed, b_ih + 3 * U, 0, work, a_hh - 3 * L * j, 3 * L * n, rows,
                                3 * J, H, 3 * j, 3 * (j + n),
                            )  # fmt: skip
                        elif which == 3:
                            kernel._step_after(
                                a_ih + 3 * L * (j * steps * rows + (t - t0) * rows * n), a_hh, work,
                                states, before + j * L, after + j * L, row, saved, -1, 4 * U, U,
                                rows, n, h, out + j * L, H,
                            )  # fmt: skip
                    before, after = after, before
                    if which == 4:
                        for m in range(rows):
                            copy_row(states, before + m * row, h, out + m * H, H, H)

    return run


def laid_out(shape):
    """Weights, x and all that `run` takes after the part, in memory as `gru_forward` lays it."""
    from gru_np.kernels import fused

    B, T, I, H = shape.B, shape.T, shape.I, shape.H  # noqa: E741
    dtype, problem = np.dtype("f4"), gru_problem(shape)
    weights = [problem[name] for name in ("W_ih", "W_hh", "b_ih", "b_hh")]
    U, rows = fused.padded(H, dtype), fused.rows_at_once(B)
    chunk = fused._plan_forward(T, B, I, H, dtype, 1).shares[0][0][-1]
    packed = fused.pack_forward(*weights, True, dtype)
    row = U + 2 * fused.padded(1, dtype)
    sizes = ((T + 1) * B * H, 6 * rows * U + chunk * rows * (3 * U + I), 3 * rows * row, 0)
    h, work, states, saved = (fused.aligned(size, dtype) for size in sizes)
    for array in (h, work, states):
        array[:] = 0.1
    x = problem["x"].reshape(-1)
    return weights, problem, (x, h, packed, work, states, saved, T, B, I, H, rows, chunk)


def measure(shape, rounds, run, loops):
    """Seconds of every part, of the whole pass and of the peak: the fastest and the median."""
    from gru_np.kernels import fused

    weights, problem, arguments = laid_out(shape)
    x, h0, packed = problem["x"], problem["h0"], arguments[2]
    multiply_adds = shape.operations(False) // (2 * peak.CHAINS * loops.lanes)
    calls = {
        "packing": lambda: fused.pack_forward(*weights, True, packed.dtype, packed),
        **{name: partial(run, which, *arguments) for which, name in enumerate(PARTS) if which},
        "whole": lambda: fused.gru_forward(x, h0, *weights, inference=True),
        "peak": lambda: loops.fma(multiply_adds, 0.5, 0.5),
    }
    seconds = {name: [] for name in calls}
    for call in calls.values():  # compiled, and everything touched
        call()
    for _ in tqdm(range(rounds), shape.label):
        for name, call in calls.items():
            start = perf_counter()
            call()
            times = max(1, min(100, round(TURN / max(perf_counter() - start, 1e-9))))
            start = perf_counter()
            for _ in range(times):
                call()
            seconds[name].append((perf_counter() - start) / times)
    return {
        name: {"fastest": min(found), "median": float(np.median(found))}
        for name, found in seconds.items()
    }


def text(results):
    """Write the table."""
    rows = []
    for label, found in results["shapes"].items():
        fastest = {name: one["fastest"] for name, one in found.items()}
        best, whole = fastest["peak"], fastest["whole"]
        shares = [fastest[name] / best for name in PARTS]
        rows.append([
            shown(label), time(best), *map(percent, shares), percent(1 / sum(shares)),
            time(whole), percent(best / whole),
        ])  # fmt: skip
    head = ["B, T, I, H", "at the peak", *PARTS, "could reach", "forward", "reaches"]
    return "\n".join(
        [
            "# Where the time of a forward pass goes", "",
            f"Written by `python -m benchmarks.parts` ({results['commit']}, {results['cpu']}, one "
            f"thread, the fastest of {results['rounds']} rounds).", "",
            table(head, rows), "",
            "Parts: in shares of the time that the same number of multiply-adds takes at the peak; "
            "inputs and states together cannot take less than all of it. What the pass could reach "
            "is that time over the sum of its parts; what it reaches, over that of `gru_forward`.",
            "",
        ]
    )  # fmt: skip


def shape_of(label):
    """Parse B,T,I,H."""
    try:
        return Shape.of(label)
    except ValueError as error:
        raise argparse.ArgumentTypeError(error) from None


def main():
    """Measure, print, and keep what a run of the default shapes finds."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.parts", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "--shapes", nargs="+", type=shape_of, help="B,T,I,H; default: the goals' from B = 8"
    )
    parser.add_argument("--rounds", type=int, default=100)
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error(f"--rounds: expected a number from 1, got {args.rounds}")
    shapes = args.shapes or [shape for shape in SHAPES if shape.B >= 8]
    if processors(1):  # also says whether there is such a call
        os.sched_setaffinity(0, processors(1))
    from gru_np import kernels

    if not kernels.available():
        parser.error(
            "this measures compiled kernels; install numba, and leave GRU_NP_KERNELS alone"
        )
    kernels.set_num_threads(1)
    here, run, loops = machine.describe(), passes(), peak.Loops()
    results = {
        "cpu": here["cpu"], "commit": here["commit"], "rounds": args.rounds,
        "shapes": {shape.label: measure(shape, args.rounds, run, loops) for shape in shapes},
    }  # fmt: skip
    print(text(results))
    if not args.shapes:
        replace(RESULTS, json.dumps(results, indent=1) + "\n")
        replace(RESULTS.with_suffix(".md"), text(results))


if __name__ == "__main__":
    main()
