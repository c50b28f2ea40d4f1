"""Read and write a model in whatever form the ending of the path names."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gru_np import checkpoint
from gru_np.interop.common import ConversionError
from gru_np.interop.keras import from_keras, to_keras
from gru_np.interop.onnx import from_onnx, to_onnx
from gru_np.interop.pytorch import from_torch, to_torch
from gru_np.interop.standalone import export_standalone, from_pretrained, save_pretrained
from gru_np.model import Sequential

_STATE_DICT = ".torch.safetensors"
_READABLE = ".safetensors (ours or a PyTorch state dict), .keras, .weights.h5, .onnx, or a folder"
_WRITABLE = f".safetensors, {_STATE_DICT}, .keras, .weights.h5, .onnx, .py, or a folder (no ending)"


def read(path: Any, like: Sequential | None = None) -> Sequential:
    """Read a model from a file or folder, by the ending of its name.

    Parameters
    ----------
    path : path
        `.safetensors` (ours, or a PyTorch state dict), `.keras`, `.onnx`, or a folder; with `like`,
        `.weights.h5` too.
    like : Sequential, optional
        For `.weights.h5`, which holds no settings: a built model with the same layers. It takes
        the weights and is what is returned.

    Returns
    -------
    Sequential

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
    >>> interop.write(model, path)
    >>> interop.read(path).layers
    [GRU(units=4)]
    """
    name = os.fsdecode(path)
    if os.path.isdir(name):
        return from_pretrained(name)
    if not os.path.exists(name):
        raise ConversionError(f"read: there is no file {name}")
    if like is not None:
        if not name.endswith(".weights.h5"):
            raise ConversionError(
                f"read: like is for .weights.h5; {name} says itself what it holds"
            )
        return from_keras(name, into=like)
    if name.endswith(".safetensors"):
        if not name.endswith(_STATE_DICT):
            try:
                return Sequential.load(name)
            except checkpoint.CheckpointError:
                if "gru_np" in checkpoint.read_tensors(name)[0]:
                    raise
        made = from_torch(name)
        if not isinstance(made, Sequential):
            raise ConversionError(f"read: {name} holds a single cell; use interop.from_torch")
        return made
    readers: dict[str, Callable[[str], Any]] = {
        ".keras": from_keras, ".h5": from_keras, ".onnx": from_onnx,
        ".pt": from_torch, ".pth": from_torch, ".bin": from_torch, ".ckpt": from_torch,
    }  # fmt: skip
    ending = os.path.splitext(name)[1]
    if ending not in readers:
        raise ConversionError(f"read: {name} is in no form that can be read: {_READABLE}")
    made = readers[ending](name)
    assert isinstance(made, Sequential)
    return made


def write(model: Sequential, path: Any) -> None:
    """Write a model in the form the ending of the path names.

    Parameters
    ----------
    model : Sequential
        Built.
    path : path
        `.safetensors` (ours), `.torch.safetensors` (a PyTorch state dict, for
        `safetensors.torch.load_file`), `.keras`, `.weights.h5`, `.onnx`, `.py`, or a name without
        an ending for a folder.

    Raises
    ------
    ConversionError
        Which term that form cannot carry, or which forms can be written.
    """
    name = os.fsdecode(path)
    ending = os.path.splitext(name)[1]
    if name.endswith((os.sep, "/")) or os.path.isdir(name) or not ending:
        save_pretrained(model, name)
    elif name.endswith(_STATE_DICT):
        checkpoint.save(Path(name), {}, to_torch(model))
    elif ending == ".safetensors":
        model.save(name)
    elif ending in (".keras", ".h5"):
        to_keras(model, name)
    elif ending == ".onnx":
        to_onnx(model, name)
    elif ending == ".py":
        export_standalone(model, name)
    else:
        raise ConversionError(f"write: {name} names no form that can be written: {_WRITABLE}")
