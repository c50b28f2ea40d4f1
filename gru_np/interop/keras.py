"""To and from Keras 3: live models and layers, `.keras` archives, `.weights.h5` files.

An archive is read as what it is, a zip with a JSON and an HDF5 file: class names come from a closed
table, nothing is imported by name or run, links are not followed, and the shape of every dataset is
compared with what the settings call for before it is read. Files need h5py alone; Keras itself is
needed only for live models.

    layers/<class>[_<n>]/vars/<i>                       Embedding, Dense, LayerNormalization
    layers/gru/cell/vars/<i>                            kernel, recurrent_kernel, bias
    layers/bidirectional/forward_layer/cell/vars/<i>    and backward_layer

Notation: F features, U units, V vocabulary, E embedding, H hidden.
"""

import io
import json
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from gru_np._aliases import Array, Shape
from gru_np._checks import spell
from gru_np._replace import replace_file
from gru_np.interop import layouts
from gru_np.interop.common import (
    ConversionError,
    as_float_array,
    assemble,
    directions,
    parameters_of,
    random_batch,
    require_agreement,
    require_expressible,
    require_package,
    set_dense_activation,
)
from gru_np.layers import (
    GRU,
    Bidirectional,
    Dense,
    Dropout,
    Embedding,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    Layer,
    LayerNormalization,
    Masking,
)
from gru_np.layers.dense import ELEMENTWISE
from gru_np.model import Sequential
from gru_np.recurrence import ACTIVATIONS

_WHO = "from_keras"
_MAX_CONFIG = 2**24  # bytes of JSON; a model of a hundred layers has a few 100,000
# Settings of a GRU that ours has by the same name.
_GRU_SETTINGS = (
    "units", "activation", "recurrent_activation", "use_bias", "dropout", "recurrent_dropout",
    "return_sequences", "return_state", "go_backwards", "stateful", "unroll", "reset_after",
)  # fmt: skip
_POLICY_DTYPES = ("float32", "float64", "int32", "int64")


class Entry(NamedTuple):
    """One layer of ours, and where Keras keeps its arrays."""

    layer: Layer
    source: str  # the layer's name in Keras
    place: str  # "layers/gru_1"
    wrapped: bool = False  # inside a TimeDistributed


# ------------------------------------------------------------------------------ arrays, both ways
# A layer of Keras' keeps arrays in places below it: {place: [array, ...]}, "" being its own.


def _shapes(layer: Layer, features: int | None) -> dict[str, list[tuple[int, ...]]]:
    """Give the shapes Keras has for a layer that is fed this many features."""
    shapes = [p.shape for p in layer.parameters((None, None, features)).values()]
    if isinstance(layer, GRU | Bidirectional):
        places: dict[str, list[tuple[int, ...]]] = {}
        for prefix, gru in directions(layer):
            rows = 3 * gru.units
            bias = [(2, rows) if gru.reset_after else (rows,)] if gru.use_bias else []
            place = f"{prefix[:-1]}_layer/cell" if prefix else "cell"
            places[place] = [(features or 0, rows), (gru.units, rows), *bias]
        return places
    if isinstance(layer, Dense):
        shapes = [shape[::-1] for shape in shapes]
    return {"": shapes} if shapes else {}


def _to_places(layer: Layer, params: Mapping[str, Array]) -> dict[str, list[Array]]:
    """From our parameters to Keras' arrays."""
    if isinstance(layer, GRU | Bidirectional):
        places = {}
        for prefix, gru in directions(layer):
            own = {k.removeprefix(prefix): a for k, a in params.items() if k.startswith(prefix)}
            place = f"{prefix[:-1]}_layer/cell" if prefix else "cell"
            places[place] = layouts.to_keras_arrays(own, gru.reset_after)
        return places
    if isinstance(layer, Dense):
        return {"": [np.ascontiguousarray(a.T) for a in params.values()]}
    return {"": list(params.values())} if params else {}


def _from_places(layer: Layer, places: Mapping[str, list[Array]]) -> dict[str, Array]:
    """From Keras' arrays to our parameters."""
    if isinstance(layer, GRU | Bidirectional):
        return {
            prefix + name: array
            for (prefix, gru), arrays in zip(directions(layer), places.values(), strict=True)
            for name, array in layouts.from_keras_arrays(arrays, gru.reset_after).items()
        }
    arrays = places.get("", [])
    if isinstance(layer, Dense):
        return dict(zip(("W", "b"), [a.T for a in arrays], strict=False))
    if isinstance(layer, LayerNormalization):
        names = [n for n, wanted in (("gamma", layer.scale), ("beta", layer.center)) if wanted]
        return dict(zip(names, arrays, strict=True))
    return dict(zip(("W",), arrays, strict=False))


# --------------------------------------------------------------------------------- from Keras


def from_keras(source: Any, *, into: Sequential | None = None, check: bool = True) -> Any:
    """Make a model from a Keras 3 model or layer, or from a file that Keras wrote.

    Parameters
    ----------
    source : keras.Model, keras.Layer or path
        A model whose layers stand in a row: Embedding, GRU (or RNN around a GRUCell),
        Bidirectional, Dense (or TimeDistributed around it), LayerNormalization, Dropout,
        Masking, global pooling over time, Activation. A path ends in `.keras` or `.weights.h5`.
    into : Sequential, optional
        For `.weights.h5`, which holds no settings: the built model that takes the weights.
    check : bool
        Run a live model and ours on random input before returning.

    Returns
    -------
    Sequential, or a layer for a layer
        Initializers, regularizers and constraints are left behind: they do not change what a
        trained model computes.

    Raises
    ------
    ConversionError
        If it cannot be exact, naming the layer or setting; or if a file is damaged or hostile.
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
        return _from_file(os.fsdecode(source), into)
    if not (hasattr(source, "get_config") and hasattr(source, "weights")):
        raise TypeError(
            f"{_WHO}: source must be a Keras model, layer or path, got {type(source).__name__}"
        )
    if not source.built:
        raise ValueError(f"{_WHO}: {source.name} must be built first; call it once")
    if hasattr(source, "layers"):
        live = {layer.name: layer for layer in source.layers}
        described, features = _chain(type(source).__name__, source.get_config())
    else:
        live, features = {source.name: source}, None
        described = [{"class_name": type(source).__name__, "config": source.get_config()}]
    entries = _entries(described)
    if features is None:
        first = live[entries[0].source].weights
        features = None if isinstance(entries[0].layer, Embedding) or not first else (
            int(first[0].shape[0])
        )  # fmt: skip

    def read(entry: Entry, wanted: Mapping[str, list[tuple[int, ...]]]) -> dict[str, list[Array]]:
        weights = [w for w in live[entry.source].weights if "seed_generator" not in w.path]
        _require_shapes(
            entry.source, [s for shapes in wanted.values() for s in shapes],
            [tuple(w.shape) for w in weights],
        )  # fmt: skip
        arrays = iter([as_float_array(_WHO, entry.source, _numpy(w)) for w in weights])
        return {place: [next(arrays) for _ in shapes] for place, shapes in wanted.items()}

    rows = _fill(entries, features, read)
    if not hasattr(source, "layers"):
        layer, params = rows[0]
        layer.params = {name: np.ascontiguousarray(array) for name, array in params.items()}
        layer.built = True
        return layer
    model = assemble(_WHO, rows)
    if check:
        x = random_batch(model)
        down = model._forward(x)
        keep = slice(None) if down.mask is None else down.mask
        theirs = _numpy(source(x, training=False))
        if theirs.shape == down.y.shape:
            theirs = theirs[keep]
        require_agreement(_WHO, source.name, down.y[keep], theirs)
    return model


def _numpy(value: Any) -> Array:
    value = getattr(value, "value", value)
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    return np.asarray(value)


def _fill(
    entries: list[Entry], features: int | None, read: Callable[..., dict[str, list[Array]]]
) -> list[tuple[Layer, dict[str, Array]]]:
    """Read the parameters of each layer, once it is known which shapes they must have."""
    rows = []
    _require_masks_alike(_WHO, [entry.layer for entry in entries])
    shape: Shape = (None, None, features)
    for entry in entries:
        if isinstance(entry.layer, Embedding):
            shape = (None, None)
        try:
            wanted = _shapes(entry.layer, shape[-1])
        except ValueError as error:
            raise ConversionError(f"{_WHO}: {error}") from error
        rows.append((entry.layer, _from_places(entry.layer, read(entry, wanted))))
        shape = entry.layer.output_shape(shape)
    return rows


def _require_masks_alike(who: str, layers: list[Layer]) -> None:
    """Refuse the two places where a mask means another thing there than here.

    Behind a GRU which turns the sequence round, on its way to another, Keras hands the mask on as
    it is, and ours turns it round with the sequence. And Keras' largest value over time is that of
    padding too.
    """
    turned: Layer | None = None
    masked = False
    for layer in layers:
        masked |= isinstance(layer, Masking) or (isinstance(layer, Embedding) and layer.mask_zero)
        if masked and isinstance(layer, GlobalMaxPooling1D):
            raise ConversionError(
                f"{who}: {layer.name} (GlobalMaxPooling1D) pools masked steps in Keras, not here; "
                "GlobalAveragePooling1D leaves them out in both"
            )
        recurrent = isinstance(layer, GRU | Bidirectional)
        if masked and recurrent and turned is not None:
            raise ConversionError(
                f"{who}: {turned.name} has go_backwards=True, and the mask that goes on from it to "
                f"{layer.name} is in the order of the input in Keras, in that of the output here"
            )
        if isinstance(layer, GRU) and layer.go_backwards and layer.return_sequences:
            turned = layer
        pooled = isinstance(layer, GlobalAveragePooling1D | GlobalMaxPooling1D)
        if pooled or (recurrent and not directions(layer)[0][1].return_sequences):
            masked = False


def _require_shapes(who: str, wanted: list[Any], found: list[Any]) -> None:
    if wanted != found:
        raise ConversionError(
            f"{_WHO}: {who}: the settings call for arrays {', '.join(map(spell, wanted)) or 'none'}"
            f"; found {', '.join(map(spell, found)) or 'none'}"
        )


def _chain(class_name: str, config: Mapping[str, Any]) -> tuple[list[dict[str, Any]], int | None]:
    """Give the layers of a Sequential, or of a Functional model that is a row; and what enters."""
    if class_name not in ("Sequential", "Functional", "Model"):
        raise ConversionError(
            f"{_WHO}: a model must be Sequential or Functional, got {class_name}, whose call "
            "may do anything"
        )
    inputs = [e["config"] for e in config["layers"] if e["class_name"] == "InputLayer"]
    if len(inputs) > 1:
        raise ConversionError(f"{_WHO}: {inputs[1]['name']} is a second input; gru_np takes one")
    features = None
    if inputs and len(inputs[0].get("batch_shape") or ()) == 3:
        features = inputs[0]["batch_shape"][2]
    entries = [e for e in config["layers"] if e["class_name"] != "InputLayer"]
    if class_name == "Sequential":
        return entries, features
    row: list[dict[str, Any]] = []
    masks = set()
    before = inputs[0]["name"]
    for entry in entries:
        name, nodes = entry["name"], entry["inbound_nodes"]
        sources = [tensor["config"]["keras_history"] for tensor in _tensors(nodes)]
        if entry["class_name"] == "NotEqual":  # the mask of an Embedding with mask_zero
            masks.add(name)
            continue
        sources = [source for source in sources if source[0] not in masks]
        if len(nodes) != 1 or sources != [[before, 0, 0]]:
            raise ConversionError(
                f"{_WHO}: {name} does not take the output of {before} and that alone; gru_np "
                "models are layers in a row"
            )
        row.append(entry)
        before = name
    return row, features


def _tensors(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping) and value.get("class_name") == "__keras_tensor__":
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(item)


def _entries(described: list[dict[str, Any]]) -> list[Entry]:
    """Make the layers that Keras describes, each with the place of its arrays in a file."""
    entries: list[Entry] = []
    counts: dict[str, int] = {}
    for one in described:
        kind, config = one["class_name"], one["config"]
        base = _snake(kind)
        number = counts.get(base, 0)
        counts[base] = number + 1
        place = f"layers/{base}_{number}" if number else f"layers/{base}"
        name = str(config.get("name") or kind)
        wrapped = kind == "TimeDistributed"
        if wrapped:
            kind, config = config["layer"]["class_name"], config["layer"]["config"]
            if kind != "Dense":
                raise ConversionError(
                    f"{_WHO}: {name} is TimeDistributed around {kind}; only Dense, which treats "
                    "every step by itself, needs no wrapper here"
                )
        _require_float(config, name)
        if kind == "Activation":
            activation = _activation(name, config["activation"], [*ELEMENTWISE, "softmax"])
            rows: list[Any] = [(entry.layer, {}) for entry in entries]
            set_dense_activation(_WHO, rows, activation, name)
            if entries:
                entries[-1] = entries[-1]._replace(layer=rows[-1][0])
            continue
        entries.append(Entry(_layer(kind, config, name), name, place, wrapped))
    if not entries:
        raise ConversionError(f"{_WHO}: expected layers, found none")
    return entries


def _layer(kind: str, config: Mapping[str, Any], name: str) -> Layer:
    """Make our layer from Keras' settings of one; the table of classes is this function."""
    common: dict[str, Any] = {"name": name, "trainable": bool(config.get("trainable", True))}
    if kind in ("GRU", "RNN", "GRUCell"):
        return _gru(kind, config, common)
    if kind == "Bidirectional":
        halves = [config["layer"], config.get("backward_layer")]
        if halves[1] is None:
            turned = {"go_backwards": not halves[0]["config"].get("go_backwards", False)}
            halves[1] = {**halves[0], "config": {**halves[0]["config"], **turned}}
        for half in halves:
            if half["class_name"] != "GRU":
                raise ConversionError(
                    f"{_WHO}: {name} is Bidirectional around {half['class_name']}; gru_np knows "
                    "GRU there"
                )
        forward, backward = (_gru("GRU", h["config"], {"name": name}) for h in halves)
        return Bidirectional(forward, config.get("merge_mode", "concat"), backward, **common)
    if kind == "Embedding":
        V, E = config["input_dim"], config["output_dim"]
        return Embedding(V, E, mask_zero=bool(config.get("mask_zero", False)), **common)
    if kind == "Dense":
        activation = _activation(name, config.get("activation"), [*ELEMENTWISE, "softmax"])
        return Dense(config["units"], activation, bool(config.get("use_bias", True)), **common)
    if kind == "LayerNormalization":
        axis = config.get("axis", -1)
        if axis not in (-1, [-1], 2, [2]):
            raise ConversionError(f"{_WHO}: {name} normalises over axis {axis}, ours over the last")
        if config.get("rms_scaling"):
            raise ConversionError(f"{_WHO}: {name} has rms_scaling, which subtracts no mean")
        center, scale = bool(config.get("center", True)), bool(config.get("scale", True))
        return LayerNormalization(config.get("epsilon", 1e-3), center, scale, **common)
    if kind == "Dropout":
        shape = config.get("noise_shape")
        return Dropout(config["rate"], None if shape is None else tuple(shape), **common)
    if kind == "SpatialDropout1D":
        return Dropout(config["rate"], (None, 1, None), **common)
    if kind == "Masking":
        return Masking(config.get("mask_value", 0.0), **common)
    if kind in ("GlobalMaxPooling1D", "GlobalAveragePooling1D"):
        if config.get("data_format", "channels_last") != "channels_last" or config.get("keepdims"):
            raise ConversionError(
                f"{_WHO}: {name} must have data_format='channels_last' and keepdims=False"
            )
        pooling = GlobalMaxPooling1D if kind == "GlobalMaxPooling1D" else GlobalAveragePooling1D
        return pooling(**common)
    advice = "; code in it is never run" if kind == "Lambda" else ""
    raise ConversionError(f"{_WHO}: gru_np has no layer for {name} ({kind}){advice}")


def _gru(kind: str, config: Mapping[str, Any], common: dict[str, Any]) -> GRU:
    name = common["name"]
    if kind == "RNN":  # a GRUCell in a loop is a GRU
        cell = config["cell"]
        inner = "several cells" if isinstance(cell, list) else cell["class_name"]
        if inner != "GRUCell":
            raise ConversionError(
                f"{_WHO}: {name} runs {inner}; gru_np knows a single GRUCell there"
            )
        config = {**cell["config"], **{k: v for k, v in config.items() if k != "cell"}}
    settings = {key: config[key] for key in _GRU_SETTINGS if key in config}
    for key in ("activation", "recurrent_activation"):
        settings[key] = _activation(name, settings.get(key), list(ACTIVATIONS))
    _require_float(config, name)
    return GRU(**settings, **common)


def _activation(name: str, value: Any, known: list[str]) -> str:
    if isinstance(value, Mapping):
        value = value.get("class_name")
    value = "linear" if value is None else value
    if not isinstance(value, str) or value not in known:
        raise ConversionError(
            f"{_WHO}: {name} has activation {value!r}; gru_np knows {', '.join(known)} there"
        )
    return value


def _require_float(config: Mapping[str, Any], name: str) -> None:
    policy = config.get("dtype")
    if isinstance(policy, Mapping):
        policy = policy.get("config", {}).get("name")
    if policy is not None and policy not in _POLICY_DTYPES:
        raise ConversionError(
            f"{_WHO}: {name} computes in {policy}, gru_np in float32 or float64, and the answers "
            "would differ"
        )
    if config.get("quantization_config"):
        raise ConversionError(f"{_WHO}: {name} is quantised; gru_np computes in floats")


# ------------------------------------------------------------------------------- reading files


def _from_file(path: str, into: Sequential | None) -> Sequential:
    if path.endswith(".keras"):
        if into is not None:
            raise ValueError(f"{_WHO}: into is for .weights.h5; a .keras archive has its settings")
        return _guarded(path, _from_archive)
    if not path.endswith(".weights.h5"):
        raise ConversionError(
            f"{_WHO}: {path} must end in .keras or .weights.h5; Keras 3 writes both, with "
            "model.save and model.save_weights"
        )
    if into is None:
        raise ConversionError(
            f"{_WHO}: {path} holds weights and no settings (activations, masks, the order of the "
            "layers); use the .keras archive, or pass into=the built model that takes them"
        )
    if not into.built:
        raise ValueError(f"{_WHO}: the model given as into must be built first")

    def take(path: str) -> Sequential:
        with require_package("h5py", "keras", _WHO).File(path, "r") as file:
            entries = _entries(_describe(into)["config"]["layers"][1:])
            assert into.input_shape is not None
            rows = _fill(entries, into.input_shape[-1], _reader(path, file))
        into.set_weights([array for _, params in rows for array in params.values()])
        return into

    return _guarded(path, take)


def _guarded(path: str, read: Callable[[str], Sequential]) -> Sequential:
    """Let every fault of a file end in one sentence that names it."""
    require_package("h5py", "keras", _WHO)
    try:
        return read(path)
    except ConversionError as error:
        raise ConversionError(f"{error} ({path})") from error
    except (
        OSError, LookupError, TypeError, AttributeError, ValueError, ArithmeticError,
        RuntimeError, zipfile.BadZipFile, AssertionError,
    ) as error:  # fmt: skip
        raise ConversionError(f"{_WHO}: {path} cannot be read: {error!r}") from error


def _from_archive(path: str) -> Sequential:
    import h5py

    with zipfile.ZipFile(path) as archive:
        names = [info.filename for info in archive.infolist()]
        if len(set(names)) != len(names):
            raise ConversionError(f"{_WHO}: the archive holds two files of one name")
        size = archive.getinfo("config.json").file_size
        if size > _MAX_CONFIG:
            raise ConversionError(
                f"{_WHO}: config.json must have at most {_MAX_CONFIG} bytes, has {size}"
            )
        with archive.open("config.json") as stream:
            config = json.loads(stream.read(_MAX_CONFIG))
        described, features = _chain(config["class_name"], config["config"])
        entries = _entries(described)
        if archive.getinfo("model.weights.h5").compress_type != zipfile.ZIP_STORED:
            raise ConversionError(
                f"{_WHO}: model.weights.h5 must lie in the archive uncompressed, as Keras puts it"
            )
        # Stored, it is read in place: nothing is unpacked, to memory or to disk.
        with archive.open("model.weights.h5") as stream, h5py.File(stream, "r") as file:
            return assemble(_WHO, _fill(entries, features, _reader(path, file)))


def _reader(path: str, file: Any) -> Callable[..., dict[str, list[Array]]]:
    def read(entry: Entry, wanted: Mapping[str, list[tuple[int, ...]]]) -> dict[str, list[Array]]:
        arrays = {}
        for place, shapes in wanted.items():
            where = "/".join(
                p for p in (entry.place, "layer" if entry.wrapped else "", place, "vars") if p
            )
            group = _open(file, where, "Group")
            found = [_open(group, str(i), "Dataset") for i in range(len(group))]
            _require_shapes(entry.source, shapes, [d.shape for d in found])
            arrays[place] = [as_float_array(_WHO, entry.source, _read(d)) for d in found]
        return arrays

    return read


def _open(group: Any, path: str, kind: str) -> Any:
    """Go down the path by hard links alone: others can point into other files."""
    import h5py

    for name in path.split("/"):
        link = group.get(name, getlink=True) if isinstance(group, h5py.Group) else None
        if link is None:
            raise ConversionError(f"{_WHO}: expected {path} in the HDF5 file, found no {name}")
        if not isinstance(link, h5py.HardLink):
            raise ConversionError(
                f"{_WHO}: {path} in the HDF5 file is a {type(link).__name__}, which is not followed"
            )
        group = group[name]
    if type(group).__name__ != kind:
        raise ConversionError(f"{_WHO}: expected {path} to be a {kind}, found {group!r}")
    return group


def _read(dataset: Any) -> Array:
    """Read a dataset whose bytes lie in the file itself, as they are."""
    if dataset.external or dataset.is_virtual:
        raise ConversionError(f"{_WHO}: {dataset.name} keeps its data in another file")
    if dataset.id.get_create_plist().get_nfilters():
        raise ConversionError(f"{_WHO}: {dataset.name} is compressed, which Keras does not do")
    if dataset.dtype.kind != "f" or dataset.dtype.itemsize > 8:
        raise ConversionError(f"{_WHO}: {dataset.name} must hold floats, got {dataset.dtype}")
    if dataset.size and dataset.id.get_storage_size() < dataset.nbytes:
        raise ConversionError(f"{_WHO}: {dataset.name} is longer than what the file holds of it")
    return dataset[()]


def _snake(class_name: str) -> str:
    """Give the name Keras files a layer of this class under."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", class_name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


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
    _require_masks_alike(who, model.layers)
    described = _describe(model)
    if path is not None:
        _write(who, os.fsdecode(path), model, described)
        return None
    keras = require_package("keras", "keras", who)
    made = keras.Sequential.from_config(described["config"])
    made.build(model.input_shape)
    for layer, theirs in zip(model.layers, made.layers, strict=True):
        arrays = [a for arrays in _to_places(layer, parameters_of(layer)).values() for a in arrays]
        for variable, array in zip(theirs.weights[: len(arrays)], arrays, strict=True):
            variable.assign(array)
    if check:
        x = random_batch(model)
        down = model._forward(x)
        keep = slice(None) if down.mask is None else down.mask
        require_agreement(who, model.name, _numpy(made(x, training=False))[keep], down.y[keep])
    return made


def _describe(model: Sequential) -> dict[str, Any]:
    """Describe the model as Keras' config.json does."""
    assert model.input_shape is not None
    dtype = "int32" if isinstance(model.layers[0], Embedding) else model.dtype.name
    first = {"name": "input", "batch_shape": list(model.input_shape), "dtype": dtype}
    layers = [_keras("InputLayer", first)]
    layers += [_describe_layer(layer, model.dtype.name) for layer in model.layers]
    config = {"name": model.name, "trainable": True, "dtype": model.dtype.name, "layers": layers}
    return {
        "module": "keras",
        "class_name": "Sequential",
        "config": config,
        "registered_name": None,
        "build_config": {"input_shape": list(model.input_shape)},
    }


def _keras(kind: str, config: dict[str, Any]) -> dict[str, Any]:
    return {
        "module": "keras.layers",
        "class_name": kind,
        "config": config,
        "registered_name": None,
    }


def _describe_layer(layer: Layer, dtype: str) -> dict[str, Any]:
    common = {"name": layer.name, "trainable": layer.trainable, "dtype": dtype}
    if isinstance(layer, GRU):
        require_expressible("to_keras", "Keras", layer, layer.name)
        return _keras("GRU", {key: getattr(layer, key) for key in _GRU_SETTINGS} | common)
    if isinstance(layer, Bidirectional):
        halves = {
            key: _describe_layer(gru, dtype)
            for key, gru in (("layer", layer.layer), ("backward_layer", layer.backward_layer))
        }
        for direction, half in zip(("forward", "backward"), halves.values(), strict=True):
            half["config"]["name"] = f"{direction}_{layer.name}"
        return _keras("Bidirectional", {"merge_mode": layer.merge_mode} | halves | common)
    if isinstance(layer, Embedding):
        own: dict[str, Any] = {"input_dim": layer.input_dim, "output_dim": layer.output_dim}
        return _keras("Embedding", own | {"mask_zero": layer.mask_zero} | common)
    if isinstance(layer, Dense):
        own = {"units": layer.units, "activation": layer.activation or "linear"}
        return _keras("Dense", own | {"use_bias": layer.use_bias} | common)
    if isinstance(layer, LayerNormalization):
        own = {"epsilon": layer.epsilon, "center": layer.center, "scale": layer.scale}
        return _keras("LayerNormalization", own | {"axis": -1} | common)
    if isinstance(layer, Dropout):
        shape = layer.noise_shape
        own = {"rate": layer.rate, "noise_shape": None if shape is None else list(shape)}
        return _keras("Dropout", own | common)
    if isinstance(layer, Masking):
        return _keras("Masking", {"mask_value": layer.mask_value} | common)
    if isinstance(layer, GlobalMaxPooling1D | GlobalAveragePooling1D):
        return _keras(type(layer).__name__, {"data_format": "channels_last"} | common)
    raise ConversionError(
        f"to_keras: no layer of Keras' is known for {layer.name} ({type(layer).__name__})"
    )


def _write(who: str, path: str, model: Sequential, described: dict[str, Any]) -> None:
    if not path.endswith((".keras", ".weights.h5")):
        raise ValueError(f"{who}: path must end in .keras or .weights.h5, got {path}")
    h5py = require_package("h5py", "keras", who)
    weights = io.BytesIO()
    entries = _entries(described["config"]["layers"][1:])
    with h5py.File(weights, "w") as file:
        file.create_group("vars")
        for layer, entry in zip(model.layers, entries, strict=True):
            file.create_group(f"{entry.place}/vars")
            for place, arrays in _to_places(layer, parameters_of(layer)).items():
                group = file.require_group("/".join(p for p in (entry.place, place, "vars") if p))
                for i, array in enumerate(arrays):
                    group.create_dataset(str(i), data=array)
    if path.endswith(".weights.h5"):
        replace_file(path, [memoryview(weights.getvalue())])
        return
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        # A fixed date: equal models give equal bytes.
        for name, content in (
            ("metadata.json", json.dumps({"keras_version": "3.0.0", "date_saved": ""}).encode()),
            ("config.json", json.dumps(described).encode()),
            ("model.weights.h5", weights.getvalue()),
        ):
            file.writestr(zipfile.ZipInfo(name), content)
    replace_file(path, [memoryview(archive.getvalue())])
