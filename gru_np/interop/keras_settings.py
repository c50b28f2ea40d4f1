"""What Keras writes about a model: read strictly, of Keras 2 and 3, and written as of Keras 3.

Every setting that is met is known here: it is taken over, or it plays no part in what a trained
model computes, or it must have the one value that changes nothing. Anything else is refused by
name, for a setting that is dropped is an answer that is wrong.

The two differ: `hard_sigmoid` is clip(0.2 a + 0.5) in Keras 2 and relu6(a + 3) / 6 in Keras 3 and
here; Keras 2 has `time_major`; an Input's shape is `batch_input_shape` there, `batch_shape` in 3.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from gru_np.interop.common import ConversionError, require_expressible, set_dense_activation
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

WHO = "from_keras"
VERSIONS = (2, 3)

# Settings of a GRU that ours has by the same name.
GRU_SETTINGS = (
    "units", "activation", "recurrent_activation", "use_bias", "dropout", "recurrent_dropout",
    "return_sequences", "return_state", "go_backwards", "stateful", "unroll", "reset_after",
)  # fmt: skip
_POLICY_DTYPES = ("float32", "float64", "int32", "int64")

# Settings that play no part in what a trained model computes: how numbers were drawn, what was
# added to the loss, in which order Keras 2 multiplies, how long it was told the input would be.
_HARMLESS = re.compile(
    r"name|trainable|dtype|seed|implementation|input_length|batch_input_shape|build_config|"
    r"shared_object_id|\w+_(initializer|regularizer|constraint)"
)
_ONLY: dict[str, Any] = {  # settings that must have one value, if they are there
    "time_major": False, "sparse": False, "ragged": False, "quantization_config": None,
    "rms_scaling": False, "data_format": "channels_last", "keepdims": False,
}  # fmt: skip
_YES_OR_NO = {
    "trainable", "use_bias", "return_sequences", "return_state", "go_backwards", "stateful",
    "unroll", "reset_after", "zero_output_for_mask", "mask_zero", "center", "scale",
}  # fmt: skip
_OF_RNN = ("return_sequences", "return_state", "go_backwards", "stateful", "unroll",
           "zero_output_for_mask", "time_major")  # fmt: skip
_OF_CELL = ("units", "activation", "recurrent_activation", "use_bias", "dropout",
            "recurrent_dropout", "reset_after")  # fmt: skip
# The settings of each class beside the harmless ones.
_SETTINGS: dict[str, tuple[str, ...]] = {
    "InputLayer": ("batch_shape", "sparse", "ragged", "optional"),
    "GRU": (*_OF_CELL, *_OF_RNN),
    "GRUCell": _OF_CELL,
    "RNN": ("cell", *_OF_RNN),
    "Bidirectional": ("layer", "backward_layer", "merge_mode"),
    "TimeDistributed": ("layer",),
    "Embedding": ("input_dim", "output_dim", "mask_zero", "quantization_config"),
    "Dense": ("units", "activation", "use_bias", "quantization_config"),
    "LayerNormalization": ("axis", "epsilon", "center", "scale", "rms_scaling"),
    "Dropout": ("rate", "noise_shape"),
    "SpatialDropout1D": ("rate", "noise_shape"),
    "Masking": ("mask_value",),
    "GlobalMaxPooling1D": ("data_format", "keepdims"),
    "GlobalAveragePooling1D": ("data_format", "keepdims"),
    "Activation": ("activation",),
    "Sequential": ("layers", "build_input_shape"),
    "Functional": ("layers", "input_layers", "output_layers"),
}
_OF_ENTRY = {"module", "class_name", "config", "registered_name", "build_config", "compile_config",
             "name", "inbound_nodes", "shared_object_id"}  # fmt: skip
_MASK_MAKERS = ("NotEqual", "Any")  # what Keras 3 writes for the mask of an Embedding or a Masking


class Entry(NamedTuple):
    """One layer of ours, and where Keras keeps its arrays."""

    layer: Layer
    source: str  # the layer's name in Keras
    place: str  # "layers/gru_1"
    wrapped: bool = False  # inside a TimeDistributed
    zeroes: bool = False  # its output is zero where a mask says that a step does not count


def major(version: Any, where: str) -> int:
    """Give 2 or 3 from the text of a version of Keras', or refuse."""
    first = str(version).split(".")[0]
    if not first.isdecimal() or int(first) not in VERSIONS:
        raise ConversionError(
            f"{WHO}: {where} must be of Keras 2 or Keras 3, got version {version!r}"
        )
    return int(first)


def read_class(entry: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Give class and settings of what Keras describes, if the class is Keras' own."""
    kind, config = str(entry["class_name"]), entry["config"]
    unknown = entry.keys() - _OF_ENTRY
    if unknown:
        raise ConversionError(f"{WHO}: {kind} is described with {_some(unknown)}, not known here")
    module = entry.get("module")
    home = "keras" if module is None else str(module).split(".")[0]
    registered = entry.get("registered_name") or kind
    if home not in ("keras", "tf_keras") or registered != kind:
        raise ConversionError(
            f"{WHO}: {config.get('name') or kind} is a {kind} of {module or registered}, not of "
            "Keras' own, and its call may do anything; code in it is never run"
        )
    return kind, config


def require_settings(kind: str, config: Mapping[str, Any], name: str) -> None:
    """Refuse a setting that is not known, and one whose value would be lost."""
    for key, value in config.items():
        if key in _ONLY and key in _SETTINGS[kind]:
            if value != _ONLY[key]:
                raise ConversionError(
                    f"{WHO}: {name} has {key}={value!r}; gru_np computes with "
                    f"{key}={_ONLY[key]!r} only"
                )
        elif key in _YES_OR_NO and value not in (True, False):
            raise ConversionError(f"{WHO}: {name} must have {key} true or false, got {value!r}")
        elif key not in _SETTINGS[kind] and not _HARMLESS.fullmatch(str(key)):
            raise ConversionError(
                f"{WHO}: {name} has the setting {key}={value!r}, which is not known here and "
                "would be lost"
            )
    policy = config.get("dtype")
    if isinstance(policy, Mapping):
        policy = policy.get("config", {}).get("name")
    if policy is not None and policy not in _POLICY_DTYPES:
        raise ConversionError(
            f"{WHO}: {name} computes in {policy}, gru_np in float32 or float64, and the answers "
            "would differ"
        )


def _some(names: Any) -> str:
    return ", ".join(sorted(map(str, names))[:5])


# ---------------------------------------------------------------------------- layers in a row


def chain(model: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[Any] | None]:
    """Give the layers of a Sequential, or of a Functional model that is a row; and what enters.

    What enters is the shape with the batch axis first, None where it is free or nothing says.
    """
    class_name = model["class_name"]
    if class_name not in ("Sequential", "Functional", "Model"):
        raise ConversionError(
            f"{WHO}: a model must be Sequential or Functional, got {class_name}, whose call "
            "may do anything"
        )
    _, config = read_class(model)
    kind = "Sequential" if class_name == "Sequential" else "Functional"
    require_settings(kind, config, str(config.get("name") or kind))
    described = config["layers"]
    inputs = [read_class(entry)[1] for entry in described if entry["class_name"] == "InputLayer"]
    if len(inputs) > 1:
        raise ConversionError(f"{WHO}: {inputs[1]['name']} is a second input; gru_np takes one")
    for one in inputs:
        require_settings("InputLayer", one, str(one.get("name")))
    entries = [entry for entry in described if entry["class_name"] != "InputLayer"]
    first = inputs[0] if inputs else entries[0]["config"] if entries else {}
    shape = first.get("batch_shape") or first.get("batch_input_shape")
    if kind == "Sequential":
        return entries, shape or config.get("build_input_shape")
    before, row = inputs[0]["name"], []
    masks: set[str] = set()
    for entry in entries:
        name, nodes = entry["name"], entry["inbound_nodes"]
        if entry["class_name"] in _MASK_MAKERS:
            masks.add(name)
            continue
        sources = [source for source in _sources(name, nodes) if source[0] not in masks]
        if len(nodes) != 1 or sources != [[before, 0, 0]]:
            raise ConversionError(
                f"{WHO}: {name} does not take the output of {before} and that alone; gru_np "
                "models are layers in a row"
            )
        row.append(entry)
        before = name
    outputs = config["output_layers"]
    if outputs not in ([[before, 0, 0]], [before, 0, 0]):
        raise ConversionError(
            f"{WHO}: the model gives {outputs}, gru_np the output of the last layer, {before}, "
            "alone"
        )
    return row, shape


def _sources(name: str, nodes: Any) -> Iterator[list[Any]]:
    """Give what a layer of a Functional model is fed; refuse what else its call was given."""
    for node in nodes:
        if isinstance(node, Mapping):  # Keras 3
            given = node.get("kwargs", {})
            yield from (tensor["config"]["keras_history"] for tensor in _tensors(node))
        else:  # Keras 2: [[layer, node, tensor, kwargs], ...]
            given = {key: value for one in node for key, value in one[3].items()}
            yield from (list(one[:3]) for one in node)
        for key, value in given.items():
            if value not in (None, False) and not (key == "mask" and any(_tensors([value]))):
                raise ConversionError(f"{WHO}: {name} is called with {key}={value!r}")


def _tensors(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping) and value.get("class_name") == "__keras_tensor__":
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(item)


def entries_of(described: list[dict[str, Any]], version: int) -> list[Entry]:
    """Make the layers that Keras describes, each with the place of its arrays in a file."""
    entries: list[Entry] = []
    counts: dict[str, int] = {}
    for one in described:
        kind, config = read_class(one)
        base = _snake(kind)
        number = counts.get(base, 0)
        counts[base] = number + 1
        place = f"layers/{base}_{number}" if number else f"layers/{base}"
        name = str(config.get("name") or kind)
        wrapped = kind == "TimeDistributed"
        if wrapped:
            require_settings(kind, config, name)
            kind, config = read_class(config["layer"])
            if kind != "Dense":
                raise ConversionError(
                    f"{WHO}: {name} is TimeDistributed around {kind}; only Dense, which treats "
                    "every step by itself, needs no wrapper here"
                )
        if kind not in _SETTINGS or kind in ("InputLayer", "Sequential", "Functional", "GRUCell"):
            advice = "; code in it is never run" if kind == "Lambda" else ""
            raise ConversionError(f"{WHO}: gru_np has no layer for {name} ({kind}){advice}")
        require_settings(kind, config, name)
        if kind == "Activation":
            known = [*ELEMENTWISE, "softmax"]
            activation = _activation(name, config["activation"], known, version)
            rows: list[Any] = [(entry.layer, {}) for entry in entries]
            set_dense_activation(WHO, rows, activation, name)
            if entries:
                entries[-1] = entries[-1]._replace(layer=rows[-1][0])
            continue
        rank = len((one.get("build_config") or {}).get("input_shape") or (None, None, None))
        layer = _layer(kind, config, name, rank, version)
        entries.append(Entry(layer, name, place, wrapped, bool(config.get("zero_output_for_mask"))))
    if not entries:
        raise ConversionError(f"{WHO}: expected layers, found none")
    return entries


def _layer(kind: str, config: Mapping[str, Any], name: str, rank: int, version: int) -> Layer:
    """Make our layer from Keras' settings of one; the table of classes is this function."""
    common: dict[str, Any] = {"name": name, "trainable": bool(config.get("trainable", True))}
    if kind in ("GRU", "RNN"):
        return _gru(kind, config, common, version)
    if kind == "Bidirectional":
        halves = [config["layer"], config.get("backward_layer")]
        if halves[1] is None:
            turned = {"go_backwards": not halves[0]["config"].get("go_backwards", False)}
            halves[1] = {**halves[0], "config": {**halves[0]["config"], **turned}}
        grus = []
        for half in halves:
            inner, settings = read_class(half)
            if inner != "GRU":
                raise ConversionError(
                    f"{WHO}: {name} is Bidirectional around {inner}; gru_np knows GRU there"
                )
            require_settings(inner, settings, name)
            grus.append(_gru(inner, settings, {"name": name}, version))
        return Bidirectional(grus[0], config.get("merge_mode", "concat"), grus[1], **common)
    if kind == "Embedding":
        V, E = config["input_dim"], config["output_dim"]
        return Embedding(V, E, mask_zero=bool(config.get("mask_zero", False)), **common)
    if kind == "Dense":
        known = [*ELEMENTWISE, "softmax"]
        activation = _activation(name, config.get("activation"), known, version)
        return Dense(config["units"], activation, bool(config.get("use_bias", True)), **common)
    if kind == "LayerNormalization":
        axis = config.get("axis", -1)
        if axis not in (-1, [-1], rank - 1, [rank - 1]):
            raise ConversionError(f"{WHO}: {name} normalises over axis {axis}, ours over the last")
        center, scale = bool(config.get("center", True)), bool(config.get("scale", True))
        return LayerNormalization(config.get("epsilon", 1e-3), center, scale, **common)
    if kind == "Dropout":
        shape = config.get("noise_shape")
        return Dropout(config["rate"], None if shape is None else tuple(shape), **common)
    if kind == "SpatialDropout1D":
        return Dropout(config["rate"], (None, 1, None), **common)
    if kind == "Masking":
        return Masking(config.get("mask_value", 0.0), **common)
    pooling = GlobalMaxPooling1D if kind == "GlobalMaxPooling1D" else GlobalAveragePooling1D
    return pooling(**common)


def _gru(kind: str, config: Mapping[str, Any], common: dict[str, Any], version: int) -> GRU:
    name = common["name"]
    if kind == "RNN":  # a GRUCell in a loop is a GRU
        cell = config["cell"]
        inner = "several cells" if isinstance(cell, list) else read_class(cell)[0]
        if inner != "GRUCell":
            raise ConversionError(
                f"{WHO}: {name} runs {inner}; gru_np knows a single GRUCell there"
            )
        require_settings(inner, cell["config"], name)
        config = {**cell["config"], **{k: v for k, v in config.items() if k != "cell"}}
    settings = {key: config[key] for key in GRU_SETTINGS if key in config}
    for key in ("activation", "recurrent_activation"):
        settings[key] = _activation(name, settings.get(key), list(ACTIVATIONS), version)
    return GRU(**settings, **common)


def _activation(name: str, value: Any, known: list[str], version: int) -> str:
    if isinstance(value, Mapping):  # a function or a layer of the user's
        raise ConversionError(
            f"{WHO}: {name} has activation {value.get('class_name')!r}, described and not named; "
            f"gru_np knows {', '.join(known)} there"
        )
    value = "linear" if value is None else value
    if not isinstance(value, str) or value not in known:
        raise ConversionError(
            f"{WHO}: {name} has activation {value!r}; gru_np knows {', '.join(known)} there"
        )
    if value == "hard_sigmoid" and version == 2:
        raise ConversionError(
            f"{WHO}: {name} has activation 'hard_sigmoid' of Keras 2, clip(0.2 a + 0.5); that of "
            "Keras 3 and of gru_np is relu6(a + 3) / 6, and no layer here has the other"
        )
    return value


def _snake(class_name: str) -> str:
    """Give the name Keras files a layer of this class under."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", class_name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


# ------------------------------------------------------------------ from our layers to settings


def describe(model: Sequential) -> dict[str, Any]:
    """Describe the model as the config.json of Keras 3 does."""
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
        return _keras("GRU", {key: getattr(layer, key) for key in GRU_SETTINGS} | common)
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
