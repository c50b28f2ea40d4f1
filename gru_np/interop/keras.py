"""To and from Keras 3, and from Keras 2: live models and layers, and their files.

`keras_settings` knows what Keras writes about a model, `keras_files` its files.

Notation: F features, U units, V vocabulary, E embedding, H hidden.
"""

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gru_np._aliases import Array
from gru_np._checks import spell
from gru_np.interop.common import (
    NOT_ASKED,
    Conversion,
    ConversionError,
    answer,
    as_float_array,
    assemble,
    directions,
    parameters_of,
    random_batch,
    require_agreement,
    require_package,
)
from gru_np.interop.keras_files import (
    fill,
    from_file,
    masked_outputs,
    require_masks_alike,
    require_shapes,
    to_places,
    write_file,
)
from gru_np.interop.keras_settings import (
    WHO,
    Entry,
    chain,
    describe,
    entries_of,
    major,
    read_class,
)
from gru_np.layers import GRU, Bidirectional, Embedding
from gru_np.model import Sequential

_LIBRARIES = ("keras", "tf_keras")


# --------------------------------------------------------------------------------- from Keras


def from_keras(source: Any, *, into: Sequential | None = None, check: bool = True) -> Any:
    """Make a model from a model or layer of Keras 3 or 2, or from a file that one of them wrote.

    Parameters
    ----------
    source : keras.Model, keras.Layer or path
        A model whose layers stand in a row: Embedding, GRU (or RNN around a GRUCell),
        Bidirectional, Dense (or TimeDistributed around it), LayerNormalization, Dropout,
        Masking, global pooling over time, Activation. A path ends in `.keras` or `.weights.h5`.
    into : Sequential, optional
        For `.weights.h5`, which holds no settings: the built model that takes the weights.
    check : bool
        Run what is live and ours on random input before returning; states that layers of Keras'
        carry are left as they were. Files are read without Keras, and nothing is run.

    Returns
    -------
    Sequential, or a layer for a layer
        Its `conversion` says what was checked. Initializers, regularizers and constraints are left
        behind: they do not change what a trained model computes. Nothing else is.

    Raises
    ------
    ConversionError
        If it cannot be exact, naming the layer or setting: one that is not known is one, and so
        are `zero_output_for_mask`, `time_major` and the `hard_sigmoid` of Keras 2, which is
        another function. Or if a file is damaged or hostile.
    ImportError
        If source is a file and h5py is not installed: pip install 'gru_np[keras]'.

    Notes
    -----
    Where a mask says that a step does not count, Keras' Bidirectional gives zeros and ours the
    state it carried; at steps that count both give the same.

    Examples
    --------
    >>> import os, tempfile
    >>> import h5py
    >>> from gru_np import GRU, Dense, Sequential, interop
    >>> model = Sequential([GRU(4), Dense(2)], seed=0)
    >>> model.build((None, None, 3))
    >>> path = os.path.join(tempfile.mkdtemp(), "model.keras")
    >>> interop.to_keras(model, path)
    >>> interop.from_keras(path).layers
    [GRU(units=4), Dense(units=2, activation='linear')]
    """
    if isinstance(source, str | bytes | os.PathLike):
        return from_file(os.fsdecode(source), into)
    if not (hasattr(source, "get_config") and hasattr(source, "weights")):
        raise TypeError(
            f"{WHO}: source must be a Keras model, layer or path, got {type(source).__name__}"
        )
    if not source.built:
        raise ValueError(f"{WHO}: {source.name} must be built first; call it once")
    # By the library that the class comes of, not by what is installed beside it.
    classes = [c for c in type(source).__mro__ if c.__module__.split(".")[0] in _LIBRARIES]
    library = classes[0].__module__.split(".")[0] if classes else "keras"
    version = major(getattr(sys.modules.get(library), "__version__", 3), source.name)
    described = {
        "class_name": type(source).__name__,
        "module": type(source).__module__,
        "config": source.get_config(),
    }
    if not hasattr(source, "layers"):
        return _from_layer(source, described, version, check)
    rows_of, shape = chain(described)
    live = {layer.name: layer for layer in source.layers}
    for layer in live.values():
        read_class({"class_name": type(layer).__name__, "module": type(layer).__module__,
                    "config": {"name": layer.name}})  # fmt: skip
    entries = entries_of(rows_of, version)
    features = _features(entries, live, shape)
    model = assemble(WHO, fill(entries, features, _live_reader(live)), len(shape or (0, 0, 0)))
    model.conversion = NOT_ASKED
    if check:
        fixed = [n if isinstance(n, int) else None for n in (shape or [])[:2]]
        x = random_batch(
            model, *(n or m for n, m in zip([*fixed, None, None], (3, 5), strict=False))
        )
        _compare(source.name, source, live.values(), x, answer(model, x))
        model.conversion = Conversion(
            (f"Keras' {source.name} and this model on {spell(x.shape)} random numbers",),
            masked_outputs(model),
        )
    return model


def _from_layer(source: Any, described: Mapping[str, Any], version: int, check: bool) -> Any:
    """Make one layer of a live one."""
    entries = entries_of([dict(described)], version)
    features = _features(entries, {source.name: source}, None)
    layer: Any
    [(layer, params)] = fill(entries, features, _live_reader({source.name: source}))
    layer.params = {name: np.ascontiguousarray(array) for name, array in params.items()}
    layer.built = True
    layer.conversion = NOT_ASKED
    if check:
        rng = np.random.default_rng(20140603)
        states = _states_of([source])
        batch = len(_numpy(states[0])) if states else 3
        if isinstance(layer, Embedding):
            x = rng.integers(0, layer.input_dim, (batch, 5))
        else:
            x = rng.standard_normal((batch, 5, features or 4)).astype(np.float32)
        y = layer.forward(x)[0]
        if isinstance(layer, GRU | Bidirectional):
            layer.reset_states()
        theirs = _run(source, [source], x)
        for ours, other in zip(_each(y), _each(theirs), strict=True):
            require_agreement(WHO, source.name, ours, _numpy(other))
        layer.conversion = Conversion(
            (f"Keras' {source.name} and this layer on {spell(x.shape)} random numbers",)
        )
    return layer


def _each(y: Any) -> list[Any]:
    return list(y) if isinstance(y, tuple | list) else [y]


def _features(entries: list[Entry], live: Mapping[str, Any], shape: Any) -> int | None:
    """Give the number of features that enter: as the input says, or as the first weights do."""
    if isinstance(entries[0].layer, Embedding):
        return None
    if shape is not None and shape[-1] is not None:
        return int(shape[-1])
    for entry in entries:
        weights = live[entry.source].weights
        if weights:
            return int(weights[0].shape[0])
    return None


def _live_reader(live: Mapping[str, Any]) -> Callable[..., dict[str, list[Array]]]:
    def read(entry: Entry, wanted: Mapping[str, list[tuple[int, ...]]]) -> dict[str, list[Array]]:
        weights = [
            w for w in live[entry.source].weights if "seed_generator" not in getattr(w, "path", "")
        ]
        require_shapes(
            entry.source, [s for shapes in wanted.values() for s in shapes],
            [tuple(w.shape) for w in weights],
        )  # fmt: skip
        arrays = iter([as_float_array(WHO, entry.source, _numpy(w)) for w in weights])
        return {place: [next(arrays) for _ in shapes] for place, shapes in wanted.items()}

    return read


def _states_of(layers: Any) -> list[Any]:
    """Give the variables in which stateful layers of Keras' carry their states."""
    found: dict[int, Any] = {}
    for layer in layers:
        halves = (getattr(layer, name, None) for name in ("forward_layer", "backward_layer"))
        for one in (layer, *halves):
            states = _each(getattr(one, "states", None) or [])
            found.update((id(state), state) for state in states if hasattr(state, "assign"))
    return list(found.values())


def _run(source: Any, layers: Any, x: Array) -> Any:
    """Call what is Keras', from zero states, and leave its states as they were."""
    states = _states_of(layers)
    before = [np.array(_numpy(state)) for state in states]
    try:
        for state, array in zip(states, before, strict=True):
            state.assign(np.zeros_like(array))
        return source(x, training=False)
    finally:
        for state, array in zip(states, before, strict=True):
            state.assign(array)


def _compare(name: str, source: Any, layers: Any, x: Array, down: Any, who: str = WHO) -> None:
    """Require one answer of a model of Keras' and of ours, where a mask says that it counts."""
    keep = slice(None) if down.mask is None else down.mask
    theirs = _numpy(_run(source, layers, x))
    if theirs.shape != down.y.shape:
        keep = slice(None)
    ours = down.y[keep] if theirs.shape == down.y.shape else down.y
    require_agreement(who, name, ours, theirs[keep])


def _numpy(value: Any) -> Array:
    """Give the numbers of a variable or tensor of any backend of Keras'."""
    held = getattr(value, "value", None)
    if held is not None and not callable(held):  # a variable of Keras 3
        value = held
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    return np.asarray(value.numpy() if hasattr(value, "numpy") else value)


# ----------------------------------------------------------------------------------- to Keras


def to_keras(model: Sequential, path: Any = None, *, check: bool = True) -> Any:
    """Make a live Keras 3 model, or write a `.keras` archive that Keras loads.

    Parameters
    ----------
    model : Sequential
        Built.
    path : path, optional
        Ending in `.keras` (settings and weights) or `.weights.h5` (weights alone, for a Keras
        model that has the same layers). Needs h5py, not Keras. Replaced whole or not at all.
    check : bool
        Run a live model and ours on random input before returning.

    Returns
    -------
    keras.Sequential, or None if a path was given

    Raises
    ------
    ConversionError
        Where Keras' GRU cannot do what ours does: zoneout, layer normalisation inside, a learned
        initial state.
    ImportError
        If h5py, or Keras for a live model, is not installed: pip install 'gru_np[keras]' keras.

    Notes
    -----
    With `reset_after=False` Keras has one bias: b_ih + b_hh, rounded once if both are non-zero.

    Examples
    --------
    >>> import os, tempfile, zipfile
    >>> import h5py
    >>> from gru_np import GRU, Dense, Sequential, interop
    >>> model = Sequential([GRU(4), Dense(2)], seed=0)
    >>> model.build((None, None, 3))
    >>> path = os.path.join(tempfile.mkdtemp(), "model.keras")
    >>> interop.to_keras(model, path)
    >>> zipfile.ZipFile(path).namelist()
    ['metadata.json', 'config.json', 'model.weights.h5']
    """
    who = "to_keras"
    if not model.built:
        raise ValueError(f"{who}: the model must be built first; fit it, load it or call build")
    require_masks_alike(who, model.layers)
    if path is None or not os.fsdecode(path).endswith(".weights.h5"):
        _require_no_states(who, model)
    described = describe(model)
    if path is not None:
        write_file(who, os.fsdecode(path), model, described)
        return None
    keras = require_package("keras", "keras", who)
    made = keras.Sequential.from_config(described["config"])
    made.build(model.input_shape)
    for layer, theirs in zip(model.layers, made.layers, strict=True):
        arrays = [a for arrays in to_places(layer, parameters_of(layer)).values() for a in arrays]
        for variable, array in zip(theirs.weights[: len(arrays)], arrays, strict=True):
            variable.assign(array)
    if check:
        x = random_batch(model)
        _compare(model.name, made, made.layers, x, answer(model, x), who)
    return made


def _require_no_states(who: str, model: Sequential) -> None:
    """Refuse layers that carry states: Keras wants to know the batch size for that."""
    for layer in model.layers:
        if isinstance(layer, GRU | Bidirectional) and any(g.stateful for _, g in directions(layer)):
            raise ConversionError(
                f"{who}: {layer.name} has stateful=True, for which Keras needs a fixed batch size; "
                "set stateful to False on the layer, or write .weights.h5 alone"
            )
