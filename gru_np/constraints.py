"""Rules that parameters obey after every step of the optimiser: Keras' constraints.

    MaxNorm    columns longer than max_value are shortened to it
    NonNeg     what is below zero becomes zero
    UnitNorm   every column gets length 1

A layer takes them as `kernel_constraint=`, `recurrent_constraint=`, `bias_constraint=` or
`embeddings_constraint=`. Axes are counted on Keras' matrices, (inputs, units): `axis=0` makes a
column of what goes into one unit. A bias is one column; the
two of a GRU are the rows of one array, as they are in Keras.
"""

from typing import Any

import numpy as np

from gru_np._aliases import Array
from gru_np._named import Configured, require_number, resolve

EPSILON = 1e-7  # keeps a column of zeros from being divided by zero


class Constraint(Configured):
    """Base of all constraints: `constraint(w)` gives the array that obeys it.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import constraints
    >>> constraints.get("non_neg")(np.array([1.0, -2.0]))
    array([1., 0.])
    """

    def __call__(self, w: Array) -> Array:
        """Give what becomes of w."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__")


def _axis(who: str, axis: int) -> int:
    """Give the axis if it is one of a matrix, or raise."""
    if isinstance(axis, bool) or axis not in (-2, -1, 0, 1):
        raise ValueError(f"{who}: axis must be one of a matrix, 0 or 1, got {axis!r}")
    return axis


def _length(w: Array, axis: int) -> Array:
    if not -w.ndim <= axis < w.ndim:
        raise ValueError(f"constraint: a vector has no axis {axis}; a bias needs axis=0")
    return np.sqrt((w * w).sum(axis=axis, keepdims=True))


class MaxNorm(Constraint):
    """Shorten columns that are longer than `max_value` to that length.

    Parameters
    ----------
    max_value : float
        The length.
    axis : int
        Along which axis a column runs.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.constraints import MaxNorm
    >>> MaxNorm(2.5)(np.array([[3.0, 0.0], [4.0, 1.0]])).round(4).tolist()
    [[1.5, 0.0], [2.0, 1.0]]
    """

    def __init__(self, max_value: float = 2.0, axis: int = 0):
        self.max_value = require_number("MaxNorm", "max_value", max_value)
        self.axis = _axis("MaxNorm", axis)

    def __call__(self, w: Array) -> Array:
        """Give w with its columns shortened."""
        length = _length(w, self.axis)
        return w * (np.clip(length, 0, self.max_value) / (EPSILON + length)).astype(w.dtype)


class NonNeg(Constraint):
    """Set what is below zero to zero.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.constraints import NonNeg
    >>> NonNeg()(np.array([1.0, -2.0]))
    array([1., 0.])
    """

    def __call__(self, w: Array) -> Array:
        """Give w without what is below zero."""
        return np.maximum(w, 0)


class UnitNorm(Constraint):
    """Give every column length 1.

    Parameters
    ----------
    axis : int
        Along which axis a column runs.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.constraints import UnitNorm
    >>> UnitNorm()(np.array([[3.0], [4.0]])).round(4).tolist()
    [[0.6], [0.8]]
    """

    def __init__(self, axis: int = 0):
        self.axis = _axis("UnitNorm", axis)

    def __call__(self, w: Array) -> Array:
        """Give w with its columns scaled."""
        return w / (EPSILON + _length(w, self.axis)).astype(w.dtype)


max_norm, non_neg, unit_norm = MaxNorm, NonNeg, UnitNorm  # as Keras spells them too

CONSTRAINTS: dict[str, type[Constraint]] = {
    "MaxNorm": MaxNorm, "NonNeg": NonNeg, "UnitNorm": UnitNorm,
    "max_norm": MaxNorm, "non_neg": NonNeg, "unit_norm": UnitNorm,
}  # fmt: skip


def get(identifier: Any) -> Constraint | None:
    """Give the constraint meant by a name, a description or the object itself; None is none.

    Examples
    --------
    >>> from gru_np import constraints
    >>> constraints.get("max_norm")
    MaxNorm()
    """
    return (
        None if identifier is None else resolve("constraint", identifier, CONSTRAINTS, Constraint)
    )
