"""Everyone who takes part: one module each, imported only in the worker that plays it.

A contestant is absent when one of its modules is not installed. Add one by writing a class with
the methods of `base.Contestant` and a line here.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .base import Contestant


class UnsupportedError(Exception):
    """The library has no such thing; it is listed without a number."""


class Entry(NamedTuple):
    """Where a contestant lives and what it needs."""

    module: str
    cls: str
    needs: tuple[str, ...]  # modules that must be importable
    packages: tuple[str, ...]  # distributions whose versions are recorded
    environment: tuple[tuple[str, str], ...] = ()
    ours: bool = False
    training: bool = True  # False: inference only
    unrolls: bool = False  # True: compiles every step of time anew; gets a time limit
    squares_apart: bool = False  # True: see `reference.model_answers`


OURS = "gru_np"
CONTESTANTS = {
    OURS: Entry("ours", "Ours", ("numba",), ("numpy", "numba", "llvmlite"), ours=True),
    "gru_np-numpy": Entry("ours", "OursNumPy", ("numpy",), ("numpy",), ours=True),
    "torch": Entry("pytorch", "Eager", ("torch",), ("torch",)),
    "torch.compile": Entry("pytorch", "Compiled", ("torch",), ("torch",), unrolls=True),
    "onnxruntime": Entry(
        "onnx_runtime",
        "OnnxRuntime",
        ("onnxruntime", "onnx"),
        ("onnxruntime", "onnx"),
        training=False,
    ),
    "openvino": Entry("open_vino", "OpenVino", ("openvino",), ("openvino",), training=False),
    "jax": Entry("jax_scan", "JaxScan", ("jax",), ("jax", "jaxlib")),
    "flax": Entry("flax_linen", "FlaxLinen", ("flax", "optax"), ("flax", "jax", "jaxlib", "optax")),
    "keras-tensorflow": Entry(
        "keras_layers",
        "KerasTensorFlow",
        ("keras", "tensorflow"),
        ("keras", "tensorflow", "tensorflow-cpu"),
        (("KERAS_BACKEND", "tensorflow"),),
        squares_apart=True,
    ),
    "keras-jax": Entry(
        "keras_layers",
        "KerasJax",
        ("keras", "jax"),
        ("keras", "jax", "jaxlib"),
        (("KERAS_BACKEND", "jax"),),
    ),
}


def missing(name: str) -> str:
    """Name the first module that a contestant needs and that is not installed; "" if none is."""
    return next((m for m in CONTESTANTS[name].needs if find_spec(m) is None), "")


def load(name: str) -> "Contestant":
    """Import the contestant's module and make it (in a worker only)."""
    entry = CONTESTANTS[name]
    return getattr(import_module(f"{__name__}.{entry.module}"), entry.cls)()
