"""Is a gradient right? Ask the forward pass alone, three ways, and report entry by entry.

L is a scalar: a model's loss, or Σ c ⊙ y of a layer's output y with a fixed random cotangent c.
p is a parameter, an input or an initial state, d a direction in it, g the gradient under test.

    complex step     Im L(p + i h d) / h                          h = 1e-30, nothing is subtracted
    central          (L(p + ε d) - L(p - ε d)) / 2ε               ε = 1e-5, about 2e-16 ^ (1/3)
    Taylor           R(ε) = |L(p + ε d) - L(p) - ε g·d| ~ ε^s     s = 2 if g is right, 1 if not

Everything runs in float64 on a copy. In float32 a right gradient differs from central differences
by 2e-4, which is how bugs hide behind loose tolerances; here tolerances are constants of the file.

Sources: Squire and Trapp 1998, SIAM Review 40:110 (complex step); Martins, Sturdza and Alonso 2003,
ACM TOMS 29:245; Griewank and Walther 2008, ch. 3 (Taylor remainders).
"""

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from gru_np import _subjects
from gru_np._aliases import Array, Gradients, Shape
from gru_np._checks import require_choice, spell
from gru_np._subjects import Subject
from gru_np.layers import Layer
from gru_np.losses import Loss
from gru_np.model import Sequential

Method = Literal["complex", "central", "taylor"]
Value = Callable[[Array], Any]

# Largest relative L2 error of a block; for "taylor", how far the slope may stay below 2. On right
# gradients of small GRUs: 5e-15, 4e-9, 0.007 at most. The checker has no argument to change them.
TOLERANCES: dict[str, float] = {"complex": 1e-13, "central": 1e-7, "taylor": 0.1}
# A sum of n products is rounded by up to n u of the sum of their sizes, u = 1.1e-16 (Higham 2002,
# Accuracy and Stability of Numerical Algorithms, section 3.1). A saturated gate's derivative hands
# that on as a relative error, and so do all time steps and the way back. The 1e-13 of complex step
# is 28 n u for n = SUM; for longer sums, the columns of a weight, it grows with n. The largest
# errors of right gradients, with random weights of size 1/2: 2e-15 for n = 5, 7e-15 for 100, 4e-13
# (of 1.3e-12) for 400, 1.3e-12 (of 3.1e-12) for 1000.
SUM = 32
STEPS: dict[str, float] = {"complex": 1e-30, "central": 1e-5, "forward": 1e-8}
TAYLOR_STEPS = 1e-3 * 0.25 ** np.arange(3)
FULL_LIMIT = 2000  # up to this many numbers, every one is checked by itself
DIRECTIONS = 3  # beyond it, this many random directions in each block
GATES = ("r", "z", "n")
GATED = ("W_ih", "W_hh", "b_ih", "b_hh")
ZERO, NOISE = 64, 4  # roundings: what is zero but for them; what differences cannot tell from zero
EPSILON = float(np.finfo(np.float64).eps)


class GradientError(AssertionError):
    """A gradient that is wrong; raised by `Report.raise_if_bad` and by nothing else.

    Examples
    --------
    >>> from gru_np.gradcheck import GradientError
    >>> issubclass(GradientError, AssertionError)
    True
    """


# --------------------------------------------------------------------------- numerical derivatives


def directional_derivative(
    value: Value, p: Array, d: Array, method: str = "complex", step: float | None = None
) -> float:
    """Compute the derivative of a scalar function at p along d, from its values alone.

        complex     Im f(p + i h d) / h
        central     (f(p + h d) - f(p - h d)) / 2h
        forward     (f(p + h d) - f(p)) / h

    Parameters
    ----------
    value : callable
        f: array to scalar. For "complex" it must be analytic where it is evaluated.
    p, d : arrays of one shape
        Point and direction.
    method : {"complex", "central", "forward"}
    step : float, optional
        h; by default 1e-30, 1e-5, 1e-8.

    Returns
    -------
    float

    Notes
    -----
    Differences lose digits twice: to curvature when h is large and to cancellation when h is small.
    The complex step subtracts nothing, so h may be as small as you like.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.gradcheck import directional_derivative
    >>> f = lambda p: np.exp(p[0]) * p[1]
    >>> p, d = np.array([0.0, 2.0]), np.array([1.0, 3.0])
    >>> directional_derivative(f, p, d)  # 2 e⁰ · 1 + e⁰ · 3
    5.0
    >>> abs(directional_derivative(f, p, d, "central") - 5.0) < 1e-9
    True
    """
    require_choice("directional_derivative", "method", method, STEPS)
    h = STEPS[method] if step is None else step
    if method == "complex":
        return float(np.imag(value(p + 1j * h * d)) / h)
    if method == "central":
        return float((value(p + h * d) - value(p - h * d)) / (2 * h))
    return float((value(p + h * d) - value(p)) / h)


def taylor_remainders(
    value: Value, p: Array, d: Array, slope: float, steps: Iterable[float] = TAYLOR_STEPS
) -> Array:
    """R(ε) = |f(p + ε d) - f(p) - ε slope| for each step ε.

    If `slope` is the derivative of f along d, R falls like ε² (or faster); if not, like ε.

    Parameters
    ----------
    value : callable
        f: array to scalar.
    p, d : arrays of one shape
        Point and direction.
    slope : float
        The derivative along d that is under test.
    steps : floats
        The ε, by default 1e-3, a quarter and a sixteenth of it.

    Returns
    -------
    (number of steps,) array

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.gradcheck import taylor_remainders
    >>> f, p, d = lambda p: float(np.sum(p**2)), np.array([1.0, 2.0]), np.array([1.0, 0.0])
    >>> taylor_remainders(f, p, d, slope=2.0, steps=[0.5, 0.25]).tolist()  # a quarter: right
    [0.25, 0.0625]
    >>> taylor_remainders(f, p, d, slope=0.0, steps=[1e-3, 5e-4]).round(4).tolist()  # half: wrong
    [0.002, 0.001]
    """
    at_p = value(p)
    return np.array([abs(value(p + step * d) - at_p - step * slope) for step in steps])


# ------------------------------------------------------------------------------------- the report


@dataclass(frozen=True)
class Row:
    """One block of one array: a parameter, or the rows of one gate in it.

    Examples
    --------
    >>> from gru_np.gradcheck import Row
    >>> Row("W_hh", "n", (4, 4), 3e-16, True, (9, 2), 0.25, 0.25).ok
    True
    """

    name: str
    gate: str  # "r", "z", "n", or "" where the array has no gates
    shape: Shape
    error: float  # relative L2 error; for "taylor", 2 - slope
    ok: bool
    index: tuple[int, ...] | None  # worst entry, counted in the whole array; None: a direction
    analytic: float  # the gradient under test, at the worst entry or along the worst direction
    numerical: float  # and the number it should be
    note: str = ""


@dataclass(frozen=True, repr=False)
class Report:
    """What `check_gradients` found: one row for each parameter and gate.

    Attributes
    ----------
    rows : tuple of Row
        In the order of the arrays.
    method : str
        "complex", "central" or "taylor".
    tolerance : float
        Largest error allowed; it follows from the method and the length of the sums.
    full : bool
        Whether every entry was checked; else random directions were.
    dtype : str
        What the checked object computes in. The check itself is in float64.
    notes : tuple of str
        What a reader of the result should know.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import Dense, check_gradients
    >>> report = check_gradients(Dense(3, activation="tanh", seed=0), np.ones((2, 4)))
    >>> report.ok, [row.name for row in report.rows]
    (True, ['W', 'b', 'x'])
    """

    rows: tuple[Row, ...]
    method: str
    tolerance: float
    full: bool
    dtype: str = "float64"
    notes: tuple[str, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """Whether every block is within the tolerance."""
        return all(row.ok for row in self.rows)

    @property
    def worst(self) -> Row:
        """The row with the largest error, wrong ones first."""
        return max(self.rows, key=lambda row: (not row.ok, row.error))

    def raise_if_bad(self) -> None:
        """Raise GradientError, naming the worst entry, unless every block is right."""
        if self.ok:
            return
        row = self.worst
        wrong = [_block_name(row) for row in self.rows if not row.ok]
        raise GradientError(
            f"{_block_name(row)}: the gradient{_place(row)} is {row.analytic!r}, "
            f"{self._method()} in float64 gives {row.numerical!r}"
            + (f" ({row.note})" if row.note else "")
            + f"; {self._measure()} {row.error:.3g}, allowed {self.tolerance:g}; "
            f"wrong blocks: {', '.join(wrong)}; dtype of the checked object: {self.dtype}"
        )

    def _method(self) -> str:
        return {
            "complex": f"complex step (h = {STEPS['complex']:g})",
            "central": f"central differences (eps = {STEPS['central']:g})",
            "taylor": f"Taylor remainder (eps = {TAYLOR_STEPS[0]:g} to {TAYLOR_STEPS[-1]:.2g})",
        }[self.method]

    def _measure(self) -> str:
        return "2 - slope" if self.method == "taylor" else "relative L2 error"

    def __repr__(self) -> str:
        extent = "every entry" if self.full else f"{DIRECTIONS} random directions a block"
        head = ("array", "gate", "shape", self._measure(), "worst", "gradient", "numerical", "")
        table = [head]
        for row in self.rows:
            mark = "" if row.ok else "WRONG"
            table.append(
                (
                    row.name,
                    row.gate,
                    spell(row.shape),
                    f"{row.error:.1e}",
                    "" if row.index is None else spell(row.index),
                    f"{row.analytic:.6g}",
                    f"{row.numerical:.6g}",
                    f"{mark} {row.note}".strip(),
                )
            )
        widths = [max(len(line[i]) for line in table) for i in range(len(head))]
        right = (3, 5, 6)
        lines = [f"Gradients against {self._method()}, float64, {extent}"]
        for line in table:
            cells = [
                cell.rjust(width) if i in right else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ]
            lines.append("  ".join(cells).rstrip())
        wrong = sum(not row.ok for row in self.rows)
        verdict = "all right" if self.ok else f"{wrong} of {len(self.rows)} blocks WRONG"
        worst = self.worst
        lines.append(
            f"{verdict}; worst {_block_name(worst)}: {self._measure()} {worst.error:.1e}, "
            f"allowed {self.tolerance:g}"
        )
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def _block_name(row: Row) -> str:
    return f"{row.name}, gate {row.gate}" if row.gate else row.name


def _place(row: Row) -> str:
    return " along a random direction" if row.index is None else f" at {spell(row.index)}"


# ----------------------------------------------------------------------- layers, losses and models


def check_gradients(
    model_or_layer: Any,
    x: Any,
    y: Any = None,
    method: Method = "complex",
    *,
    mask: Any = None,
    initial_state: Any = None,
    full: bool | None = None,
    seed: int = 0,
) -> Report:
    """Check the backward pass of a model, a layer or a loss against its own forward pass.

    The object is copied and the copy made float64; the caller's is never touched. Checked are all
    parameters, the input if it is not integers, and a recurrent layer's initial state. Dropout is
    on, with the same mask at every evaluation.

    Parameters
    ----------
    model_or_layer : Sequential, Layer or Loss
        A model must be compiled, for its loss is what is differentiated. A layer that is not built
        yet is built for x. L of a layer is Σ c ⊙ output, with c drawn from `seed`.
    x : array
        Input, batch first: float or integer (token ids); for a loss, y_pred. Take it random, with
        more than one time step: what is 0 or 1 or all equal hides errors.
    y : array, optional
        The target, for a model or a loss.
    method : {"complex", "central", "taylor"}
        Complex step to 1e-13 (relative L2 error of each block; n/32 times that if weights have
        n > 32 columns), central differences to 1e-7, or the slope of the Taylor remainder, at
        least 1.9.
    mask : (B, T) bool, optional
        For a layer or a loss. What x holds at masked steps may be NaN.
    initial_state : (B, H) array, optional
        For a recurrent layer; drawn at random if not given.
    full : bool, optional
        Every entry (True), or three random directions in each block (False). By default every
        entry of up to 2,000 in all; the report says which. "taylor" always takes directions.
    seed : int
        Of everything random.

    Returns
    -------
    Report
        `report.ok`, `report.worst`, `report.raise_if_bad()`; its repr is a table with a row for
        each parameter and gate. A wrong gradient raises nothing here.

    Raises
    ------
    ValueError
        Input that no check can use (not finite, huge, or as if nothing was ever written to it); a
        model without a loss; outputs that differ between two equal evaluations.
    TypeError
        Not a model, layer or loss.

    Notes
    -----
    Parameters that are constant (zero biases, gains of one) hide errors: with b_hn = 0, forgetting
    it changes nothing. In the copy they get random numbers, and the report says so.

    A block that is zero but for rounding has no relative error. If both gradients are below 64
    roundings (1.4e-14) of the norm of all gradients together, their difference is measured against
    that norm. Central differences know no digit below the rounding of L over 2ε; a block whose
    difference is below four times that passes, with a note. No tolerance can be changed.

    Source: `gru_np.gradcheck`.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import GRU, check_gradients
    >>> x = np.random.default_rng(0).standard_normal((3, 5, 2))
    >>> report = check_gradients(GRU(4, seed=0), x)
    >>> report.ok, report.worst.error < 1e-14
    (True, True)
    >>> [row.name + row.gate for row in report.rows][:3]
    ['W_ihr', 'W_ihz', 'W_ihn']
    """
    if isinstance(model_or_layer, Layer):
        subject = _subjects.of_layer(model_or_layer, x, mask, initial_state, seed)
    elif isinstance(model_or_layer, Loss):
        subject = _subjects.of_loss(model_or_layer, x, y, mask)
    elif isinstance(model_or_layer, Sequential):
        subject = _subjects.of_model(model_or_layer, x, y, seed)
    else:
        raise TypeError(
            "check_gradients: model_or_layer must be a Sequential, a Layer or a Loss, got "
            f"{type(model_or_layer).__name__}; for a pair of functions use gradcheck.check_function"
        )
    return _check(subject, method, full, seed)


# --------------------------------------------------------------------------- a pair of functions


def check_function(
    forward: Callable[[Gradients], tuple[Any, Any]],
    backward: Callable[[Any, Any], Mapping[str, Array | None]],
    arrays: Mapping[str, Array | None],
    method: Method = "complex",
    *,
    full: bool | None = None,
    seed: int = 0,
) -> Report:
    """Check a pair of functions, forward and backward, that share no layer or model.

    L = Σ c ⊙ y over every output y, with a cotangent c drawn from `seed`.

    Parameters
    ----------
    forward : callable
        `forward(arrays) -> (outputs, saved)`; outputs is an array or a tuple of arrays.
    backward : callable
        `backward(cotangents, saved) -> {name: gradient}`; cotangents as outputs.
    arrays : dict of str to float64 array
        Where the gradient is checked, by name; entries that are None are left out. Under the
        names W_ih, W_hh, b_ih, b_hh the rows of the gates r, z, n are reported one by one.
    method : {"complex", "central", "taylor"}
    full : bool, optional
        Check every entry (True) or random directions in each block (False); by default every
        entry of up to 2,000 in all. "taylor" always takes directions.
    seed : int
        Of the cotangent and the directions.

    Returns
    -------
    Report

    Raises
    ------
    TypeError
        An array is not float64.
    ValueError
        Input that no check can use: not finite, huge, or as if nothing was ever written to it;
        outputs that differ between two equal calls, or that discard the imaginary part.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.gradcheck import check_function
    >>> forward = lambda arrays: (arrays["p"] ** 3, arrays["p"])
    >>> backward = lambda dy, p: {"p": dy * 3 * p**2}
    >>> check_function(forward, backward, {"p": np.array([0.5, -2.0])}).ok
    True
    >>> wrong = lambda dy, p: {"p": dy * 2 * p**2}
    >>> check_function(forward, wrong, {"p": np.array([0.5, -2.0])}).ok
    False
    """
    return _check(_subjects.of_functions(forward, backward, arrays, seed), method, full, seed)


# --------------------------------------------------------------------------------- the comparison


def _blocks(name: str, array: Array) -> list[tuple[str, slice]]:
    """Rows that are reported together: those of each gate, or all."""
    if name.split("/")[-1] not in GATED or not array.size or array.shape[0] % 3:
        return [("", slice(None))]
    H = array.shape[0] // 3
    return [(gate, slice(k * H, (k + 1) * H)) for k, gate in enumerate(GATES)]


@dataclass
class _Checker:
    """One check: L as a function of all arrays, and the way to differentiate it."""

    value: Callable[[Gradients], Any]
    method: str
    full: bool
    tolerance: float
    scale: float  # Σ |terms of L|; L itself is known to 2e-16 of it
    whole: float  # L2 norm of all gradients together
    rng: np.random.Generator

    def rows(self, arrays: Gradients, gradients: Mapping[str, Array | None]) -> list[Row]:
        """Check every block of every array."""
        if self.method == "complex":
            arrays = {name: array.astype(complex) for name, array in arrays.items()}
        rows = []
        for name, p in arrays.items():
            gradient = gradients.get(name)
            fault = _fault(gradient, p)
            value = self.along(arrays, name)
            for gate, block in _blocks(name, p):
                if gradient is None or fault:
                    values: Any = (np.inf, False, None, np.nan, np.nan, fault)
                elif self.method == "taylor":
                    values = self.taylor(value, p, gradient, block)
                else:
                    values = self.differences(value, p, gradient, block)
                rows.append(Row(name, gate, p[block].shape, *values))
        return rows

    def along(self, arrays: Gradients, name: str) -> Value:
        """L as a function of one array, the others held."""
        return lambda p: self.value({**arrays, name: p})

    def probes(self, p: Array, block: Any, full: bool) -> Iterable[tuple[Any, Array]]:
        """Directions in one block: one for each entry, with its index, or a few random ones."""
        inside = np.zeros(p.shape, bool)
        inside[block] = True
        if full:
            for index in zip(*np.nonzero(inside), strict=True):
                d = np.zeros(p.shape)
                d[index] = 1
                yield tuple(map(int, index)), d
        elif p.size:
            for _ in range(DIRECTIONS):
                yield None, np.where(inside, self.rng.standard_normal(p.shape), 0)

    def differences(self, value: Value, p: Array, gradient: Array, block: Any) -> tuple[Any, ...]:
        """Compare a block with complex step or central differences: error, ok, worst entry."""
        indices, analytic, numerical = [], [], []
        for index, d in self.probes(p, block, self.full):
            indices.append(index)
            analytic.append(float(np.sum(gradient * d)))
            numerical.append(directional_derivative(value, p, d, self.method))
        if not indices:
            return 0.0, True, None, 0.0, 0.0, "empty"
        a, n = np.array(analytic), np.array(numerical)
        k = int(np.argmax(np.abs(a - n)))
        difference, size = float(np.linalg.norm(a - n)), float(np.linalg.norm(n))
        if not self.full:
            # A direction may happen to lie across the gradient; its mean square along them is |g|².
            size = max(size, np.sqrt(len(a)) * float(np.linalg.norm(gradient[block])))
        tolerance = self.tolerance
        error = 0.0 if difference == 0 else difference / size if size else np.inf
        note = ""
        if size == 0 and difference == 0:
            note = "zero"
        elif error > tolerance and self.method == "complex":
            # A sum that cancels to zero leaves rounding, and rounding has no digits to compare.
            # Only where both sides are that small does another measure apply, and it is stricter.
            if max(size, float(np.linalg.norm(a))) <= ZERO * EPSILON * self.whole:
                error, note = difference / self.whole, "zero but for rounding"
        elif error > tolerance:
            # L is rounded to about 2e-16 of its terms, so a quotient by 2ε knows no more than this.
            noise = NOISE * EPSILON * self.scale / STEPS["central"] * np.sqrt(len(indices))
            if difference <= noise:
                error, note = tolerance * difference / noise, "too small to tell from rounding"
        ok = bool(error <= tolerance)
        return error, ok, indices[k], analytic[k], numerical[k], note

    def taylor(self, value: Value, p: Array, gradient: Array, block: Any) -> tuple[Any, ...]:
        """Measure the slope of the Taylor remainders in a block: error, ok, worst direction."""
        directions = [d for _, d in self.probes(p, block, full=False)]
        if not directions:
            return 0.0, True, None, 0.0, 0.0, "empty"
        analytic = [float(np.sum(gradient * d)) for d in directions]
        remainders = np.array(
            [taylor_remainders(value, p, d, a) for d, a in zip(directions, analytic, strict=True)]
        )
        k = int(np.argmax(remainders[:, -1]))
        numerical = directional_derivative(value, p, directions[k], "central")
        if not np.isfinite(remainders).all():
            return np.inf, False, None, analytic[k], numerical, "L is not finite nearby"
        # Along one direction the curvature may happen to vanish; along several it does not.
        together = np.sqrt(np.mean(remainders**2, axis=0))
        # Only remainders that stand clear of the rounding of L have a slope.
        clear = together > 100 * EPSILON * self.scale
        if clear.sum() < 2:
            return 0.0, True, None, analytic[k], numerical, "linear: no remainder"
        slope = float(np.polyfit(np.log(TAYLOR_STEPS[clear]), np.log(together[clear]), 1)[0])
        error = max(0.0, 2 - slope)
        return error, error <= self.tolerance, None, analytic[k], numerical, ""


def _require_complex(value: Callable[[Gradients], Any], arrays: Gradients) -> None:
    """Raise unless imaginary parts come through."""
    try:
        if np.iscomplexobj(value({name: p.astype(complex) for name, p in arrays.items()})):
            return
        fault: Exception | None = None
    except (np.exceptions.ComplexWarning, TypeError) as error:
        fault = error
    raise ValueError(
        "check_gradients: complex step needs a forward pass of complex numbers, got one that "
        f'{f"refuses them ({fault})" if fault else "gives real ones"}; use method="central"'
    ) from fault


def _fault(gradient: Array | None, p: Array) -> str:
    """Say what makes a gradient wrong before any number is compared."""
    if gradient is None:
        return "no gradient"
    if np.shape(gradient) != p.shape:
        return f"gradient has shape {spell(np.shape(gradient))}"
    if not np.isfinite(gradient).all():
        return "gradient holds NaN or infinity"
    return ""


def _check(subject: Subject, method: str, full: bool | None, seed: int) -> Report:
    """Compare the gradients under test with what the values of L say, block by block."""
    value, gradients, arrays, scale, dtype, notes = subject
    require_choice("check_gradients", "method", method, TOLERANCES)
    if not arrays:
        raise ValueError("check_gradients: there must be something to differentiate, got no arrays")
    if not np.isfinite(first := value(arrays)):
        raise ValueError(
            f"check_gradients: the output must be finite, got {first}; mend the forward pass first"
        )
    if value(arrays) != first:
        raise ValueError(
            "check_gradients: two equal evaluations must give equal values, got different ones; "
            "draw random numbers only from the rng that is passed in, and keep no state"
        )
    if dtype != "float64":
        notes.append(f"checked on a float64 copy: {dtype} cannot tell rounding from a bug")
    size = sum(array.size for array in arrays.values())
    if method == "taylor":
        full = False
    elif full is None:
        full = size <= FULL_LIMIT
        if not full:
            notes.append(
                f"{size} numbers are more than {FULL_LIMIT}, so {DIRECTIONS} random directions in "
                "each block were checked; full=True checks every entry"
            )
    present = [g for g in gradients.values() if g is not None]
    whole = float(np.sqrt(sum(np.sum(np.square(g)) for g in present)))
    if whole == 0:
        notes.append("every gradient is zero: there was nothing to tell right from wrong")
    tolerance = TOLERANCES[method]
    if method == "complex":
        columns = max((p.shape[-1] for p in arrays.values() if p.ndim > 1), default=1)
        tolerance *= max(1.0, columns / SUM)
    rng = np.random.default_rng([seed, 1])
    checker = _Checker(value, method, full, tolerance, scale, whole, rng)
    with warnings.catch_warnings():
        warnings.simplefilter("error", np.exceptions.ComplexWarning)
        if method == "complex":
            _require_complex(value, arrays)
        rows = checker.rows(arrays, gradients)
    return Report(tuple(rows), method, tolerance, full, dtype, tuple(notes))
