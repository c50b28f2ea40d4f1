"""Dropout."""

from typing import Any

import numpy as np

from gru_np._aliases import Array, Generator, Gradients, Shape
from gru_np._checks import require_rate
from gru_np._intake import as_floats
from gru_np.layers.base import Layer


def dropout_mask(rng: Generator | None, shape: tuple[int, ...], rate: float, dtype: Any) -> Array:
    """Draw 0 with probability `rate`, else 1 / (1 - rate), so that the mean stays 1."""
    rng = rng or np.random.default_rng()
    keep = rng.random(shape, dtype=np.float32) >= rate
    return keep * np.dtype(dtype).type(1 / (1 - rate))


class Dropout(Layer):
    """Set inputs to zero at random while training: y = x ⊙ m, m = 0 or 1 / (1 - rate).

    Parameters
    ----------
    rate : float
        Probability of a zero, in [0, 1).
    noise_shape : tuple, optional
        Shape of m, with 1 where it is shared and None where it follows the input: (None, 1, None)
        drops the same features at every time step.
    seed, name
        As for every layer.

    Notes
    -----
    Source: Srivastava et al. 2014, JMLR 15:1929; inverted, so that inference needs no scaling.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import Dropout
    >>> y = Dropout(0.5, seed=0)(np.ones((1, 4)), training=True)
    >>> sorted(set(y.ravel().tolist()))
    [0.0, 2.0]
    """

    def __init__(
        self, rate: float, noise_shape: tuple[int | None, ...] | None = None, **common: Any
    ):
        super().__init__(**common)
        self.rate = require_rate("Dropout", "rate", rate)
        self.noise_shape = noise_shape

    def forward(
        self,
        x: Any,
        mask: Array | None = None,
        training: bool = False,
        rng: Generator | None = None,
    ) -> tuple[Array, Any]:
        """Multiply by a fresh random mask if training, else copy nothing and change nothing."""
        x = as_floats(self.name, x)
        if not training or self.rate == 0:
            return x, None
        if self.noise_shape is not None and len(self.noise_shape) != x.ndim:
            raise ValueError(
                f"{self.name}: noise_shape must have one entry for each of the {x.ndim} axes "
                f"of x, got {self.noise_shape}"
            )
        shape = tuple(
            size if fixed is None else fixed
            for size, fixed in zip(x.shape, self.noise_shape or x.shape, strict=True)
        )
        if rng is None and self.seed is not None:
            rng = np.random.default_rng(self.seed)
        m = dropout_mask(rng, shape, self.rate, x.real.dtype)
        return x * m, m

    def backward(self, dy: Array, saved: Any) -> tuple[Array, Gradients]:
        """Send the gradient through the same mask."""
        # y = x * m
        return (dy if saved is None else dy * saved), {}

    def output_shape(self, input_shape: Shape) -> Shape:
        """Keep the shape."""
        return input_shape
