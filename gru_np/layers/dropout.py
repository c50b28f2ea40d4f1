"""Dropout."""

from typing import Any

import numpy as np

from gru_np._aliases import Array, Generator, Gradients, Shape
from gru_np._checks import require_count, require_rate, spell
from gru_np._intake import as_floats
from gru_np.layers.base import Layer


def dropout_mask(rng: Generator, shape: tuple[int, ...], rate: float, dtype: Any) -> Array:
    """Draw 0 with probability `rate`, else 1 / (1 - rate), so that the mean stays 1."""
    if rate == 1:
        return np.zeros(shape, dtype)
    keep = rng.random(shape, dtype=np.float32) >= rate
    return keep * np.dtype(dtype).type(1 / (1 - rate))


def _noise_shape(given: Any) -> tuple[int | None, ...]:
    """Give the shape of a mask as a tuple of sizes and None, or raise."""
    if not isinstance(given, list | tuple):
        raise TypeError(f"Dropout: noise_shape must be a tuple of sizes and None, got {given!r}")
    return tuple(
        size if size is None else require_count("Dropout", f"noise_shape[{i}]", size)
        for i, size in enumerate(given)
    )


class Dropout(Layer):
    """Set inputs to zero at random while training: y = x ⊙ m, m = 0 or 1 / (1 - rate).

    Parameters
    ----------
    rate : float
        Probability of a zero, in [0, 1]; at 1 all is zero, as in Keras.
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
        self.noise_shape = None if noise_shape is None else _noise_shape(noise_shape)

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
        shape = self._shape_of_mask(x.shape)
        m = dropout_mask(self.rng(rng), shape, self.rate, x.real.dtype)
        return x * m, m

    def _shape_of_mask(self, of_x: tuple[int, ...]) -> tuple[int, ...]:
        if self.noise_shape is None:
            return of_x
        if len(self.noise_shape) == len(of_x):
            pairs = list(zip(of_x, self.noise_shape, strict=True))
            if all(fixed in (None, 1, size) for size, fixed in pairs):
                return tuple(size if fixed is None else fixed for size, fixed in pairs)
        raise ValueError(
            f"{self.name}: noise_shape must have None, 1 or its size for each axis of x, which is "
            f"{spell(of_x)}, got {spell(self.noise_shape)}"
        )

    def backward(self, dy: Array, saved: Any) -> tuple[Array, Gradients]:
        """Send the gradient through the same mask."""
        # y = x * m
        return (dy if saved is None else dy * saved), {}

    def output_shape(self, input_shape: Shape) -> Shape:
        """Keep the shape."""
        return input_shape
