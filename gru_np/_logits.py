"""A last layer's logits that need not exist: what passes between Dense, a loss and metrics."""

from typing import Any, NamedTuple

import numpy as np

from gru_np import kernels
from gru_np._aliases import Array
from gru_np._intake import as_array
from gru_np._positions import labels_at


class Counts(NamedTuple):
    """What a cross-entropy saw, all that accuracy and perplexity need."""

    loss: float  # Σ m w l / Σ m
    hits: Array  # m w [argmax_k x_k = y] of each
    valid: float  # Σ m
    total_weight: float  # Σ m w


class HeadGradient(NamedTuple):
    """The gradient by the logits, already taken back through the layer that gave them."""

    dx: Array
    dW: Array  # noqa: N815
    db: Array | None


class Logits:
    """x Wᵀ + b, yet to be computed.

    `cross_entropy` goes to the loss and back in blocks of rows; to everyone else this is an array,
    computed when `np.asarray` first asks.
    """

    def __init__(self, x: Array, W: Array, b: Array | None, gradient: bool):
        self.x, self.W, self.b, self.gradient = x, W, b, gradient
        self.shape = (*x.shape[:-1], len(W))
        self.ndim = x.ndim
        self.dtype = x.dtype
        self.counts: Counts | None = None
        self._array: Array | None = None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """Compute them after all."""
        if self._array is None:
            a = self.x.reshape(-1, self.W.shape[1]) @ self.W.T
            self._array = (a if self.b is None else a + self.b).reshape(self.shape)
        return np.array(self._array, dtype, copy=copy)

    def cross_entropy(
        self, who: str, y_true: Any, sample_weight: Any, mask: Any, ignore_class: int | None
    ) -> tuple[Any, HeadGradient | None]:
        """Give `SparseCategoricalCrossentropy`'s value and gradient; keep the counts."""
        y_true = as_array(who, y_true, "labels", wanted="integers")
        labels, at = labels_at(who, y_true, self.shape, sample_weight, mask, ignore_class)
        found = kernels.dense_cross_entropy(
            self.x, self.W, self.b, labels, at.weight, at.kept, max(at.valid, 1.0), self.gradient
        )
        self.counts = Counts(found.value, found.hits, at.valid, at.total_weight)
        gradient = HeadGradient(found.dh, found.dW, found.db) if self.gradient else None
        return self.dtype.type(found.value), gradient


def logits(x: Array, W: Array, b: Array | None, gradient: bool) -> Logits | None:
    """Put off x Wᵀ + b if compiled kernels can take it over, else None."""
    operations = 2.0 * x.size * len(W)
    takes = (
        x.ndim in (2, 3)
        and x.dtype == W.dtype
        and x.dtype.kind == "f"
        and kernels.pays(0, operations, inference=not gradient)
    )
    return Logits(x, W, b, gradient) if takes else None
