"""A small language model's way down and back at one go, for the models where that is possible.

`gru_np.kernels.passes` runs [embedding, GRU layers, dense] with softmax and cross-entropy in
memory that is found once. Here the layers of a model are matched against that pattern; whatever
does not match, or is so large that it makes no difference, goes layer by layer. Both ways call the
same compiled functions and give the same bits.
"""

import operator
from collections.abc import Sequence
from typing import Any

from gru_np import kernels
from gru_np._aliases import Array, Gradients
from gru_np._logits import Counts, Logits
from gru_np._positions import labels_at
from gru_np._together import Together
from gru_np.layers import GRU, Dense, Embedding, Layer
from gru_np.layers.base import is_just
from gru_np.layers.gru import Kept
from gru_np.losses import Loss, SparseCategoricalCrossentropy

SHAPES = 8  # of batches, that memory is kept for


class SmallStep:
    """A model's pass over batches of one shape.

    What it gives, gradients and all that was saved, is overwritten by the next run.
    """

    def __init__(self, layers: Sequence[Layer], arrays: list[Array], B: int, T: int):
        embedding, *recurrent, dense = layers
        self.arrays = arrays
        self.settings = _settings(layers)
        self.W, self.b = dense.params["W"], dense.params.get("b")
        self.kernel = kernels.token_pass(
            embedding.params["W"],
            [
                (*(layer.params.get(name) for name in ("W_ih", "W_hh", "b_ih", "b_hh")),
                 layer.reset_after)  # type: ignore[attr-defined]
                for layer in recurrent
            ],
            (self.W, self.b), B, T, recurrent[-1].return_sequences,  # type: ignore[attr-defined]
        )  # fmt: skip
        named = [
            (f"{layer.name}/{name}", gradient)
            for layer, of_layer in zip(reversed(layers), self.kernel.gradients, strict=True)
            if layer.trainable
            for name, gradient in zip(PARAMETERS[type(layer)], of_layer, strict=True)
            if name in layer.params and name not in layer.fixed
        ]
        self.gradients: Gradients = (
            Together(named, self.kernel.flat)
            if all(layer.trainable and not layer.fixed for layer in layers)
            else dict(named)
        )

    def __reduce__(self) -> Any:
        """Copies of a model make their own."""
        return type(None), ()

    def run(
        self, x: Array, y: Any, states: list[Array | None] | None
    ) -> tuple[Any, Logits, list[Any], list[Array | None]]:
        """Give the loss, the logits yet to be computed, and what each layer keeps and ends with.

        As `Sequential._train_step` wants them; x has been checked, y is.
        """
        kernel = self.kernel
        logits = Logits(kernel.top, self.W, self.b, gradient=True)
        who = SparseCategoricalCrossentropy.__name__
        labels, at = labels_at(who, y, logits.shape, None, None, None)
        before = [None] * len(kernel.saved) if states is None else states[1:-1]
        value = kernel.run(x, labels, before)
        logits.counts = Counts(value, kernel.hits, at.valid, at.total_weight)
        saved: list[Any] = [(x, None)]
        after: list[Array | None] = [None]
        span = slice(0, x.shape[1])
        for of_layer, state in zip(kernel.saved, before, strict=True):
            saved.append(Kept(of_layer.h, of_layer, state is not None, None, span))
            after.append(of_layer.h[-1].copy())
        return logits.dtype.type(value), logits, [*saved, (kernel.top, None)], [*after, None]


def _settings(layers: Sequence[Layer]) -> list[Any]:
    """Give what a pass depends on beside its arrays and what `matches` looks at."""
    trainable = [layer.trainable for layer in layers]
    variant = [layer.reset_after for layer in layers[1:-1]]  # type: ignore[attr-defined]
    return [*trainable, *variant, layers[-2].return_sequences]  # type: ignore[attr-defined]


# In the order of `TokenPass.gradients`.
PARAMETERS: dict[type, tuple[str, ...]] = {
    Embedding: ("W",),
    GRU: ("W_ih", "W_hh", "b_ih", "b_hh"),
    Dense: ("W", "b"),
}


def find(
    kept: dict[tuple[int, ...], SmallStep | None],
    layers: Sequence[Layer],
    loss: Loss | None,
    x: Array,
) -> SmallStep | None:
    """Give the pass for such a batch, kept from before or made now; None if there is none."""
    if x.ndim != 2 or x.size < 2 or not matches(layers, loss):
        return None
    arrays = [array for layer in layers for array in layer.params.values()]
    # compiled code may be out of bounds for now
    if not kernels.takes(*arrays):
        return None
    B, T = x.shape
    step = kept.get((B, T))
    if (
        step is not None
        and all(map(operator.is_, step.arrays, arrays))
        and step.settings == _settings(layers)
    ):
        return step
    sizes = [layer.params["W_ih"].shape[1] for layer in layers[1:-1]]
    units = [layer.params["W_hh"].shape[1] for layer in layers[1:-1]]
    V, E = layers[0].params["W"].shape
    classes = max(V, layers[-1].params["W"].shape[0])
    if not all(array.flags.carray for array in arrays) or not kernels.is_small(
        classes, E, list(zip(sizes, units, strict=True)), B, T
    ):
        return None
    if len(kept) >= SHAPES:
        kept.clear()
    step = kept[B, T] = SmallStep(layers, arrays, B, T)
    return step


def matches(layers: Sequence[Layer], loss: Loss | None) -> bool:
    """Answer whether these are an Embedding, plain GRUs and a Dense whose logits the loss takes.

    Asked at every step, because settings may be changed between any two.
    """
    if len(layers) < 3 or type(loss) is not SparseCategoricalCrossentropy:
        return False
    first, last = layers[0], layers[-1]
    if (
        loss.label_smoothing
        or loss.ignore_class is not None
        or not is_just(first, Embedding)
        or first.mask_zero
        or first.dropout
        or first.is_penalised
        or not is_just(last, Dense)
        or (last.activation or "linear") != loss.fused_with
        or last.tied_to is not None
        or last.is_penalised
    ):
        return False
    for layer in layers[1:-1]:
        if (
            not is_just(layer, GRU)
            or not layer.is_plain
            or layer.dropout
            or layer.recurrent_dropout
            or layer.stateful
            or layer.go_backwards
            or layer.return_state
            or layer.activation != "tanh"
            or layer.recurrent_activation != "sigmoid"
            or layer.is_penalised
        ):
            return False
    return all(layer.return_sequences for layer in layers[1:-2])  # type: ignore[attr-defined]
