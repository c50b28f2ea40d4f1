"""The single place that answers "numba or NumPy?".

`gru_forward` and `gru_backward` have the names, arguments and results of `gru_np.recurrence`'s, and
run either those or their compiled twins in `gru_np.kernels.fused`; likewise `ctc_loss`. Importing
this package imports no numba; the first call that pays for it does.

Compiled loops look up no bounds. What decides where they read and write is therefore settled here,
for both alike, or where a plan is made of arrays that will be used again.
"""

import importlib
import importlib.util
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import numpy as np

from gru_np import ctc as ctc_in_numpy  # not to hide the submodules of these names
from gru_np import recurrence as in_numpy
from gru_np.kernels import _arguments
from gru_np.kernels._arguments import COMPILED
from gru_np.kernels._settings import num_threads, set_num_threads

__all__ = [
    "available",
    "averages",
    "chosen_for",
    "compiling_seconds",
    "ctc_loss",
    "dense_cross_entropy",
    "embedding_gradient",
    "gru_backward",
    "gru_forward",
    "is_small",
    "load",
    "num_threads",
    "pays",
    "set_num_threads",
    "stack",
    "takes",
    "token_pass",
    "warmup",
]

# What NumPy takes: seconds per step of the loop and per floating-point operation.
STEP_SECONDS, OPERATION_SECONDS = 40e-6, 1 / 25e9
# What importing numba and reading the compiled kernels from the disk cache takes, in seconds.
LOADING_SECONDS = 1.0
_spent = 0.0
# Compiling everything for the first time takes so long, in seconds, that less is left to NumPy.
SHORT_TRAINING_SECONDS = 5.0
_switched_off = os.environ.get("GRU_NP_KERNELS", "1") == "0"
_in_numpy: ContextVar[bool] = ContextVar("gru_np_in_numpy", default=False)


def available() -> bool:
    """Whether compiled kernels can be used: numba is installed and GRU_NP_KERNELS was not 0."""
    if _switched_off or _in_numpy.get():
        return False
    return "gru_np.kernels.fused" in sys.modules or _numba_compiles()


@cache
def _numba_compiles() -> bool:
    """Look for numba without importing it; once, because a look takes a good part of a step."""
    given = os.environ.get("NUMBA_DISABLE_JIT", "")
    config = getattr(sys.modules.get("numba"), "config", None)
    if (given.isdigit() and int(given)) or getattr(config, "DISABLE_JIT", 0):
        return False  # kernels are nothing but what is compiled
    try:
        return importlib.util.find_spec("numba") is not None
    except (ImportError, ValueError):  # blocked, or half-imported
        return False


def pays(steps: int, operations: float, inference: bool = True) -> bool:
    """Whether to run compiled kernels for a pass of so many time steps and operations.

    Once they are loaded they always pay. Before that, prediction stays with NumPy until it has
    spent there, by estimate, as long as loading takes: so a script that predicts once never waits
    for numba, and no process loses more than that time twice. Training loads them at once: which
    path it takes must not depend on what ran before, or a resumed run would differ in its bits.
    """
    global _spent
    if not available():
        return False
    if "gru_np.kernels.fused" in sys.modules or not inference:
        return True
    _spent += steps * STEP_SECONDS + operations * OPERATION_SECONDS
    return _spent > LOADING_SECONDS


@contextmanager
def chosen_for(steps: float, operations: float) -> Iterator[None]:
    """Choose once for a whole training run of so many time steps and operations.

    A short run stays with NumPy, where it is over before a kernel is compiled. The choice follows
    from the run's own size and from nothing that happened before, so a resumed run repeats it.
    """
    seconds = steps * STEP_SECONDS + operations * OPERATION_SECONDS
    token = _in_numpy.set(_in_numpy.get() or seconds < SHORT_TRAINING_SECONDS)
    try:
        yield
    finally:
        _in_numpy.reset(token)


@cache
def _compiled(name: str) -> Any:
    """Give a module that imports numba; once, because an import statement takes a microsecond."""
    with _loading:
        return importlib.import_module(f"gru_np.kernels.{name}")


def load() -> None:
    """Import the compiled kernels now: whoever will run for long need not wait until it pays."""
    _compiled("fused")


# A child forked while another thread imports or compiles would wait for ever for that thread, which
# it does not have. So who forks waits until that is done.
_loading = threading.RLock()
_held: list[Any] = []


def _before_fork() -> None:
    _loading.acquire()
    compiler = getattr(sys.modules.get("numba.core.compiler_lock"), "global_compiler_lock", None)
    if compiler is not None:
        compiler.acquire()
    _held.append(compiler)


def _after_fork() -> None:
    compiler = _held.pop()
    if compiler is not None:
        compiler.release()
    _loading.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork
    )


def gru_forward(
    x: Any,
    h0: Any,
    W_ih: Any,
    W_hh: Any,
    b_ih: Any,
    b_hh: Any,
    reset_after: bool = True,
    lengths: Any = None,
    mask: Any = None,
    activation: str = "tanh",
    recurrent_activation: str = "sigmoid",
    drop: Any = None,
    *,
    inference: bool = False,
) -> tuple[Any, Any]:
    """Run `gru_np.recurrence.gru_forward`, compiled where that pays; see `gru_np.gru_forward`.

    With `inference=True` no gradient will be asked for, and `saved` is None.
    """
    if not _arguments.in_order(x, h0, W_ih, W_hh, b_ih, b_hh):
        x, h0, W_ih, W_hh, b_ih, b_hh = _arguments.put_in_order(x, h0, W_ih, W_hh, b_ih, b_hh)
    T, B, I = x.shape  # noqa: E741
    if lengths is not None or mask is not None:
        lengths, mask = _arguments.steps_in_order(lengths, mask, T, B)
    if (
        x.dtype in COMPILED
        and (activation, recurrent_activation) == ("tanh", "sigmoid")
        and drop is None
        and pays(T, 2.0 * T * B * W_ih.shape[0] * (I + W_hh.shape[1]), inference)
    ):
        return _compiled("fused").gru_forward(
            x, h0, W_ih, W_hh, b_ih, b_hh, reset_after, lengths, mask, inference=inference
        )
    h, saved = in_numpy.gru_forward(
        x, h0, W_ih, W_hh, b_ih, b_hh,
        reset_after, lengths, mask, activation, recurrent_activation, drop,
    )  # fmt: skip
    return h, None if inference else saved


def gru_backward(dh: Any, saved: Any) -> tuple[Any, Any, Any, Any, Any, Any]:
    """Run `gru_np.recurrence.gru_backward`, compiled if the forward pass was."""
    run: Any = in_numpy
    if not isinstance(saved, in_numpy.Saved):
        run = sys.modules.get("gru_np.kernels.fused")
        if not isinstance(saved, getattr(run, "Saved", ())):
            raise TypeError(
                "gru_backward: saved must be the second result of gru_forward, got "
                f"{type(saved).__name__}"
            )
    return run.gru_backward(_arguments.gradient_in_order(dh, saved.h), saved)


def takes(*arrays: Any) -> bool:
    """Whether compiled code is to work on these arrays in training: one real dtype for all."""
    dtype = arrays[0].dtype
    if dtype.char not in "fd" or not dtype.isnative:
        return False
    for array in arrays:
        if array.dtype is not dtype and array.dtype != dtype:
            return False
    return pays(0, 0.0, inference=False)


def dense_cross_entropy(
    x: Any, W: Any, b: Any, labels: Any, weight: Any, kept: Any, count: float, gradient: bool = True
) -> Any:
    """Cross-entropy of softmax(x Wᵀ + b) with all gradients, without all logits; compiled only.

    See `gru_np.kernels.training.dense_cross_entropy`, and `gru_np._logits` for who asks and when.
    """
    return _compiled("training").dense_cross_entropy(x, W, b, labels, weight, kept, count, gradient)


def embedding_gradient(ids: Any, dy: Any, V: int) -> Any:
    """Sum the rows of dy (..., E) by id (...) into dW (V, E); compiled only, see `takes`."""
    return _compiled("training").embedding_gradient(ids, dy, V)


def stack(layers: Any, embedding: Any = None, dense: Any = None, softmax: bool = False) -> Any:
    """Pack a model whose step is one compiled call; see `kernels.streaming.Stack`."""
    return _compiled("streaming").Stack(layers, embedding, dense, softmax)


def token_pass(embedding: Any, layers: Any, dense: Any, B: int, T: int, sequence: bool) -> Any:
    """Make ready to run a small language model; see `kernels.passes.TokenPass`."""
    return _compiled("passes").TokenPass(embedding, layers, dense, B, T, sequence)


def is_small(V: int, E: int, layers: list[tuple[int, int]], B: int, T: int) -> bool:
    """Whether `token_pass` is for such sizes; layers are pairs (I, H)."""
    return bool(_compiled("passes").is_small(V, E, layers, B, T))


def averages(columns: Any) -> Any:
    """Make ready to update parameters as `gru_np.optimizers.adam_update` does; see `takes`."""
    return _compiled("training").Averages(columns)


def ctc_loss(
    logits: Any, labels: Any, logit_lengths: Any, label_lengths: Any, blank: int = 0
) -> tuple[Any, Any, Any]:
    """Run `gru_np.ctc.ctc_loss`, compiled where that pays.

    Compiled, the results have the same bits for any number of threads.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import kernels
    >>> one, two = np.array([1]), np.array([2])
    >>> loss, dlogits, feasible = kernels.ctc_loss(np.zeros((1, 2, 3)), one[:, None], two, one)
    >>> bool(np.isclose(np.exp(-loss[0]), 3 / 9))  # "1 1", "1 -" and "- 1" of nine paths
    True
    """
    arguments = ctc_in_numpy.in_order(logits, labels, logit_lengths, label_lengths, blank)
    run: Any = _compiled("ctc") if takes(arguments[0]) else ctc_in_numpy
    return run.ctc_loss(*arguments)


def compiling_seconds() -> float:
    """Give how long this process has spent on compiling kernels, as at their very first use."""
    jit = sys.modules.get("gru_np.kernels._jit")
    return 0.0 if jit is None else float(jit.COMPILING.seconds)


def warmup(dtypes: tuple[str, ...] = ("float32", "float64")) -> bool:
    """Compile every kernel, or read it from the disk cache; False if there are none to compile.

    Run it once when a container image is built and the first step there starts at once.

    Examples
    --------
    >>> from gru_np import kernels
    >>> kernels.warmup(dtypes=())  # none of them, but is numba there?  # doctest: +SKIP
    True
    """
    if not available():
        return False
    fused, streaming, training = map(_compiled, ("fused", "streaming", "training"))
    for dtype in dtypes:
        x, W_ih, W_hh = (np.ones(shape, dtype) for shape in [(2, 3, 2), (12, 2), (12, 4)])
        h, saved = fused.gru_forward(x, None, W_ih, W_hh, None, None)
        fused.gru_backward(h, saved)
        h_once, saved = fused.gru_forward(x[:1, :1], None, W_ih, W_hh, None, None)
        fused.gru_backward(h_once, saved)
        labels = np.zeros((3, 3), int)
        head = training.dense_cross_entropy(h, W_hh, None, labels, None, None, 9.0)
        many = np.zeros((training.TILE_UNIT_CLASSES, 4), dtype)
        training.dense_cross_entropy(h, many, None, labels, None, None, 9.0)
        training.embedding_gradient(np.zeros((3, 3), int), head.dh, 2)
        averages = training.Averages([(W_hh, np.zeros_like(W_hh), np.zeros_like(W_hh), None)])
        averages.norms([head.dW])
        averages.adam([head.dW], [1.0], [0.0], 0.0, 0.9, 0.999, 1e-7)
        stack = streaming.Stack([(W_ih, W_hh)], x[0], (W_hh[:, :4], None), softmax=True)
        stack.step(np.zeros(3, np.int64))
        ctc_loss(np.ones((1, 2, 3), dtype), *(np.ones(n, np.int64) for n in [(1, 1), 1, 1]))
    return True
