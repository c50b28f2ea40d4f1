"""Read and write a model in whatever form the ending of the path names."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gru_np import checkpoint
from gru_np._safetensors import short
from gru_np.interop.common import (
    Conversion,
    ConversionError,
    directions,
    optional_package,
)
from gru_np.interop.keras import from_keras, to_keras
from gru_np.interop.onnx import from_onnx, to_onnx
from gru_np.interop.pytorch import from_torch, to_torch
from gru_np.interop.standalone import export_standalone, from_pretrained, save_pretrained
from gru_np.layers import GRU, Bidirectional, Dense, Embedding
from gru_np.model import Sequential

_STATE_DICT = ".torch.safetensors"
_READABLE = ".safetensors (ours or a PyTorch state dict), .keras, .weights.h5, .onnx, or a folder"
_WRITABLE = f".safetensors, {_STATE_DICT}, .keras, .weights.h5, .onnx, .py, or a folder (no ending)"


def read(path: Any, like: Sequential | None = None, **options: Any) -> Sequential:
    """Read a model from a file or folder, by the ending of its name.

    Parameters
    ----------
    path : path
        `.safetensors` (ours, or a PyTorch state dict), `.keras`, `.onnx`, or a folder; with `like`,
        `.weights.h5` too.
    like : Sequential, optional
        For `.weights.h5`, which holds no settings: a built model with the same layers. It takes
        the weights and is what is returned.
    **options
        Of `from_torch`, for a PyTorch state dict, which leaves much open: return_sequences, last,
        activations, kinds, order.

    Returns
    -------
    Sequential
        Its `conversion` says what was checked and assumed, if another library wrote it.

    Raises
    ------
    ConversionError, CheckpointError
        What is wrong with the file, or which forms can be read.

    Examples
    --------
    >>> import os, tempfile
    >>> from gru_np import GRU, Sequential, interop
    >>> model = Sequential([GRU(4)], seed=0)
    >>> model.build((None, None, 3))
    >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
    >>> checked = interop.write(model, path)
    >>> interop.read(path).layers
    [GRU(units=4)]
    """
    name = os.fsdecode(path)
    if not os.path.exists(name):
        raise ConversionError(f"read: there is no file {name}")
    if like is not None and not name.endswith(".weights.h5"):
        raise ConversionError(f"read: like is for .weights.h5; {name} says itself what it holds")
    ending = os.path.splitext(name)[1]
    if ending == ".safetensors" and not os.path.isdir(name):
        config = _config_of(name)
        if "model" not in config:
            made = from_torch(name, **_own_settings(name, config) | options)
            if not isinstance(made, Sequential):
                raise ConversionError(f"read: {name} holds a single cell; use interop.from_torch")
            return made
    if options:
        raise ConversionError(
            f"read: {', '.join(options)} {'is' if len(options) == 1 else 'are'} for a PyTorch "
            f"state dict; {name} says itself what it holds"
        )
    if like is not None:
        return from_keras(name, into=like)
    if os.path.isdir(name):
        return from_pretrained(name)
    readers: dict[str, Callable[[str], Any]] = {
        ".safetensors": Sequential.load,
        ".keras": from_keras, ".h5": from_keras, ".onnx": from_onnx,
        ".pt": from_torch, ".pth": from_torch, ".bin": from_torch, ".ckpt": from_torch,
    }  # fmt: skip
    if ending not in readers:
        raise ConversionError(f"read: {name} is in no form that can be read: {_READABLE}")
    made = readers[ending](name)
    assert isinstance(made, Sequential)
    return made


def _config_of(name: str) -> dict[str, Any]:
    """Give the config of a safetensors file that gru_np wrote; nothing for another library's."""
    if "gru_np" not in checkpoint.read_tensors(name)[0]:
        return {}
    return checkpoint.read_config(name)


# What `write` puts beside a state dict, and what each must be.
_OPEN: dict[str, Callable[[Any], bool]] = {
    "return_sequences": lambda value: isinstance(value, bool),
    "last": lambda value: value == "state",
    "activations": lambda value: _is_words(value),
    "kinds": lambda value: _is_words(value),
}


def _is_words(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(word, str) for word in value.values())


def _own_settings(name: str, config: dict[str, Any]) -> dict[str, Any]:
    """Give the options of `from_torch` that `write` put beside a state dict."""
    found = config.get("from_torch", {})
    known = isinstance(found, dict) and found.keys() <= _OPEN.keys()
    if not known or not all(_OPEN[key](value) for key, value in found.items()):
        raise ConversionError(
            f"read: {name}: what stands beside the state dict must be {', '.join(_OPEN)}, found "
            f"{short(found)}"
        )
    return found


def _open_settings(model: Sequential) -> dict[str, Any]:
    """Give what a state dict of the model leaves open, as options of `from_torch`."""
    settings: dict[str, Any] = {}
    alone = len([layer for layer in model.layers if layer.params]) == 1
    for layer in model.layers:
        name = "" if alone else layer.name
        if isinstance(layer, GRU | Bidirectional):
            settings["return_sequences"] = directions(layer)[0][1].return_sequences
        elif isinstance(layer, Dense) and layer.activation not in (None, "linear"):
            settings.setdefault("activations", {})[name] = layer.activation
        elif isinstance(layer, Embedding):
            settings.setdefault("kinds", {})[name] = "Embedding"
    if not settings.get("return_sequences", True):
        settings["last"] = "state"
        del settings["return_sequences"]
    return settings


def write(model: Sequential, path: Any) -> Conversion:
    """Write a model in the form the ending of the path names.

    Parameters
    ----------
    model : Sequential
        Built.
    path : path
        `.safetensors` (ours), `.torch.safetensors` (a PyTorch state dict, for
        `safetensors.torch.load_file`), `.keras`, `.weights.h5`, `.onnx`, `.py`, or a name without
        an ending for a folder.

    Returns
    -------
    Conversion
        What was run to check it, and what was not.

    Raises
    ------
    ConversionError
        Which term that form cannot carry, or which forms can be written.

    Examples
    --------
    >>> import os, tempfile
    >>> from gru_np import GRU, Sequential, interop
    >>> model = Sequential([GRU(4)], seed=0)
    >>> model.build((None, None, 3))
    >>> interop.write(model, os.path.join(tempfile.mkdtemp(), "model.py")).unchecked
    ('the file tests itself: run it',)
    """
    name = os.fsdecode(path)
    ending = os.path.splitext(name)[1]
    if name.endswith((os.sep, "/")) or os.path.isdir(name) or not ending:
        save_pretrained(model, name)
    elif name.endswith(_STATE_DICT):
        # Beside it, for `read`, what a state dict leaves open.
        checkpoint.save(Path(name), {"from_torch": _open_settings(model)}, to_torch(model))
        if optional_package("torch") is None:
            return Conversion(unchecked=("nothing was run: torch is not installed",))
        return Conversion(("each GRU as torch.nn's own with these weights, from random states",))
    elif ending == ".safetensors":
        model.save(name)
    elif ending in (".keras", ".h5"):
        to_keras(model, name)
        return Conversion(unchecked=("nothing was run: a file is written without Keras",))
    elif ending == ".onnx":
        to_onnx(model, name)
        checked = "the whole graph, by onnx_run, on random input"
        if optional_package("onnxruntime") is not None and model.dtype == np.float32:
            return Conversion((checked, "the same by ONNX Runtime"))
        why = "it is not installed" if model.dtype == np.float32 else "the model is in float64"
        return Conversion((checked,), (f"ONNX Runtime was not run: {why}",))
    elif ending == ".py":
        export_standalone(model, name)
        return Conversion(unchecked=("the file tests itself: run it",))
    else:
        raise ConversionError(f"write: {name} names no form that can be written: {_WRITABLE}")
    return Conversion()


def left_out(model: Sequential, path: Any) -> list[str]:
    """Say what the form that the ending of the path names does not hold of a model.

    Parameters
    ----------
    model : Sequential
    path : path
        As for `write`.

    Returns
    -------
    list of str
        What stays behind, as a person would say it; empty if nothing does.

    Examples
    --------
    >>> from gru_np import GRU, Sequential, interop
    >>> model = Sequential([GRU(4)], seed=0)
    >>> model.labels = ["sour", "sweet"]
    >>> interop.left_out(model, "model.onnx"), interop.left_out(model, "model.safetensors")
    (['labels'], [])
    """
    name = os.fsdecode(path)
    ending = os.path.splitext(name)[1]
    kept = not ending or ending == ".py" or (ending, name.endswith(_STATE_DICT)) == (
        ".safetensors", False
    )  # fmt: skip
    stays = [
        what
        for what in ("tokenizer", "labels", "padding", "extras")
        if getattr(model, what) and not kept
    ]
    if name.endswith((_STATE_DICT, ".weights.h5")):
        for layer in model.layers:
            settings = {
                "mask_zero": getattr(layer, "mask_zero", False),
                "rate": getattr(layer, "rate", 0),
            }
            stays += [f"{key} of {layer.name}" for key, value in settings.items() if value]
    if model.loss is not None and ending != ".safetensors":
        stays.append("loss, optimiser and history")
    return stays
