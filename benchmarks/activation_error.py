"""Measure the elementary functions of `gru_np.kernels.vector` against exact arithmetic.

    python -m benchmarks.activation_error             every float32 there is: half an hour of a core
    python -m benchmarks.activation_error --sample 8  every 8th; printed, not kept

float32 is compared with float64 NumPy, whose own error is a billionth of what is measured; float64
with mpmath at random points. "ulp" is the error by the spacing of float32 (float64) at the exact
value; sigmoid's is given in absolute terms only, as it is (1 + tanh(a / 2)) / 2. What the whole
sweep finds is kept in benchmarks/results: activation_error.json, and the table in .md.
"""

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks import machine
from benchmarks.report import replace

RESULTS = Path(__file__).with_name("results") / "activation_error.json"
FUNCTIONS = ("tanh", "sigmoid", "exp", "log")
INPUTS, PIECE, BLOCK = 1 << 32, 1 << 26, 1 << 20


def evaluator():
    """Compile run(which, x, y): y = FUNCTIONS[which](x), for whole vectors."""
    from gru_np.kernels import vector
    from gru_np.kernels._jit import entry

    @entry
    def evaluate(which, x, y):
        for i in range(0, len(x), vector.lanes(x)):
            a = vector.load(x, i)
            if which == 0:
                b = vector.tanh(a)
            elif which == 1:
                b = vector.sigmoid(a)
            elif which == 2:
                b = np.exp(a)
            else:
                b = np.log(a)
            vector.store(y, i, b)

    return evaluate


def exact(name, x):
    """Reference in float64; sigmoid in the form that does not overflow."""
    with np.errstate(all="ignore"):
        if name == "sigmoid":
            e = np.exp(-np.abs(x))
            return np.where(x >= 0, 1, e) / (1 + e)
        return getattr(np, name)(x)


def measure_float32(stride=1, functions=FUNCTIONS, first=0, end=INPUTS):
    """Worst absolute error and ulp of each function over every stride-th float32; and promises.

    Only of those whose bits, read as an integer, lie in first..end.

    Returns {name: {"absolute": ..., "ulp": ..., "nan": ..., "odd": ..., "bounded": ...}}: whether
    NaN is where it belongs, tanh(-x) = -tanh(x) to the bit, and tanh and sigmoid keep within 1.
    """
    evaluate = evaluator()
    worst = {
        name: {"absolute": 0.0, "ulp": 0.0, "nan": True, "odd": True, "bounded": True}
        for name in functions
    }
    for start in range(first, end, BLOCK * stride):
        bits = np.arange(start, min(start + BLOCK * stride, end), stride, dtype=np.uint64)
        x = np.zeros(-(-len(bits) // 16) * 16, np.float32)  # whole vectors
        x[: len(bits)] = bits.astype(np.uint32).view(np.float32)
        with np.errstate(invalid="ignore"):  # signalling NaNs
            wide = x.astype(np.float64)
        y = np.empty_like(x)
        for name in functions:
            evaluate(FUNCTIONS.index(name), x, y)
            reference = exact(name, wide)
            found = worst[name]
            with np.errstate(all="ignore"):
                nearest = reference.astype(np.float32)
                finite = np.isfinite(nearest)
                error = np.abs(y[finite] - reference[finite])
                spacing = np.spacing(np.maximum(np.abs(nearest[finite]), np.float32(2.0**-126)))
            if error.size:
                if name in ("tanh", "sigmoid"):
                    found["absolute"] = max(found["absolute"], float(error.max()))
                if name != "sigmoid":
                    found["ulp"] = max(found["ulp"], float((error / spacing).max()))
            found["nan"] &= bool((np.isnan(y) == np.isnan(reference)).all())
            if name == "tanh":
                mirrored = np.empty_like(x)
                evaluate(0, -x, mirrored)
                number = ~np.isnan(x)
                same = mirrored.view(np.uint32) == (-y).view(np.uint32)
                found["odd"] &= bool(same[number].all())
            if name in ("tanh", "sigmoid"):
                found["bounded"] &= not bool((np.abs(y) > 1).any())
    return worst


def measure_float64(count, seed=0):
    """Worst absolute error, in units of 2^-53, and ulp of each function at random points."""
    import mpmath as mp

    evaluate, rng = evaluator(), np.random.default_rng(seed)
    spread = np.concatenate(
        [
            rng.uniform(-20, 20, count // 2),
            rng.standard_normal(count // 4),
            rng.uniform(-2, 2, count // 4),
        ]
    )[: count // 16 * 16]
    functions = {
        "tanh": mp.tanh,
        "sigmoid": lambda a: 1 / (1 + mp.exp(-a)),
        "exp": mp.exp,
        "log": mp.log,
    }
    worst = {}
    with mp.workdps(40):
        for which, name in enumerate(FUNCTIONS):
            x = np.exp2(5 * spread) if name == "log" else 3 * spread if name == "exp" else spread
            y = np.empty_like(x)
            evaluate(which, x, y)
            absolute = ulp = 0.0
            for a, b in zip(x.tolist(), y.tolist(), strict=True):
                reference = functions[name](mp.mpf(a))
                error = abs(reference - mp.mpf(b))
                absolute = max(absolute, float(error * 2**53))
                ulp = max(ulp, float(error / mp.mpf(float(np.spacing(abs(float(reference)))))))
            worst[name] = {"absolute": absolute, "ulp": ulp}
    return worst


def sweep(processes):
    """Measure every float32, a piece at a time in `processes` processes."""
    starts = range(0, INPUTS, PIECE)
    worst = {}
    with ProcessPoolExecutor(processes) as pool:
        for found in tqdm(pool.map(measure_piece, starts), "float32", len(starts)):
            for name, of in found.items():
                worst[name] = {
                    key: value and worst[name][key] if value is True or value is False
                    else max(value, worst[name][key])
                    for key, value in of.items()
                } if name in worst else of  # fmt: skip
    return worst


def measure_piece(first):
    """Measure the float32 of one piece."""
    return measure_float32(first=first, end=first + PIECE)


def table(results):
    """Write what was found as Markdown."""
    promises = {"tanh": ("nan", "odd", "bounded"), "sigmoid": ("nan", "bounded")}
    yes = {True: "yes", False: "**no**"}
    lines = [
        "# Elementary functions against exact arithmetic", "",
        f"Written by `python -m benchmarks.activation_error` ({results['commit']}, "
        f"{results['cpu']}). float32: all 2^32 inputs.", "",
        "| float32 | absolute error | ulp | NaN stays NaN | odd to the bit | within 1 |",
        "|---|---:|---:|---|---|---|",
    ]  # fmt: skip
    for name, found in results["float32"].items():
        absolute = f"{found['absolute']:.2e}" if name in promises else ""
        ulp = f"{found['ulp']:.2f}" if found["ulp"] else ""
        kept = [
            yes[found[key]] if key in promises.get(name, ("nan",)) else ""
            for key in ("nan", "odd", "bounded")
        ]
        lines.append(f"| {name} | {absolute} | {ulp} | {' | '.join(kept)} |")
    lines += [
        "", f"float64: {results['points']:,} random inputs against mpmath.", "",
        "| float64 | absolute error, 2^-53 | ulp |", "|---|---:|---:|",
    ]  # fmt: skip
    for name, found in results["float64"].items():
        absolute = f"{found['absolute']:.2f}" if name in promises else ""
        ulp = "" if name == "sigmoid" else f"{found['ulp']:.2f}"
        lines.append(f"| {name} | {absolute} | {ulp} |")
    return "\n".join(lines) + "\n"


def main():
    """Measure, print, and keep what the whole sweep finds."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sample", type=int, default=1, help="every n-th float32 only")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    args = parser.parse_args()
    whole = args.sample == 1
    here = machine.describe()
    results = {
        "cpu": here["cpu"], "commit": here["commit"],
        "float32": sweep(args.processes) if whole else measure_float32(args.sample),
        "points": 20_000, "float64": measure_float64(20_000),
    }  # fmt: skip
    print(json.dumps(results, indent=1))
    if whole:
        replace(RESULTS, json.dumps(results, indent=1) + "\n")
        replace(RESULTS.with_suffix(".md"), table(results))


if __name__ == "__main__":
    main()
