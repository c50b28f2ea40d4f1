"""Derive the coefficients in `gru_np/kernels/vector.py`: python -m benchmarks.activation_fit.

Each function is a best approximation in the sense of the largest relative error, found by Lawson's
iteration (least squares whose weights grow where the error is large) at Chebyshev points, in
40-digit arithmetic; a rational one is linearised by the denominator of the iteration before
(Loeb; Sanathanan and Koerner). Fitting in powers of u = x^2 makes tanh exactly odd.
"""

import mpmath as mp

mp.mp.dps = 40


def fit(function, low, high, top, bottom=0, rounds=30):
    """Coefficients, lowest first, of a polynomial or rational function of u near function(u)."""
    count = 6 * (top + bottom) + 40
    nodes = [
        low + (high - low) * (1 - mp.cos(mp.pi * (2 * i + 1) / (2 * count))) / 2
        for i in range(count)
    ]
    values = [function(u) for u in nodes]
    scale = max(abs(low), abs(high))
    weights, denominators, best = [mp.mpf(1)] * count, [mp.mpf(1)] * count, None
    for _ in range(rounds):
        # top(u) - value * (bottom(u) - 1) = value, each row divided by value and denominator
        rows, right = mp.matrix(count, top + 1 + bottom), mp.matrix(count, 1)
        for i, (u, value) in enumerate(zip(nodes, values, strict=True)):
            s = mp.sqrt(weights[i]) / denominators[i]
            for k in range(top + 1):
                rows[i, k] = s / value * (u / scale) ** k
            for k in range(1, bottom + 1):
                rows[i, top + k] = -s * (u / scale) ** k
            right[i] = s
        solution = mp.qr_solve(rows, right)[0]
        p = [solution[k] for k in range(top + 1)]
        q = [mp.mpf(1)] + [solution[top + k] for k in range(1, bottom + 1)]
        denominators = [mp.polyval(q[::-1], u / scale) for u in nodes]
        errors = [
            abs(mp.polyval(p[::-1], u / scale) / d / value - 1)
            for u, d, value in zip(nodes, denominators, values, strict=True)
        ]
        if best is None or max(errors) < best[0]:
            best = max(errors), p, q
        weights = [w * e for w, e in zip(weights, errors, strict=True)]
        mean = sum(weights) / count
        weights = [w / mean + mp.mpf(10) ** -12 for w in weights]
    error, p, q = best
    return error, [c / scale**k for k, c in enumerate(p)], [c / scale**k for k, c in enumerate(q)]


def show(name, result, digits):
    """Print one set of coefficients, highest power first, as the kernels read them."""
    error, *parts = result
    print(f"{name}: relative error {mp.nstr(error, 3)} before rounding")
    for part in parts:
        print("   ", ", ".join(mp.nstr(c, digits) for c in reversed(part)))


def main():
    """Print every table."""
    half = mp.log(2) / 2
    exp_rest = lambda r: (mp.exp(r) - 1 - r) / r**2 if r else mp.mpf("0.5")  # noqa: E731
    log_rest = lambda s: (mp.atanh(mp.sqrt(s)) / mp.sqrt(s) - 1) / s if s else mp.mpf(1) / 3  # noqa: E731
    widest = ((mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)) ** 2
    show("(exp(r) - 1 - r) / r^2, float32", fit(exp_rest, -half, half, 4), 12)
    exp_short = lambda r: (mp.exp(r) - 1) / r if r else mp.mpf(1)  # noqa: E731
    show("(exp(r) - 1) / r for sigmoid, float32", fit(exp_short, -half, half, 4), 12)
    show("(exp(r) - 1 - r) / r^2, float64", fit(exp_rest, -half, half, 10), 20)
    show("(atanh(s) / s - 1) / s^2 in s^2, float32", fit(log_rest, widest / 10**9, widest, 2), 12)
    show("(atanh(s) / s - 1) / s^2 in s^2, float64", fit(log_rest, widest / 10**9, widest, 6), 20)


if __name__ == "__main__":
    main()
