"""What a gradient check can be of: a pair of functions, a layer, a loss, a model.

Each becomes a `Subject`: a scalar L as a function of named float64 arrays, and the gradients of L
that are under test. `gru_np.gradcheck` differentiates L without looking at what it came from.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from gru_np._aliases import Array, Gradients
from gru_np._intake import REAL, as_array
from gru_np.layers import GRU, Bidirectional, Embedding, GRUCell, Layer
from gru_np.model import Sequential

HUGE, TINY = 1e8, 1e-300  # numbers outside are no data: rather memory that nothing was written to


class Subject(NamedTuple):
    """What is to be checked, whatever it came from."""

    value: Callable[[Gradients], Any]  # L as a function of the arrays
    gradients: Mapping[str, Array | None]  # its gradients at them, under test
    arrays: Gradients
    scale: float  # Σ |terms of L|: L is known to 2e-16 of it
    dtype: str  # what the original computes in
    notes: list[str]  # what the report has to tell


def of_functions(
    forward: Callable[[Gradients], tuple[Any, Any]],
    backward: Callable[[Any, Any], Mapping[str, Array | None]],
    arrays: Mapping[str, Array | None],
    seed: int,
) -> Subject:
    """L is Σ c ⊙ y over the outputs y of a forward function, c random."""
    present = {name: array for name, array in arrays.items() if array is not None}
    for name, array in present.items():
        if array.dtype != np.float64:
            raise TypeError(
                f"check_function: {name} must be float64, got {array.dtype}; "
                "a check in float32 cannot tell rounding from a bug"
            )
        _require_data("check_function", name, array)
    outputs, saved = forward(dict(present))
    cotangents = _cotangents(outputs, np.random.default_rng(seed))
    return Subject(
        lambda point: _weighted_sum(cotangents, forward(point)[0]),
        backward(cotangents, saved),
        present,
        _weighted_sum(cotangents, outputs, magnitude=True),
        "float64",
        [],
    )


def of_layer(layer: Layer, x: Any, mask: Any, initial_state: Any, seed: int) -> Subject:
    """L is Σ c ⊙ y over the outputs y of a layer, c random."""
    layer = copy.deepcopy(layer)
    rng, notes = np.random.default_rng([seed, 2]), _notes([layer], x)
    x = _double("x", x, mask, ids=isinstance(layer, Embedding))
    if not layer.built:
        layer.forward(x, mask=mask)
    dtype = _precision(layer.params)
    arrays = _parameters(layer.params, rng, notes)
    if x.dtype.kind == "f":
        arrays["x"] = x
    state_names = _state_names(layer)
    arrays |= _initial_states(layer, state_names, len(x), initial_state, rng)
    carried = layer.state

    def forward(point: Gradients) -> tuple[Any, Any]:
        layer.params = {name: point[name] for name in layer.params}
        layer.state = carried  # the same beginning every time
        options: dict[str, Any] = {"mask": mask, "training": True}
        if state_names:
            options["initial_state"] = _pack([point[name] for name in state_names])
        # The same seed every time, so the same dropout mask.
        return layer.forward(point.get("x", x), rng=np.random.default_rng(seed), **options)

    outputs, saved = forward(arrays)
    cotangents = _cotangents(outputs, rng)
    dx, gradients = layer.backward(cotangents, saved)
    return Subject(
        lambda point: _weighted_sum(cotangents, forward(point)[0]),
        {**gradients, "x": dx},
        arrays,
        _weighted_sum(cotangents, outputs, magnitude=True),
        dtype,
        notes,
    )


def of_loss(loss: Any, y_pred: Any, y_true: Any, mask: Any) -> Subject:
    """L is the loss as a function of the prediction."""
    if y_true is None:
        raise ValueError("check_gradients: a loss needs y, the target, got None; pass y=")
    dtype = _precision({"y_pred": as_array("check_gradients", y_pred, "y_pred")})
    arrays = {"y_pred": _double("y_pred", y_pred, mask)}
    value, gradient = loss(y_true, arrays["y_pred"], mask=mask)
    return Subject(
        lambda point: loss(y_true, point["y_pred"], mask=mask)[0],
        {"y_pred": gradient},
        arrays,
        abs(float(value)),
        dtype,
        [],
    )


def of_model(model: Sequential, x: Any, y: Any, seed: int) -> Subject:
    """L is the loss the model is compiled with; its own forward, loss and backward are called."""
    if model.loss is None:
        raise ValueError("check_gradients: the model must be compiled first, with a loss")
    if y is None:
        raise ValueError("check_gradients: a model needs y, the target of its loss, got None")
    model = copy.copy(model)
    model.layers = copy.deepcopy(model.layers)
    dtype, model.dtype = str(model.dtype), np.dtype(np.float64)
    rng, notes = np.random.default_rng([seed, 2]), _notes(model.layers, x)
    x = _double("x", x, ids=isinstance(model.layers[0], Embedding))
    y = as_array("check_gradients", y, "y", REAL)
    y = _double("y", y) if y.dtype.kind == "f" else y
    if not model.built:
        model.build((None, *x.shape[1:]))
    arrays = _parameters(model.params, rng, notes)
    if x.dtype.kind == "f":
        arrays["x"] = x
    state_names = []
    for layer in model.layers:
        layer.trainable = True  # a frozen layer's gradient is to be right as well
        state_names.append([f"{layer.name}/{name}" for name in _state_names(layer)])
        arrays |= _initial_states(layer, state_names[-1], len(x), None, rng)

    carried = [layer.state for layer in model.layers]

    def forward(point: Gradients) -> tuple[Any, Any, list[Any]]:
        for layer, state in zip(model.layers, carried, strict=True):
            layer.state = state  # the same beginning every time
            layer.params = {name: point[f"{layer.name}/{name}"] for name in layer.params}
        states = [_pack([point[name] for name in names]) for names in state_names]
        # The same seed every time, so the same dropout masks.
        rng = np.random.default_rng(seed)
        down = model._forward(point.get("x", x), training=True, states=states, fused=True, rng=rng)
        return *model._loss_and_gradient(down, y, None), down.saved

    value, dy, saved = forward(arrays)
    gradients: dict[str, Array | None] = dict(model._backward(dy, saved))
    # A training step has no use for the gradients by the input, the initial states and what is
    # fixed.
    for layer, keep in zip(reversed(model.layers), reversed(saved), strict=True):
        dy, of_layer = layer.backward(dy, keep)
        for name in (*layer.fixed, *_state_names(layer)):
            gradients[f"{layer.name}/{name}"] = of_layer.get(name)
    gradients["x"] = dy
    return Subject(
        lambda point: forward(point)[0], gradients, arrays, abs(float(value)), dtype, notes
    )


# --------------------------------------------------------------------------- outputs and cotangents


def _cotangents(outputs: Any, rng: np.random.Generator) -> Any:
    """Draw a random cotangent for each output, in the same nesting."""
    if isinstance(outputs, tuple | list):
        return tuple(_cotangents(output, rng) for output in outputs)
    return None if outputs is None else rng.standard_normal(np.shape(outputs))


def _weighted_sum(cotangents: Any, outputs: Any, magnitude: bool = False) -> Any:
    """Σ c ⊙ y over all outputs; or Σ |c ⊙ y|, the size of what is summed."""
    if isinstance(outputs, tuple | list):
        pairs = zip(cotangents, outputs, strict=True)
        return sum(_weighted_sum(c, y, magnitude) for c, y in pairs)
    if outputs is None:
        return 0.0
    terms = cotangents * outputs
    return (np.abs(terms) if magnitude else terms).sum()


# -------------------------------------------------------------------------------- arrays to check


def _require_data(who: str, name: str, array: Array, valid: Array | None = None) -> None:
    """Raise if these numbers cannot be data; `valid` leaves out steps that are masked."""
    if valid is not None:
        valid = as_array(who, valid, "mask", "b", "bools")
    numbers = array if valid is None else array[valid]
    if not np.isfinite(numbers).all():
        fault = "NaN or infinity"
    elif (np.abs(numbers) > HUGE).any():
        fault = f"a number as large as {np.abs(numbers).max():.3g}"
    elif ((np.abs(numbers) < TINY) & (numbers != 0)).any():
        fault = f"a number as small as {np.abs(numbers[numbers != 0]).min():.3g}"
    else:
        return
    raise ValueError(
        f"{who}: {name} must hold finite numbers of ordinary size, got {fault}; "
        "is it uninitialised memory (np.empty), or data that needs scaling?"
    )


def _double(name: str, x: Any, valid: Array | None = None, ids: bool = False) -> Array:
    """Copy x as float64, or token ids as they are; refuse what cannot be data."""
    x = as_array("check_gradients", x, name, REAL, "real numbers")
    if ids:
        return x.copy()
    x = x.astype(np.float64)
    _require_data("check_gradients", name, x, valid)
    return x


def _parameters(params: Gradients, rng: np.random.Generator, notes: list[str]) -> Gradients:
    """Copy parameters as float64; what is constant and would hide errors gets random numbers."""
    doubles = {name: _double(name, p) for name, p in params.items()}
    constant = [name for name, p in doubles.items() if p.size and np.ptp(p) == 0]
    for name in constant:
        doubles[name] += 0.5 * rng.standard_normal(doubles[name].shape)
    if constant:
        notes.append(
            f"constant, which hides errors, so the copy got random numbers: {', '.join(constant)}"
        )
    return doubles


def _state_names(layer: Layer) -> list[str]:
    """Names of the gradients by a layer's initial states."""
    if isinstance(layer, Bidirectional):
        return ["forward/initial_state", "backward/initial_state"]
    return ["initial_state"] if isinstance(layer, GRU | GRUCell) else []


def _initial_states(
    layer: Any, names: list[str], batch: int, given: Any, rng: np.random.Generator
) -> Gradients:
    """Give a recurrent layer's initial states by name, drawn unless given."""
    if given is None:
        units = (
            layer.layer.units if isinstance(layer, Bidirectional) else layer.units if names else 0
        )
        given = [rng.uniform(-1, 1, (batch, units)) for _ in names]
    elif not isinstance(given, list | tuple):
        given = [given]
    return {name: _double(name, state) for name, state in zip(names, given, strict=True)}


def _pack(states: list[Array]) -> Any:
    """None, one state, or the pair that a layer takes as `initial_state`."""
    return states[0] if len(states) == 1 else tuple(states) or None


# ----------------------------------------------------------------------------- what a report tells


def _notes(layers: list[Layer], x: Any) -> list[str]:
    """Say that one time step shows nothing of backpropagation through time."""
    recurrent = any(isinstance(layer, GRU | Bidirectional) for layer in layers)
    if recurrent and np.ndim(x) > 1 and np.shape(x)[1] == 1:
        return ["x has one time step: what is carried through time was not checked"]
    return []


def _precision(arrays: Gradients) -> str:
    """Name the dtype of arrays, as the report gives it."""
    return ", ".join(sorted({str(array.dtype) for array in arrays.values()})) or "float64"
