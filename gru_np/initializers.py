"""How parameters begin. (Placeholder: the full module lands separately and replaces this file.)"""

from collections.abc import Callable
from typing import Any

import numpy as np

from gru_np._aliases import Array


def get(name: Any) -> Callable[..., Array]:
    """Give the initialiser of this name."""

    def draw(shape: Any, rng: Any, dtype: Any) -> Array:
        if name == "zeros":
            return np.zeros(shape, dtype)
        if name == "ones":
            return np.ones(shape, dtype)
        if name == "uniform":
            return rng.uniform(-0.05, 0.05, shape).astype(dtype)
        if name == "orthogonal":
            rows, columns = shape
            q, r = np.linalg.qr(rng.standard_normal((max(shape), min(shape))))
            q = q * np.sign(np.diag(r))
            return (q if rows >= columns else q.T).astype(dtype)
        limit = np.sqrt(6 / sum(shape))
        return rng.uniform(-limit, limit, shape).astype(dtype)

    return draw
