"""Masking: time steps that hold nothing but padding are to be ignored."""

from typing import Any

import numpy as np

from gru_np._aliases import Array, Generator, Gradients
from gru_np._intake import as_floats
from gru_np.layers.base import Layer


class Masking(Layer):
    """Mask the time steps whose features all equal `mask_value`.

    Parameters
    ----------
    mask_value : float
        What padding is made of. Choose a number that no real time step consists of.
    seed, name, trainable
        As for every layer.

    Notes
    -----
    The input is (B, T, F). Masked steps are set to zero, and the mask (B, T), True where a step is
    real, travels on to the layers behind, to loss and metrics. A mask that comes in is kept: a
    step is real if both say so. `step` takes every step for real.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.layers import Masking
    >>> x = np.array([[[1.0, 2.0], [0.0, 3.0], [0.0, 0.0]]])
    >>> Masking().compute_mask(x, None).tolist()
    [[True, True, False]]
    """

    def __init__(self, mask_value: float = 0.0, **common: Any):
        super().__init__(**common)
        self.mask_value = float(mask_value)

    def compute_mask(self, x: Array, mask: Array | None) -> Array | None:
        """Give True where a step holds anything but padding."""
        x = as_floats(self.name, x)
        padding = np.isnan(x) if np.isnan(self.mask_value) else x.real == self.mask_value
        real = np.asarray(~padding.all(axis=-1))
        return real if mask is None else real & mask

    def forward(
        self,
        x: Any,
        mask: Array | None = None,
        training: bool = False,
        rng: Generator | None = None,
    ) -> tuple[Array, Any]:
        """Set masked steps to zero."""
        x = as_floats(self.name, x)
        real = self.compute_mask(x, None)
        assert real is not None
        return np.where(real[..., None], x, 0).astype(x.dtype, copy=False), real

    def backward(self, dy: Array, saved: Any) -> tuple[Array, Gradients]:
        """Send the gradient to the real steps only."""
        # y = np.where(real[..., None], x, 0)
        return np.where(saved[..., None], dy, 0).astype(dy.dtype, copy=False), {}

    def step(self, x: Array, state: Array | None = None) -> tuple[Array, Array | None]:
        """Give x back: whoever takes single steps feeds real ones."""
        return x, None
