"""Everyone who takes part: one module each, imported only in the worker that plays it.

A contestant is absent when one of its modules is not installed. Add one by writing a class with
the methods of `base.Contestant` and a line here.

A class takes its settings as keyword arguments whose defaults are the best that were found. The
others that were tried stand in its `TRIED`, and "name:what was tried" is a contestant too: so
`python -m benchmarks.settings` finds out on any machine whether the defaults are still the best.
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
    own_precision: bool = False  # True: less than float32; shown with its error, compared with none

    @property
    def rival(self) -> bool:
        """Whether it is somebody else's, and computes what we compute."""
        return not (self.ours or self.own_precision)


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
    "openvino-default": Entry(
        "open_vino",
        "OwnPrecision",
        ("openvino",),
        ("openvino",),
        training=False,
        own_precision=True,
    ),
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


def entry_of(name: str) -> Entry:
    """Look up a contestant, with whatever settings it plays."""
    return CONTESTANTS[name.partition(":")[0]]


def missing(name: str) -> str:
    """Name the first module that a contestant needs and that is not installed; "" if none is."""
    return next((m for m in entry_of(name).needs if find_spec(m) is None), "")


def class_of(name: str) -> "type[Contestant]":
    """Import the contestant's module (in a worker only: it imports the library)."""
    entry = entry_of(name)
    found: type[Contestant] = getattr(import_module(f"{__name__}.{entry.module}"), entry.cls)
    return found


def load(name: str) -> "Contestant":
    """Make a contestant, with its best settings or with those that follow a colon."""
    cls, tried = class_of(name), name.partition(":")[2]
    return cls(**cls.TRIED[tried]) if tried else cls()
