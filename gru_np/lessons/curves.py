"""How a numerical derivative's error depends on its step, and how a Taylor remainder falls.

Both are computed with `gru_np.gradcheck`'s own functions on any scalar function; without one, on a
GRU over three short masked sequences.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from gru_np import _plotting
from gru_np._aliases import Array
from gru_np.gradcheck import directional_derivative, taylor_remainders
from gru_np.lessons.bugs import problem

STEPS = 10.0 ** -np.arange(1, 16, 0.5)
TAYLOR_STEPS = 10.0 ** -np.arange(1, 6, 0.5)
METHODS = ("forward", "central", "complex")

Value = Callable[[Array], Any]


def _gru(bug: str | None = None, form: str | None = None) -> tuple[Value, Array, Array, float]:
    """L as a function of a GRU's W_hh; a point, a direction, and the derivative by the backward."""
    forward, backward, arrays = problem(bug, form)
    rng = np.random.default_rng(1)
    h, saved = forward(arrays)
    c, d = rng.standard_normal(h.shape), rng.standard_normal(arrays["W_hh"].shape)
    d /= np.linalg.norm(d)

    def value(W_hh: Array) -> Any:
        return (c * forward({**arrays, "W_hh": W_hh})[0]).sum()

    return value, arrays["W_hh"], d, float((backward(c, saved)["W_hh"] * d).sum())


def v_curves(
    value: Value | None = None,
    p: Array | None = None,
    d: Array | None = None,
    exact: float | None = None,
    steps: Iterable[float] = STEPS,
    methods: Iterable[str] = METHODS,
) -> dict[str, Array]:
    """Measure the relative error of each numerical derivative at each step size.

    Parameters
    ----------
    value : callable, optional
        f: array to scalar; by default a GRU's Σ c ⊙ h as a function of W_hh.
    p, d : arrays of one shape
        Point and direction.
    exact : float
        The derivative of f at p along d.
    steps : floats
        By default 1e-1 down to 3e-16, two a decade.
    methods : names
        Of `gradcheck.directional_derivative`.

    Returns
    -------
    dict of str to array
        "step", and the errors of each method.

    Notes
    -----
    Forward differences: curvature costs h/2 · f'', rounding 2e-16 · f / h; the best is 1e-8.
    Central ones: h²/6 · f''' and the same rounding; the best is 1e-5 to 1e-6. Complex step has no
    rounding to amplify: below 1e-8 it is exact.

    Examples
    --------
    >>> from gru_np import lessons
    >>> curves = lessons.v_curves(steps=[1e-2, 1e-5, 1e-12])
    >>> bool(curves["complex"][-1] < 1e-14), bool(curves["central"].argmin() == 1)
    (True, True)
    """
    if value is None or p is None or d is None or exact is None:
        value, p, d, exact = _gru()
    steps = np.array(list(steps), float)
    found = {"step": steps}
    for method in methods:
        at = [directional_derivative(value, p, d, method, step) for step in steps]
        found[method] = np.abs(np.array(at) - exact) / abs(exact)
    return found


def taylor_curves(
    bugs: Iterable[str] = ("the sign of dz",), steps: Iterable[float] = TAYLOR_STEPS
) -> dict[str, Array]:
    """Measure the Taylor remainders of a GRU's gradient as it is, and with bugs planted.

    Parameters
    ----------
    bugs : names
        Of `lessons.BUGS`.
    steps : floats

    Returns
    -------
    dict of str to array
        "step", "as it is", and the remainders under the name of each bug.

    Examples
    --------
    >>> from gru_np import lessons
    >>> curves = lessons.taylor_curves(["the sign of dz"], steps=[1e-2, 1e-3])
    >>> [round(float(a / b), -1) for a, b in (curves["as it is"], curves["the sign of dz"])]
    [100.0, 10.0]
    """
    steps = np.array(list(steps), float)
    found = {"step": steps}
    for bug in (None, *bugs):
        value, p, d, slope = _gru(bug, "after")
        found[bug or "as it is"] = taylor_remainders(value, p, d, slope, steps)
    return found


def plot_v_curves(curves: Mapping[str, Any] | None = None, axes: Any = None) -> Any:
    """Draw the error of each numerical derivative against its step size.

    Parameters
    ----------
    curves : dict, optional
        From `v_curves`; computed if not given.
    axes : axes, optional

    Returns
    -------
    axes

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from gru_np import lessons
    >>> lessons.plot_v_curves().get_xscale()
    'log'
    """
    curves = v_curves() if curves is None else curves
    axes = _plotting.axes_for("plot_v_curves", axes)
    steps = np.asarray(curves["step"])
    for k, (method, errors) in enumerate((m, e) for m, e in curves.items() if m != "step"):
        # What is exact has no logarithm; it is drawn at the rounding of one number.
        shown = np.maximum(errors, np.finfo(float).eps / 2)
        axes.plot(steps, shown, label=method, **_plotting.style(k, len(steps)))
    axes.set(xscale="log", yscale="log")
    axes.invert_xaxis()
    _plotting.finish(axes, "step h", "relative error of the derivative")
    return axes


def plot_taylor(curves: Mapping[str, Any] | None = None, axes: Any = None) -> Any:
    """Draw Taylor remainders against the step: slope 2 where the gradient is right, 1 where not.

    Parameters
    ----------
    curves : dict, optional
        From `taylor_curves`; computed if not given.
    axes : axes, optional

    Returns
    -------
    axes

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from gru_np import lessons
    >>> [text.get_text() for text in lessons.plot_taylor().get_legend().get_texts()]
    ['as it is: slope 2.00', 'the sign of dz: slope 1.00']
    """
    curves = taylor_curves() if curves is None else curves
    axes = _plotting.axes_for("plot_taylor", axes)
    steps = np.asarray(curves["step"])
    for k, (name, remainders) in enumerate((n, r) for n, r in curves.items() if n != "step"):
        clear = np.asarray(remainders) > 1e-13  # below it is only rounding
        slope = np.polyfit(np.log(steps[clear]), np.log(remainders[clear]), 1)[0]
        axes.plot(
            steps[clear], remainders[clear], label=f"{name}: slope {slope:.2f}",
            **_plotting.style(k, len(steps)),
        )  # fmt: skip
    axes.set(xscale="log", yscale="log")
    axes.invert_xaxis()
    _plotting.finish(axes, "step ε", "|L(p + ε d) − L(p) − ε g·d|")
    return axes
