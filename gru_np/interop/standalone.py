"""Take a model away: as one Python file that needs NumPy alone, or as a folder of two files."""

import base64
import importlib.resources
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gru_np import _beside, checkpoint
from gru_np._aliases import Array
from gru_np._checks import spell
from gru_np._files import read_input
from gru_np._replace import replace_file
from gru_np.interop.common import ConversionError, answer, parameters_of, random_batch
from gru_np.layers import GRU, Bidirectional, Dense, Dropout, Embedding, Layer, LayerNormalization
from gru_np.layers.base import is_just
from gru_np.model import Sequential

_LINE = 88  # base64 digits in a line of the file
_MAX_CONFIG = 2**26
# What stands in config.json beside the config of the model.
_BESIDE = ("model_type", "gru_np_version", "extras", "text")


def export_standalone(model: Sequential, path: Any) -> None:
    """Write a model as one readable Python file that needs only NumPy.

    Parameters
    ----------
    model : Sequential
        Built; of Embedding, GRU, Bidirectional, Dense, LayerNormalization, Dropout.
    path : path
        Ending in `.py`. Replaced whole or not at all.

    Raises
    ------
    ConversionError
        A layer has a setting the file would not carry.

    Notes
    -----
    The file has `predict(x)`, `step(x, state=None)`, `EXTRAS` (the model's, and what it has of
    "tokenizer", "labels" and "padding") and, run as a script, a test of itself against a stored
    example: exit status 0 if its predictions are the model's to 1e-6. Weights stand in it as
    base64 of little-endian floats.

    Examples
    --------
    >>> import os, subprocess, sys, tempfile
    >>> from gru_np import GRU, Dense, Sequential, interop
    >>> model = Sequential([GRU(4), Dense(2)], seed=0)
    >>> model.build((None, None, 3))
    >>> path = os.path.join(tempfile.mkdtemp(), "model.py")
    >>> interop.export_standalone(model, path)
    >>> subprocess.run([sys.executable, path], capture_output=True).returncode
    0
    """
    name = os.fsdecode(path)
    if not name.endswith(".py"):
        raise ValueError(f"export_standalone: path must end in .py, got {name}")
    if not model.built:
        raise ValueError("export_standalone: the model must be built first; fit it or call build")
    replace_file(name, [memoryview(_source(model).encode())])


def _source(model: Sequential) -> str:
    from gru_np import __version__

    template = importlib.resources.files(__package__).joinpath("standalone_template.py.txt")
    text = template.read_text(encoding="utf-8")
    layers = [layer for layer in model.layers if not is_just(layer, Dropout)]
    x = random_batch(model)
    first = "token ids (B, T)" if isinstance(layers[0], Embedding) else (
        f"numbers {spell(('B', 'T', x.shape[-1]))}"
    )  # fmt: skip
    # What a person chose as a name must not end the docstring or begin an escape.
    shown = re.sub(r"[^\w .,:()+-]", "_", model.name)
    kinds = ", ".join(type(layer).__name__ for layer in layers)
    title = f"The model {shown}: {kinds}.\n\nIts input is {first}."
    data = [
        f'DTYPE = "{model.dtype.name}"',
        f"EXTRAS = json.loads({json.dumps(json.dumps(_extras(model)))})",
        "LAYERS = [",
        *(f"    {_describe(layer)!r}," for layer in layers),
        "]",
        "WEIGHTS = {",
    ]
    for layer in layers:
        data.append(f"    {layer.name!r}: {{")
        for key, array in parameters_of(layer).items():
            data += _lines(f"        {key!r}: ", array, " " * 12)
        data.append("    },")
    data += ["}", "TEST = {"]
    for key, array in (("x", x), ("y", answer(model, x).y)):
        data += _lines(f"    {key!r}: ", array, " " * 8)
    data.append("}")
    # From the end to the beginning: no marker is looked for in what has been filled in.
    replacements = {
        "DATA = None": "\n".join(data),
        "import base64\n": "import base64\nimport json\n",
        "VERSION": __version__,
        "DESCRIPTION": title,
    }
    for marker, new in replacements.items():
        before, after = text.split(marker, 1)
        text = before + new + after
    return text


def _lines(start: str, array: Array, indent: str) -> Iterator[str]:
    """Give an array as Python: (dtype, shape, base64 digits in lines)."""
    array = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    digits = base64.b64encode(array.tobytes()).decode()
    yield f"{start}({array.dtype.str!r}, {array.shape!r},"
    for i in range(0, len(digits), _LINE):
        yield f'{indent}"{digits[i : i + _LINE]}"'
    yield f"{indent[:-4]}),"


def _describe(layer: Layer) -> dict[str, Any]:
    """Give the settings that decide what a layer computes."""
    base: dict[str, Any] = {"kind": type(layer).__name__, "name": layer.name}
    kinds = (GRU, Bidirectional, Embedding, Dense, LayerNormalization)
    if not any(is_just(layer, kind) for kind in kinds):
        raise ConversionError(
            f"export_standalone: the file has no code for {layer.name} ({type(layer).__name__})"
        )
    if isinstance(layer, GRU):
        if layer.stateful:
            raise ConversionError(
                f"export_standalone: {layer.name} has stateful=True, and the file's predict keeps "
                "nothing between calls; set stateful to False, and carry the state by its step"
            )
        if layer.return_state:
            raise ConversionError(
                f"export_standalone: {layer.name} has return_state=True; the file's layers give "
                "one output each"
            )
        if layer.stateful:
            raise ConversionError(
                f"export_standalone: {layer.name} has stateful=True, and the file's predict keeps "
                "nothing between calls; set it to False, and hand the state on with the file's step"
            )
        names = (
            "activation", "recurrent_activation", "reset_after", "go_backwards", "return_sequences",
            "zoneout",
        )  # fmt: skip
        return base | {name: getattr(layer, name) for name in names}
    if isinstance(layer, Bidirectional):
        if layer.merge_mode is None:
            raise ConversionError(
                f"export_standalone: {layer.name} has merge_mode=None; the file's layers give "
                "one output each"
            )
        halves = {"forward": layer.layer, "backward": layer.backward_layer}
        described = {way: _describe(gru) for way, gru in halves.items()}
        return base | {"merge_mode": layer.merge_mode} | described
    if isinstance(layer, Embedding):
        return base | {"mask_zero": layer.mask_zero}
    if isinstance(layer, Dense):
        return base | {"activation": layer.activation or "linear"}
    assert isinstance(layer, LayerNormalization)
    return base | {"epsilon": layer.epsilon}


def _extras(model: Sequential) -> dict[str, Any]:
    """Give what the model carries beside its weights: its extras, tokenizer, labels, padding."""
    return model.extras | _beside.to_config(model)


# ----------------------------------------------------------------------------- a folder of two


def save_pretrained(model: Sequential, folder: Any) -> None:
    """Write a model into a local folder: `config.json` and `model.safetensors`.

    Parameters
    ----------
    model : Sequential
        Built. Its weights are named "layer/parameter", its config is `model.get_config()`.
    folder : path
        Made if it does not exist. Each file is replaced whole or not at all, the weights first.

    Examples
    --------
    >>> import os, tempfile
    >>> from gru_np import GRU, Sequential, interop
    >>> model = Sequential([GRU(4)], seed=0)
    >>> model.build((None, None, 3))
    >>> folder = tempfile.mkdtemp()
    >>> interop.save_pretrained(model, folder)
    >>> sorted(os.listdir(folder)), interop.from_pretrained(folder).layers
    (['config.json', 'model.safetensors'], [GRU(units=4)])
    """
    from gru_np import __version__

    if not model.built:
        raise ValueError("save_pretrained: the model must be built first; fit it or call build")
    where = Path(os.fsdecode(folder))
    where.mkdir(parents=True, exist_ok=True)
    config = {
        "model_type": "gru_np",
        "gru_np_version": __version__,
        **model.get_config(),
        "extras": model.extras,
        "text": _beside.to_config(model),
    }
    text = json.dumps(config, indent=2, allow_nan=False)
    checkpoint.save(where / "model.safetensors", {}, model.params)
    replace_file(str(where / "config.json"), [memoryview((text + "\n").encode())])


def from_pretrained(folder: Any) -> Sequential:
    """Read a model from a folder that `save_pretrained` wrote; nothing is ever downloaded.

    Parameters
    ----------
    folder : path
        With `config.json` and `model.safetensors`; the latter may have been rewritten by any
        safetensors library.

    Raises
    ------
    ConversionError
        A file is missing, damaged or hostile, or the two do not belong together.
    """
    where = Path(os.fsdecode(folder))
    path = where / "config.json"
    try:
        config = json.loads(read_input(path, _MAX_CONFIG))
        beside = {key: config.pop(key, None) for key in _BESIDE}
        model = Sequential.from_config(config)
        _beside.take(model, beside["extras"] or {}, beside["text"] or {})
        wanted = model.parameter_shapes()
    except (
        OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, AssertionError,
    ) as error:  # fmt: skip
        raise ConversionError(f"from_pretrained: {path} cannot be used: {error!r}") from error
    _, arrays = checkpoint.read_tensors(where / "model.safetensors")
    found = {name: array.shape for name, array in arrays.items()}
    if found != wanted:
        odd = sorted(name for name in wanted.keys() | found if wanted.get(name) != found.get(name))
        raise ConversionError(
            f"from_pretrained: {where}: config.json and model.safetensors do not belong together; "
            f"they differ in {', '.join(odd[:5])}"
        )
    model.take_parameters({name: arrays[name].astype(model.dtype, copy=False) for name in wanted})
    return model
