"""Mistakes in the backward pass of a GRU, each a change to one line of the library's source.

`plant` makes a second copy of `gru_np.equations` and `gru_np.recurrence` from their source with the
mistake in it; the library itself is not touched. `demonstrate` shows what the checker makes of it.
"""

import inspect
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gru_np import equations, recurrence
from gru_np._aliases import Array, Gradients
from gru_np._checks import require_choice
from gru_np.gradcheck import Method, Report, check_function

GRADIENTS = ("x", "h0", "W_ih", "W_hh", "b_ih", "b_hh")
B, T, I, H = 3, 5, 2, 4  # noqa: E741 - all different: equal sizes hide transpositions


class Bug(NamedTuple):
    """A change to the text of equations.py or recurrence.py, and how often the old text stands."""

    file: str
    old: str
    new: str
    times: int = 1
    forms: tuple[str, ...] = ("after", "before")  # of the reset, in which it can be seen
    drop: bool = False  # whether it takes recurrent dropout to see it


AFTER, BEFORE = ("after",), ("before",)


# fmt: off
EIGHT = {
    "the carried gradient is not accumulated": Bug(
        "recurrence", "dh_next = dh[t] + dh_t + dh_copied", "dh_next = dh[t] + 0 * dh_t"),
    "the sign of dz": Bug(
        "equations", "dz = dh_next * (h - n)", "dz = dh_next * (n - h)", 2),
    "b_hn forgotten in dr": Bug(
        "recurrence", "n[t], a_hn[t], sigma", "n[t], a_hn[t] - saved.b_hh[2 * H :], sigma",
        forms=AFTER),
    "r forgotten in da_hn": Bug(
        "equations", "da_hn = da_in * r", "da_hn = da_in", forms=AFTER),
    "r and z swapped": Bug(
        "recurrence", "concatenate([da_r, da_z,", "concatenate([da_z, da_r,", 3),
    "the direct path z h dropped": Bug(
        "equations", "dh = dh_next * z", "dh = 0 * dh_next", 2),
    "h[t + 1] used for h[t] in dW_hh": Bug(
        "recurrence", "h[:-1]", "h[1:]", 4),
    "W_hh transposed": Bug(
        "recurrence", "        return da @ W\n",
        "        return da @ np.concatenate([g.T for g in np.split(W, len(W) // W.shape[1])])\n"),
}

MORE = {
    "r forgotten in d(rh)": Bug(
        "equations", "dh = drh * r", "dh = drh", forms=BEFORE),
    "h forgotten in dr": Bug(
        "equations", "dr = drh * h", "dr = drh", forms=BEFORE),
    "a_hn forgotten in dr": Bug(
        "equations", "dr = da_in * a_hn", "dr = da_in", forms=AFTER),
    "the sign of dn": Bug(
        "equations", "dn = dh_next * (1 - z)", "dn = dh_next * (z - 1)", 2),
    "z for 1 - z in dn": Bug(
        "equations", "dn = dh_next * (1 - z)", "dn = dh_next * z", 2),
    "1 - z for z in the direct path": Bug(
        "equations", "dh = dh_next * z", "dh = dh_next * (1 - z)", 2),
    "h forgotten in dz": Bug(
        "equations", "dz = dh_next * (h - n)", "dz = -dh_next * n", 2),
    "n forgotten in dz": Bug(
        "equations", "dz = dh_next * (h - n)", "dz = dh_next * h", 2),
    "the derivative of tanh": Bug(
        "equations", "return 1 - y * y", "return 1 - y"),
    "the derivative of sigmoid": Bug(
        "equations", "return y * (1 - y)", "return 1 - y"),
    "z's derivative for r's": Bug(
        "equations", "da_r = dr * sigma_derivative(r)", "da_r = dr * sigma_derivative(z)", 2),
    "r's derivative for z's": Bug(
        "equations", "da_z = dz * sigma_derivative(z)", "da_z = dz * sigma_derivative(r)", 2),
    "tanh's derivative and sigmoid's exchanged": Bug(
        "recurrence", "(_, phi_derivative), (_, sigma_derivative) =",
        "(_, sigma_derivative), (_, phi_derivative) ="),
    "the cotangents of all states but the last": Bug(
        "recurrence", "dh_next = dh[t] + dh_t + dh_copied", "dh_next = dh_t + dh_copied"),
    "the cotangent of the last state": Bug(
        "recurrence", "dh_next = dh[T]", "dh_next = 0 * dh[T]"),
    "the gradient through copied steps": Bug(
        "recurrence", "+ dh_t + dh_copied", "+ dh_t"),
    "masked steps given a gradient": Bug(
        "recurrence", "np.where(valid[t, :, None], dh_next, 0)", "dh_next"),
    "the recurrent product": Bug(
        "recurrence", "dh_t = dh_t + product_backward(da_hh[t], W_hh, drop)", "", forms=AFTER),
    "the recurrent product of the gates": Bug(
        "recurrence", " + product_backward(da_ih[t, :, : 2 * H], W_hr_hz, drop_r_z)", "",
        forms=BEFORE),
    "the path through r h": Bug(
        "recurrence", "dh_t = dh_t + dh_rh +", "dh_t = dh_t +", forms=BEFORE),
    "h for r h in dW_hn": Bug(
        "recurrence", "r * h[:-1]", "h[:-1]", forms=BEFORE),
    "db_hh from the input's side": Bug(
        "recurrence", "rows_hh.sum(axis=0)", "rows_ih.sum(axis=0)", forms=AFTER),
    "dx from the state's side": Bug(
        "recurrence", "dx = (rows_ih @ W_ih)", "dx = (rows_hh @ W_ih)", forms=AFTER),
    "dW_ih from the state's side": Bug(
        "recurrence", "dW_ih = rows_ih.T", "dW_ih = rows_hh.T", forms=AFTER),
    "a mean for a sum over time": Bug(
        "recurrence", "rows_ih.sum(axis=0)", "rows_ih.mean(axis=0)"),
    "time reversed in dW_ih": Bug(
        "recurrence", "@ x.reshape(T * B, I)\n    db", "@ x[::-1].reshape(T * B, I)\n    db"),
    "the batch reversed in dW_ih": Bug(
        "recurrence", "@ x.reshape(T * B, I)\n    db", "@ x[:, ::-1].reshape(T * B, I)\n    db"),
    "dh0 is its own cotangent and no more": Bug(
        "recurrence", "dh_total[t] = dh_next\n", "dh_total[t] = dh_next if t else dh[0]\n"),
    "the state one step too early": Bug(
        "recurrence", "dh_next, h[t], r[t], z[t], n[t]", "dh_next, h[t - 1], r[t], z[t], n[t]",
        forms=AFTER),
    "the gradient cut between two steps": Bug(
        "recurrence", "dh_next = dh[t] + dh_t + dh_copied",
        "dh_next = dh[t] + (dh_t + dh_copied) * (t != 2)"),
    "dropout forgotten on the way to the state": Bug(
        "recurrence", "(da_g @ W_g) * m for", "(da_g @ W_g) for", drop=True),
    "dropout forgotten in dW_hh": Bug(
        "recurrence", "[fed_g * m for", "[fed_g for", drop=True),
}
# fmt: on
BUGS = EIGHT | MORE


def plant(name: str | None) -> Any:
    """Copy the module `recurrence`, running on a copy of `equations`, with a bug in one of them.

    Parameters
    ----------
    name : str or None
        One of `BUGS`; None plants nothing.

    Returns
    -------
    module
        With `gru_forward` and `gru_backward`.

    Examples
    --------
    >>> from gru_np import lessons, recurrence
    >>> wrong = lessons.plant("the sign of dz")
    >>> wrong.gru_backward is recurrence.gru_backward
    False
    """
    originals = {"equations": equations, "recurrence": recurrence}
    sources = {module: inspect.getsource(original) for module, original in originals.items()}
    if name is not None:
        require_choice("plant", "name", name, list(BUGS))
        bug = BUGS[name]
        found = sources[bug.file].count(bug.old)
        if found != bug.times:
            raise RuntimeError(
                f"{bug.file}.py has changed: {bug.old!r} stands {found} times in it, not "
                f"{bug.times}; say anew how this bug is planted"
            )
        sources[bug.file] = sources[bug.file].replace(bug.old, bug.new)
    modules: dict[str, Any] = {}
    for module, source in sources.items():
        planted = modules[module] = types.ModuleType(f"planted_{module}")
        exec(compile(source, f"planted {module}.py", "exec"), planted.__dict__)
    # Names are looked up when functions run, so this is the module that the recurrence will call.
    modules["recurrence"].equations = modules["equations"]
    modules["recurrence"].ACTIVATIONS = {
        activation: (
            getattr(modules["equations"], activation),
            getattr(modules["equations"], f"{activation}_derivative"),
        )
        for activation in recurrence.ACTIVATIONS
    }
    return modules["recurrence"]


class Problem(NamedTuple):
    """A pair of functions to be checked, and the point to check them at."""

    forward: Callable[[Gradients], tuple[Any, Any]]
    backward: Callable[[Any, Any], dict[str, Array]]
    arrays: Gradients


def problem(
    bug: str | None = None, form: str | None = None, rng: np.random.Generator | None = None
) -> Problem:
    """Make a GRU over three masked sequences, with or without a bug, ready for `check_function`.

    Weights, biases, states and the mask are random and no two sizes are equal, because zeros,
    constants and equal sizes hide bugs.

    Parameters
    ----------
    bug : str, optional
        One of `BUGS`.
    form : {"after", "before"}, optional
        Where the reset stands; by default the first form in which the bug shows.
    rng : numpy Generator, optional
        Seeded with 0 if not given.

    Returns
    -------
    Problem

    Examples
    --------
    >>> from gru_np import lessons
    >>> from gru_np.gradcheck import check_function
    >>> check_function(*lessons.problem()).ok
    True
    """
    module = plant(bug)
    forms = ("after", "before") if bug is None else BUGS[bug].forms
    form = forms[0] if form is None else form
    require_choice("problem", "form", form, list(forms))
    rng = np.random.default_rng(0) if rng is None else rng
    arrays = {
        "x": rng.standard_normal((T, B, I)),
        "h0": rng.standard_normal((B, H)),
        "W_ih": rng.standard_normal((3 * H, I)),
        "W_hh": rng.standard_normal((3 * H, H)) / np.sqrt(H),
        "b_ih": rng.standard_normal(3 * H),
        "b_hh": rng.standard_normal(3 * H),
    }
    mask = rng.random((T, B)) < 0.6
    mask[0, 0] = mask[-1, -1] = False
    mask[0, -1] = mask[-1, 0] = True
    settings: dict[str, Any] = {"reset_after": form == "after", "mask": mask}
    if bug is not None and BUGS[bug].drop:
        settings["drop"] = rng.choice([0.0, 2.0], (3, B, H))

    def forward(point: Gradients) -> tuple[Any, Any]:
        return module.gru_forward(**point, **settings)

    def backward(dh: Any, saved: Any) -> dict[str, Array]:
        return dict(zip(GRADIENTS, module.gru_backward(dh, saved), strict=True))

    return Problem(forward, backward, arrays)


def demonstrate(
    bug: str,
    method: Method = "complex",
    form: str | None = None,
    full: bool | None = None,
    rng: np.random.Generator | None = None,
) -> Report:
    """Plant a bug in the library's backward and let the gradient checker look at it.

    Parameters
    ----------
    bug : str
        One of `BUGS`, "r forgotten in da_hn" for one.
    method : {"complex", "central", "taylor"}
        As `check_gradients`.
    form : {"after", "before"}, optional
        Where the reset stands.
    full : bool, optional
        As `check_gradients`.
    rng : numpy Generator, optional
        Of the random weights; seeded with 0 if not given.

    Returns
    -------
    Report
        Its repr is a table that marks the wrong blocks.

    Raises
    ------
    ValueError
        An unknown bug, or a form in which it does not show.

    Examples
    --------
    Feeding h for r ⊙ h into one product spoils the rows of one gate in one gradient:

    >>> from gru_np import lessons
    >>> report = lessons.demonstrate("h for r h in dW_hn")
    >>> [(row.name, row.gate) for row in report.rows if not row.ok]
    [('W_hh', 'n')]
    """
    require_choice("demonstrate", "bug", bug, list(BUGS))
    return check_function(*problem(bug, form, rng), method, full=full)
