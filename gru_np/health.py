"""Is a training step sound? The gradient's size, gates that are stuck, where NaN came from."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from gru_np._aliases import Array, Gradients
from gru_np._intake import first_nonfinite
from gru_np._together import Together
from gru_np.layers import GRU, Bidirectional, Layer
from gru_np.layers.base import is_just
from gru_np.layers.gru import Kept

FEW = 1 << 15  # numbers that it is quicker to bring together than to look at array by array
GATES = ("r", "z", "n")  # the rows of every array of a GRU, in thirds
LOW, HIGH = 0.1, 0.9  # beyond these a gate counts as closed or open (arXiv:1506.02078, sec. 4.2)


class NonFiniteError(FloatingPointError):
    """A loss or gradient was NaN or infinite; no weight was changed by that step.

    Examples
    --------
    >>> from gru_np.health import NonFiniteError
    >>> issubclass(NonFiniteError, ArithmeticError)
    True
    """


def gradient_norm(gradients: Gradients) -> float:
    """Euclidean norm of all gradients together; NaN or infinite if, and only if, one of them is.

    Parameters
    ----------
    gradients : dict of str to array

    Returns
    -------
    float
        In the precision of the arrays, unless squares overflow there.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.health import gradient_norm
    >>> gradient_norm({"a": np.array([3.0]), "b": np.array([0.0, 4.0])})
    5.0
    """
    arrays = [gradients.flat] if isinstance(gradients, Together) else list(gradients.values())
    if len(arrays) > 1 and sum([g.size for g in arrays]) <= FEW:
        arrays = [np.concatenate(arrays, axis=None)]
    total = sum([float(np.dot(g, g)) for g in map(np.ravel, arrays)])
    if math.isfinite(total):
        return math.sqrt(total)
    # A square may overflow though its number does not.
    largest = max(float(np.abs(g).max(initial=0)) for g in gradients.values())
    if any(np.isnan(g).any() for g in gradients.values()) or not math.isfinite(largest):
        return math.nan
    scaled = (np.asarray(g, np.float64) / largest for g in gradients.values())
    return largest * math.sqrt(sum(float((g * g).sum()) for g in scaled))


def saturation(layers: Iterable[Layer], saved: Iterable[Any]) -> dict[str, float]:
    """Give the share of gates that are stuck near an end of their range, for each GRU.

    r or z below 0.1 or above 0.9, |n| above 0.9; over all units and real time steps.

    Parameters
    ----------
    layers, saved
        Of one forward pass of training.

    Returns
    -------
    dict of str to float
        "layer/r_saturated", "layer/z_saturated" and "layer/n_saturated", each in 0..1.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import GRU
    >>> from gru_np.health import saturation
    >>> layer = GRU(4, seed=0)
    >>> _, saved = layer.forward(np.zeros((1, 9, 2)))  # nothing in: all gates half open
    >>> saturation([layer], [saved])
    {'gru/r_saturated': 0.0, 'gru/z_saturated': 0.0, 'gru/n_saturated': 0.0}
    """
    shares = {}
    for name, keep in _recurrent(layers, saved):
        of_gates = keep.saved
        for gate in GATES:
            a = getattr(of_gates, gate)  # (T, B, H)
            if of_gates.valid is not None:
                a = a[of_gates.valid]  # (steps, H)
            stuck = (np.abs(a) > HIGH) if gate == "n" else (a < LOW) | (a > HIGH)
            shares[f"{name}/{gate}_saturated"] = float(stuck.mean()) if stuck.size else 0.0
    return shares


def saturation_names(layers: Iterable[Layer]) -> list[str]:
    """Give the names of what `saturation` measures."""
    names = []
    for layer in layers:
        if isinstance(layer, GRU):
            names.append(layer.name)
        elif isinstance(layer, Bidirectional):
            names += [f"{layer.name}/{way}" for way in ("forward", "backward")]
    return [f"{name}/{gate}_saturated" for name in names for gate in GATES]


def _recurrent(layers: Iterable[Layer], saved: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Yield every GRU's name and what its forward pass kept, each direction for itself."""
    for layer, keep in zip(layers, saved, strict=True):
        # A subclass may keep something else.
        if isinstance(layer, GRU) and isinstance(keep, Kept):
            yield layer.name, keep
        elif is_just(layer, Bidirectional):
            for direction, of_direction in zip(("forward", "backward"), keep[-1], strict=True):
                yield f"{layer.name}/{direction}", of_direction


def blame(layers: Iterable[Layer], saved: Iterable[Any], gradients: Gradients) -> str:
    """Say where the first number that is not finite stands: parameter, gate or gradient.

    Parameters
    ----------
    layers, saved
        Of one forward pass, from input to output.
    gradients : dict of str to array
        By "layer/parameter", the last layer first.

    Returns
    -------
    str
        Parameters come first, since all else follows from them; then the gates of the first layer
        and time step; then gradients, from the output down.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.health import blame
    >>> blame([], [], {"dense/W": np.zeros((1, 2)), "dense/b": np.array([np.inf])})
    'the gradient of dense/b is not finite'
    """
    layers, saved = list(layers), list(saved)
    for layer in layers:
        for name, array in layer.params.items():
            if not np.isfinite(array).all():
                return f"the parameter {layer.name}/{name} is not finite{_rows(layer, array)}"
    for name, keep in _recurrent(layers, saved):
        if found := _first_gate(keep.saved, keep.span.start):
            return f"{name} is not finite, {found}"
    of_name = {layer.name: layer for layer in layers}
    for name, g in gradients.items():
        if not np.isfinite(g).all():
            owner = of_name.get(name.split("/")[0])
            return f"the gradient of {name} is not finite{_rows(owner, g)}"
    return "the loss is not finite, though every parameter, gate and gradient is"


def blame_data(
    layers: Iterable[Layer], x: Array, y: Array | None, weight: Array | None, mask: Array | None
) -> tuple[str, float, int] | None:
    """Find the first number in the data of a batch that counts and is not finite.

    Parameters
    ----------
    layers
        Of which the first says what of x is padding.
    x, y, weight : array
        A batch of inputs, targets and sample weights; the last two may be None.
    mask : (B, T) bool, optional
        Where the output counts.

    Returns
    -------
    (str, float, int), or None
        The array's name, the number and the row where it stands.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import GRU
    >>> from gru_np.health import blame_data
    >>> x = np.zeros((2, 3, 1))
    >>> x[1, 2] = np.nan
    >>> blame_data([GRU(4)], x, None, None, None)
    ('x', nan, 1)
    """
    padding = next(iter(layers)).compute_mask(x, None)
    counts = {"x": _reach(padding, x)}
    arrays = {"x": x}
    if weight is not None:
        arrays["sample_weight"], counts["sample_weight"] = weight, _reach(mask, weight)
    if y is not None:
        of_weight = None if weight is None else np.asarray(weight != 0)
        arrays["y"], counts["y"] = y, _reach(mask, y) & _reach(of_weight, y)
    for name, array in arrays.items():
        where = first_nonfinite(array, counts[name])
        if where is not None:
            return name, float(array[where].real), where[0]
    return None


def _reach(counts: Array | None, a: Array) -> Array:
    """Spread what counts by samples or time steps over an array, if they fit."""
    if counts is None:
        return np.ones(a.shape, bool)
    if counts.ndim > a.ndim:
        counts = np.asarray(counts.any(axis=tuple(range(a.ndim, counts.ndim))))
    counts = counts.reshape(counts.shape + (1,) * (a.ndim - counts.ndim))
    sizes: tuple[int, ...] = counts.shape
    fits = all(n in (1, whole) for n, whole in zip(sizes, a.shape, strict=True))
    return np.broadcast_to(counts, a.shape) if fits else np.ones(a.shape, bool)


def _rows(layer: Layer | None, array: Array) -> str:
    """Name the gates whose rows of a GRU's array are wrong."""
    if not isinstance(layer, GRU) or len(array) != 3 * layer.units:
        return ""
    parts = zip(GATES, np.split(array, 3), strict=True)
    return f", gate {', '.join(gate for gate, rows in parts if not np.isfinite(rows).all())}"


def _first_gate(saved: Any, start: int) -> str:
    """Name the gates that are wrong at the first time step where any is; "" if none.

    Steps count from the beginning of the sequence, of which those before `start` were not run.
    """
    wrong = {g: ~np.isfinite(getattr(saved, g)).all(axis=(1, 2)) for g in GATES}  # (T,) each
    steps = np.flatnonzero(np.any(list(wrong.values()), axis=0))
    if not steps.size:
        return ""
    t = int(steps[0])
    gates = [g for g in GATES if wrong[g][t]]
    if "r" in gates and "n" in gates:
        gates.remove("n")  # n = tanh(a_in + r * a_hn) only follows
    return f"gate {', '.join(gates)} at time step {start + t}"
