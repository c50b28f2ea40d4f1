"""Types used in signatures. Shapes live in docstrings."""

from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
Shape = tuple[int | None, ...]  # None: any size, as the batch axis of a layer's input
Gradients = dict[str, Array]
