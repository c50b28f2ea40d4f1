"""A change of shape."""

import math
from typing import Any

import numpy as np

from gru_np._aliases import Array, Generator, Gradients, Shape
from gru_np._checks import spell
from gru_np._intake import as_floats
from gru_np.layers.base import Layer


class Reshape(Layer):
    """Give each sample another shape; the numbers and their order stay.

    Parameters
    ----------
    target_shape : tuple of int
        The shape without the batch axis; one size may be -1, which follows from the others.
    seed, name, trainable
        As for every layer.

    Notes
    -----
    The mask, which is about time steps, ends here unless the first axis stays -1.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.layers import Reshape
    >>> Reshape((-1, 2, 3))(np.zeros((4, 5, 6))).shape
    (4, 5, 2, 3)
    """

    random = False

    def __init__(self, target_shape: Any, **common: Any):
        super().__init__(**common)
        shape = tuple(int(size) for size in target_shape)
        if shape.count(-1) > 1 or any(size < 1 and size != -1 for size in shape):
            raise ValueError(
                f"Reshape: target_shape must hold sizes, one of them -1 at most, got {spell(shape)}"
            )
        self.target_shape = list(shape)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Give the new shape, as far as it is known."""
        sizes = input_shape[1:]
        known = [size for size in sizes if size is not None]
        missing = None
        if len(known) == len(sizes):
            missing = math.prod(known) // abs(math.prod(self.target_shape))
        return (input_shape[0], *(missing if n == -1 else n for n in self.target_shape))

    def compute_mask(self, x: Array, mask: Array | None) -> Array | None:
        """Pass the mask on if the time axis is still there."""
        keeps_time = np.ndim(x) > 2 and self.output_shape(x.shape)[1] == x.shape[1]
        return mask if keeps_time else None

    def forward(
        self,
        x: Any,
        mask: Array | None = None,
        training: bool = False,
        rng: Generator | None = None,
    ) -> tuple[Array, Any]:
        """Give x in the new shape, and the old shape."""
        x = as_floats(self.name, x)
        if math.prod(x.shape[1:]) % abs(math.prod(self.target_shape)):
            raise ValueError(
                f"{self.name}: a sample must have as many numbers as {spell(self.target_shape)}, "
                f"got {spell(x.shape[1:])}"
            )
        return x.reshape(self.output_shape(x.shape)), x.shape

    def backward(self, dy: Array, saved: Any) -> tuple[Array, Gradients]:
        """Give the gradient the old shape."""
        # y = x.reshape(B, *target_shape)
        return dy.reshape(saved), {}
