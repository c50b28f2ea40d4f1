"""Measure the elementary functions of `gru_np.kernels.vector` against exact arithmetic.

    python -m benchmarks.activation_error             every float32 there is (some minutes)
    python -m benchmarks.activation_error --sample 8  every 8th

float32 is compared with float64 NumPy, whose own error is a billionth of what is measured; float64
with mpmath at random points. "ulp" is the error by the spacing of float32 (float64) at the exact
value; sigmoid's is given in absolute terms only, as it is (1 + tanh(a / 2)) / 2.
"""

import argparse

import numpy as np

FUNCTIONS = ("tanh", "sigmoid", "exp", "log")
BLOCK = 1 << 20


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


def measure_float32(stride=1, functions=FUNCTIONS):
    """Worst absolute error and ulp of each function over every stride-th float32; and promises.

    Returns {name: {"absolute": ..., "ulp": ..., "nan": ..., "odd": ..., "bounded": ...}}: whether
    NaN is where it belongs, tanh(-x) = -tanh(x) to the bit, and tanh and sigmoid keep within 1.
    """
    evaluate = evaluator()
    worst = {
        name: {"absolute": 0.0, "ulp": 0.0, "nan": True, "odd": True, "bounded": True}
        for name in functions
    }
    for start in range(0, 1 << 32, BLOCK * stride):
        bits = np.arange(start, min(start + BLOCK * stride, 1 << 32), stride, dtype=np.uint64)
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


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, default=1, help="every n-th float32 only")
    stride = parser.parse_args().sample
    print(f"float32, every {stride} of 2^32 inputs")
    for name, found in measure_float32(stride).items():
        print(
            f"    {name:8}",
            ", ".join(
                f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
                for key, value in found.items()
            ),
        )
    print("float64, 20,000 random inputs; absolute in units of 2^-53")
    for name, found in measure_float64(20000).items():
        print(f"    {name:8} absolute {found['absolute']:.3g}, ulp {found['ulp']:.3g}")


if __name__ == "__main__":
    main()
