"""One vector for a whole sequence: the largest, or the mean, of each feature over time.

Notation: B batch, T time, F features.
"""

from typing import Any

import numpy as np

from gru_np._aliases import Array, Generator, Gradients, Shape
from gru_np._checks import require_rank, require_sequence
from gru_np._intake import as_floats, as_mask
from gru_np.layers.base import Layer


class _Pooling(Layer):
    """What both kinds share: (B, T, F) becomes (B, F), and no mask is left."""

    random = False

    def output_shape(self, input_shape: Shape) -> Shape:
        """(B, F)."""
        require_sequence(self.name, input_shape)
        return (input_shape[0], input_shape[-1])

    def compute_mask(self, x: Array, mask: Array | None) -> Array | None:
        """Give none: there are no time steps any more."""
        return None

    def step(self, x: Array, state: Array | None = None) -> tuple[Array, Array | None]:
        """Refuse: what is pooled is known only at the end of a sequence."""
        raise ValueError(
            f"{self.name}: a pooling layer needs the whole sequence and cannot take single steps; "
            "use predict"
        )

    def _enter(self, x: Any, mask: Array | None) -> tuple[Array, Array]:
        """Give x and which steps are real, (B, T)."""
        x = as_floats(self.name, x)
        require_rank(self.name, "x", x, ("batch", "time", "features"))
        if mask is None:
            return x, np.ones(x.shape[:2], bool)
        return x, as_mask(self.name, mask, x.shape[:2])


class GlobalMaxPooling1D(_Pooling):
    """Keep the largest value of each feature: y_f = max_t x_tf over the real time steps.

    Parameters
    ----------
    seed, name, trainable
        As for every layer.

    Notes
    -----
    The gradient goes to the first of equal largest values. A sequence without a real step gives
    zeros. Keras' layer of this name knows no mask and would pool padding too.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.layers import GlobalMaxPooling1D
    >>> x = np.array([[[1.0, 5.0], [3.0, 2.0], [9.0, 9.0]]])
    >>> GlobalMaxPooling1D()(x, mask=np.array([[True, True, False]])).tolist()
    [[3.0, 5.0]]
    """

    def forward(
        self,
        x: Any,
        mask: Array | None = None,
        training: bool = False,
        rng: Generator | None = None,
    ) -> tuple[Array, Any]:
        """Give the largest values (B, F), and where (B, T, F) they stood."""
        x, real = self._enter(x, mask)
        values = x.real
        if mask is not None:
            values = np.array(values)
            values[~real] = -np.inf
        largest = values.max(axis=1, keepdims=True, initial=-np.inf)
        # argmax would be slow: it copies an array to have time last
        here = (values == largest) & real[..., None]
        if np.count_nonzero(here) > real.any(axis=1).sum() * x.shape[2]:
            here &= here.cumsum(axis=1) == 1  # the first of equals
        if x.dtype.kind == "c":
            return np.where(here, x, 0).sum(axis=1), here
        y = largest[:, 0]
        y[~real.any(axis=1)] = 0
        return y, here

    def backward(self, dy: Array, saved: Any) -> tuple[Array, Gradients]:
        """Send the gradient to where the largest values stood."""
        # y = where(here, x, 0).sum(axis=1)
        return dy[:, None] * saved, {}


class GlobalAveragePooling1D(_Pooling):
    """Average each feature: y_f = Σ_t m_t x_tf / Σ_t m_t, m_t = 1 for a real time step, else 0.

    Parameters
    ----------
    seed, name, trainable
        As for every layer.

    Notes
    -----
    As in Keras, but for a sequence without a real step, which gives zeros.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.layers import GlobalAveragePooling1D
    >>> x = np.array([[[1.0, 5.0], [3.0, 2.0], [9.0, 9.0]]])
    >>> GlobalAveragePooling1D()(x, mask=np.array([[True, True, False]])).tolist()
    [[2.0, 3.5]]
    """

    def forward(
        self,
        x: Any,
        mask: Array | None = None,
        training: bool = False,
        rng: Generator | None = None,
    ) -> tuple[Array, Any]:
        """Give the means (B, F), and the weight of each step."""
        x, real = self._enter(x, mask)
        share = (real / np.maximum(real.sum(axis=1, keepdims=True), 1)).astype(x.real.dtype)
        # np.where: what is masked may be NaN, and NaN times zero is NaN
        return (np.where(real[..., None], x, 0) * share[..., None]).sum(axis=1), share

    def backward(self, dy: Array, saved: Any) -> tuple[Array, Gradients]:
        """Share the gradient out among the real steps."""
        # y = (x * share[..., None]).sum(axis=1)
        return dy[:, None] * saved[..., None], {}
