"""Types used in signatures. Shapes live in docstrings."""

from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

if TYPE_CHECKING:
    from numpy.random import Generator as Generator
else:
    # To import numpy.random takes a tenth of a first prediction, which draws nothing.
    Generator = Any

Array = NDArray[Any]
Shape = tuple[int | None, ...]  # None: any size, as the batch axis of a layer's input
Gradients = dict[str, Array]
