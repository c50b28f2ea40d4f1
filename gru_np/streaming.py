"""A whole model's step as one compiled call, for the models where that is possible.

`gru_np.kernels.streaming` runs [embedding], GRU layers, [dense, [softmax]] in one call. Here the
layers of a model are matched against that pattern; whatever does not match steps layer by layer.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gru_np import kernels
from gru_np._aliases import Array
from gru_np._checks import require_rank
from gru_np._intake import as_floats
from gru_np.layers import GRU, Dense, Dropout, Embedding, Layer
from gru_np.layers.base import is_just


class CompiledStep:
    """The packed weights of a model; they are copies, so a change asks for a new one."""

    def __init__(self, layers: Sequence[Layer], logits: bool):
        self.places = [i for i, layer in enumerate(layers) if isinstance(layer, GRU)]
        self.length = len(layers)
        self.all = list(layers)
        self.layers = [layers[i] for i in self.places]
        recurrent = [
            (*(layers[i].params.get(name) for name in ("W_ih", "W_hh", "b_ih", "b_hh")),
             layers[i].reset_after)  # type: ignore[attr-defined]
            for i in self.places
        ]  # fmt: skip
        first, last = layers[0], layers[-1]
        # what x has beyond its rows
        self.features = () if isinstance(first, Embedding) else recurrent[0][0].shape[1:]
        self.stack = kernels.stack(
            recurrent,
            embedding=first.params["W"] if isinstance(first, Embedding) else None,
            dense=(last.weight, last.params.get("b")) if isinstance(last, Dense) else None,
            softmax=isinstance(last, Dense) and last.activation == "softmax" and not logits,
        )
        self.dtype = self.stack.dtype
        self.kind_of_x = np.dtype(np.int64) if isinstance(first, Embedding) else self.dtype
        self.units = self.layers[0].units  # type: ignore[attr-defined]

    def step(self, x: Array, states: list[Array | None]) -> tuple[Array, list[Array | None]]:
        """Take one step; the states are one a layer, as for `Sequential.step`."""
        # the compiled call looks up no bounds
        if x.shape[1:] != self.features or x.ndim == 0:
            require_rank("step", "x", x, ("batch", *self.features), "step takes one time step")
        begins = all(states[i] is None for i in self.places)
        before = []
        for i, layer in zip(self.places, self.layers, strict=True):
            shape = (len(x), layer.units)  # type: ignore[attr-defined]
            if states[i] is None:  # this layer begins, whatever the others do
                before.append(np.zeros(shape, self.dtype))
                continue
            before.append(as_floats("step", states[i], "state", real=True))
            require_rank(layer.name, "state", before[-1], shape)
        y, after = self.stack.step(x, None if begins else before)
        states = [None] * self.length
        for i, state in zip(self.places, after, strict=True):
            states[i] = state
        return y, states

    def again(self, x: Any, states: Any) -> tuple[Array, list[Array | None]] | None:
        """Take one step if x and states are just as the step before left them, else None.

        A small step takes a few microseconds, and to check and convert what might be anything
        would take longer. So here it is only looked whether there is nothing to do; whoever gets
        None has to look closer.
        """
        if len(self.places) != 1 or type(states) is not list or len(states) != self.length:
            return None
        before = states[self.places[0]]
        if type(x) is not np.ndarray or type(before) is not np.ndarray:
            return None
        B = len(before)
        if (
            before.shape != (B, self.units)
            or before.dtype is not self.dtype
            or x.shape != (B, *self.features)
            or x.dtype is not self.kind_of_x
            or not (before.flags.carray and x.flags.carray)
        ):
            return None
        y, after = self.stack.next(x, before)
        if y is None:  # a token that there is not
            return None
        states = [None] * self.length
        states[self.places[0]] = after
        return y, states


def compiles(layers: Sequence[Layer], steps: int = 1) -> bool:
    """Answer whether these layers fit the pattern, and whether compiled code pays by now."""
    inner = list(layers[is_just(layers[0], Embedding) :])
    last = inner.pop() if inner and is_just(inner[-1], Dense) else None
    if isinstance(last, Dense) and last.activation not in (None, "linear", "softmax"):
        return False
    recurrent = [layer for layer in inner if not is_just(layer, Dropout)]
    fits = bool(recurrent) and all(
        is_just(layer, GRU)
        and layer.is_plain
        and (layer.activation, layer.recurrent_activation) == ("tanh", "sigmoid")
        and layer.params["W_hh"].dtype.kind == "f"
        for layer in recurrent
    )
    operations = 2.0 * steps * sum(layer.count_params() for layer in recurrent)
    return fits and kernels.pays(steps * len(recurrent), operations)
