"""What every converter shares: its refusal, the model it makes, the check before it returns.

Notation: B batch, T time, I input, H hidden.
"""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gru_np._aliases import Array
from gru_np._checks import spell
from gru_np._intake import as_array
from gru_np.layers import GRU, Bidirectional, Dense, Embedding, Layer
from gru_np.model import Sequential

# How far the other library's answer to the same random input may lie from ours: its own rounding,
# and its own tanh. A swapped gate or a lost bias is off by a hundredth or more.
AGREEMENT = {np.dtype(np.float32): 1e-4, np.dtype(np.float64): 1e-10}

MAX_LAYERS = 1000


class ConversionError(ValueError):
    """A move that cannot be exact: who was asked, which term would be lost, what to do instead.

    Examples
    --------
    >>> from gru_np import GRU, Sequential, interop
    >>> model = Sequential([GRU(4, reset_after=False)], seed=0)
    >>> model.build((None, None, 3))
    >>> interop.to_torch(model)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    gru_np.interop.common.ConversionError: to_torch: gru has reset_after=False, ...
    """


@dataclass(frozen=True)
class Conversion:
    """What was compared when a model came in from elsewhere, what was not, what was assumed.

    Each reader leaves one as `conversion` on what it returns; it is not saved.

    Attributes
    ----------
    checked : tuple of str
        How both sides were run on the same random input, and gave the same answer.
    unchecked : tuple of str
        What was not compared, and why.
    assumed : tuple of str
        What the source leaves open, and how it was read.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import interop
    >>> shapes = {"weight_ih_l0": (12, 3), "weight_hh_l0": (12, 4)}
    >>> state_dict = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    >>> interop.from_torch(state_dict, return_sequences=False, check=False).conversion.unchecked
    ('nothing was run: check=False',)
    """

    checked: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()

    def __str__(self) -> str:
        kinds = {"checked": self.checked, "not checked": self.unchecked, "assumed": self.assumed}
        return "\n".join(f"{kind}: {text}" for kind, texts in kinds.items() for text in texts)


NOT_ASKED = Conversion(unchecked=("nothing was run: check=False",))


def require_package(name: str, extra: str, who: str) -> Any:
    """Import an optional package, or say how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"{who} needs {name}: pip install 'gru_np[{extra}]'") from error


def optional_package(name: str) -> Any:
    """Import a package if it is there, else give None."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def as_float_array(who: str, what: str, value: Any) -> Array:
    """Give weights as float32 or float64, widened exactly if they are narrower."""
    try:
        array = as_array(who, value, what)
    except (TypeError, ValueError) as error:
        raise ConversionError(str(error)) from error
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise ConversionError(f"{who}: {what} must hold floats, got {array.dtype}")
    dtype = np.float64 if array.dtype.itemsize == 8 else np.float32
    return np.array(array, dtype, order="C")


def assemble(
    who: str, parts: Sequence[tuple[Layer, Mapping[str, Array]]], rank: int = 3
) -> Sequential:
    """Make a model from layers and the parameters each is to have, checking every shape.

    Of rank 2 what enters is (B, F), without time, unless it is token ids.
    """
    if len(parts) > MAX_LAYERS:
        raise ConversionError(f"{who}: a model has at most {MAX_LAYERS} layers, found {len(parts)}")
    arrays = [array for _, params in parts for array in params.values()]
    dtype = np.result_type(np.float32, *arrays)
    model = Sequential([layer for layer, _ in parts], dtype=dtype, seed=0)
    shape: tuple[int | None, ...] = (None, None)
    if not isinstance(parts[0][0], Embedding):
        shape = (None, input_size(parts)) if rank == 2 else (None, None, input_size(parts))
    model.input_shape = shape
    for layer, params in parts:
        try:
            expected = layer.parameters(shape)
        except ValueError as error:
            raise ConversionError(f"{who}: {error}") from error
        wanted = {name: parameter.shape for name, parameter in expected.items()}
        found = {name: array.shape for name, array in params.items()}
        if wanted != found:
            raise ConversionError(
                f"{who}: {layer.name} after a layer with {shape[-1]} features must have "
                f"{_spell_all(wanted)}; found {_spell_all(found)}"
            )
        layer.params = {name: np.array(params[name], dtype, order="C") for name in wanted}
        layer.built = True
        shape = layer.output_shape(shape)
    return model


def _spell_all(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {spell(shape)}" for name, shape in shapes.items()) or "nothing"


def input_size(parts: Sequence[tuple[Layer, Mapping[str, Array]]]) -> int | None:
    """Give the number of features that enter, from the first weights on the way."""
    for _, params in parts:
        for name in ("W_ih", "forward/W_ih", "W"):
            if name in params:
                return int(params[name].shape[1])
        if "gamma" in params:
            return int(params["gamma"].size)
    return None


def require_agreement(
    who: str, what: str, ours: Any, theirs: Any, tolerance: float | None = None
) -> None:
    """Raise unless two answers to the same random input agree, as those of equal models do."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    both = np.float64 if ours.dtype == theirs.dtype == np.float64 else np.float32
    tolerance = AGREEMENT[np.dtype(both)] if tolerance is None else tolerance
    if ours.shape != theirs.shape:
        raise ConversionError(
            f"{who}: {what} gives {spell(theirs.shape)} there and {spell(ours.shape)} here"
        )
    if not ours.size:
        return
    error = np.abs(ours - theirs).max()
    scale = max(1.0, float(np.abs(theirs).max()))
    if not error <= tolerance * scale:
        raise ConversionError(
            f"{who}: {what} gives another answer here on random input, off by {error:.2g} of "
            f"{scale:.2g}; it does something that its weights and settings do not show"
        )


def answer(model: Sequential, x: Any, **options: Any) -> Any:
    """Run a model down its layers from zero states, and leave the states they carry as they were.

    Of what comes back, `y` and `mask` count.
    """
    with model._states_kept():
        model.reset_states()
        return model._forward(x, **options)


def random_batch(model: Sequential, batch: int = 3, time: int = 5) -> Array:
    """Draw an input for a model: ids or numbers, more than one row and step.

    A mask is put to the test too: padding in front, behind and between.
    """
    rng = np.random.default_rng(20140603)  # the day of arXiv:1406.1078
    first = model.layers[0]
    if isinstance(first, Embedding):
        x = rng.integers(0, first.input_dim, (batch, time))
        if first.mask_zero:
            x = np.maximum(x, min(1, first.input_dim - 1))
            x[0, : time // 2] = x[-1, time - time // 3 :] = x[batch // 2, time // 2] = 0
        return x
    assert model.input_shape is not None
    features = model.input_shape[-1] or 1
    shape = (batch, features) if len(model.input_shape) == 2 else (batch, time, features)
    return rng.standard_normal(shape).astype(model.dtype)


def directions(layer: Layer) -> list[tuple[str, GRU]]:
    """Give the one or two GRUs of a layer with the prefix of their parameters' names."""
    if isinstance(layer, GRU):
        return [("", layer)]
    assert isinstance(layer, Bidirectional)
    return [("forward/", layer.layer), ("backward/", layer.backward_layer)]


def of_direction(layer: Layer, prefix: str) -> dict[str, Array]:
    """Give the parameters of one direction, without the prefix."""
    return {
        name.removeprefix(prefix): array
        for name, array in layer.params.items()
        if name.startswith(prefix)
    }


# Settings that no other library's GRU has: attribute, and what they change.
_OWN_TERMS = {
    "zoneout": "the new state is mixed with the old one",
    "layer_norm": "both products are normalised before the gates",
    "learn_initial_state": "the sequence begins at a learned state h0",
}


def require_expressible(
    who: str, target: str, layer: GRU, name: str, allowed: Sequence[str] = ()
) -> None:
    """Raise if a GRU has a setting that changes its results and that only gru_np knows."""
    for attribute, meaning in _OWN_TERMS.items():
        value = getattr(layer, attribute, None)
        if value and attribute not in allowed:
            raise ConversionError(
                f"{who}: {name} has {attribute}={value!r} ({meaning}), which {target} cannot "
                "express"
            )


def parameters_of(layer: Layer) -> dict[str, Array]:
    """Give the parameters a layer computes with; a tied Dense lends its W from an Embedding."""
    tied = isinstance(layer, Dense) and layer.tied is not None
    return {"W": layer.weight, **layer.params} if tied else layer.params  # type: ignore[attr-defined]


def set_dense_activation(who: str, parts: list[Any], activation: str, where: str) -> None:
    """Give an activation that stands alone to the Dense layer before it."""
    last = parts[-1][0] if parts else None
    if activation == "linear":
        return
    if not isinstance(last, Dense) or last.activation not in (None, "linear"):
        raise ConversionError(
            f"{who}: {where} applies {activation} to something other than the output of a linear "
            "layer, and gru_np has no layer that is an activation alone"
        )
    parts[-1] = (type(last)(**last.get_config() | {"activation": activation}), parts[-1][1])
