"""Penalties on the size of parameters, added to the loss: Keras' regularizers.

    L1      l1 Σ |w|              gradient   l1 sign(w)
    L2      l2 Σ w²               gradient   2 l2 w
    L1L2    both

A layer takes them as `kernel_regularizer=`, `recurrent_regularizer=`, `bias_regularizer=` or
`embeddings_regularizer=`, by name ("l2", with Keras' factor 0.01) or with settings, `L2(1e-4)`
or, as Keras spells it too, `l2(1e-4)`.
"""

from typing import Any

import numpy as np

from gru_np._aliases import Array
from gru_np._named import Configured, require_number, resolve


class Regularizer(Configured):
    """Base of all regularizers: `regularizer(w)` gives the penalty and its gradient.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import regularizers
    >>> value, gradient = regularizers.get("l2")(np.array([3.0, -4.0]))
    >>> round(float(value), 12), gradient.round(12).tolist()
    (0.25, [0.06, -0.08])
    """

    def __call__(self, w: Array) -> tuple[Any, Array]:
        """Give the penalty, a scalar, and its gradient by w."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__")


class L1L2(Regularizer):
    """l1 Σ |w| + l2 Σ w².

    Parameters
    ----------
    l1, l2 : float
        The factors; 0 leaves a term out.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.regularizers import L1L2
    >>> float(L1L2(l1=1.0, l2=1.0)(np.array([1.0, -2.0]))[0])
    8.0
    """

    def __init__(self, l1: float = 0.0, l2: float = 0.0):
        self.l1 = require_number(type(self).__name__, "l1", l1)
        self.l2 = require_number(type(self).__name__, "l2", l2)

    def __call__(self, w: Array) -> tuple[Any, Array]:
        """Give the penalty and its gradient; |w| is 0 at the kink, and analytic beside it."""
        sign = np.sign(w.real).astype(w.dtype)
        value = self.l1 * (sign * w).sum() + self.l2 * (w * w).sum()
        return value, self.l1 * sign + 2 * self.l2 * w


class L1(L1L2):
    """l1 Σ |w|.

    Parameters
    ----------
    l1 : float
        The factor.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.regularizers import L1
    >>> L1(0.5)(np.array([1.0, -2.0]))
    (np.float64(1.5), array([ 0.5, -0.5]))
    """

    def __init__(self, l1: float = 0.01):
        super().__init__(l1=l1)


class L2(L1L2):
    """l2 Σ w².

    Parameters
    ----------
    l2 : float
        The factor.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.regularizers import L2
    >>> L2(0.5)(np.array([1.0, -2.0]))
    (np.float64(2.5), array([ 1., -2.]))
    """

    def __init__(self, l2: float = 0.01):
        super().__init__(l2=l2)


l1, l2, l1_l2 = L1, L2, L1L2  # as Keras spells them too

REGULARIZERS: dict[str, type[Regularizer]] = {
    "L1": L1, "L2": L2, "L1L2": L1L2, "l1": L1, "l2": L2, "l1_l2": L1L2,
}  # fmt: skip


def get(identifier: Any) -> Regularizer | None:
    """Give the regularizer meant by a name, a description or the object itself; None is none.

    Examples
    --------
    >>> from gru_np import regularizers
    >>> regularizers.get("l1")
    L1()
    """
    return (
        None
        if identifier is None
        else resolve("regularizer", identifier, REGULARIZERS, Regularizer)
    )
