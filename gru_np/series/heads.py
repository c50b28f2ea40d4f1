"""What a model says about a future value: a number, quantiles, or a density.

The last axis of a raw output holds the P numbers of one future value; see `gru_np.likelihoods`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gru_np import losses
from gru_np._aliases import Array
from gru_np._checks import require_choice
from gru_np.likelihoods import normal_quantiles, softplus, student_t_quantiles
from gru_np.series.scores import quantile_weights

POINT = ("mse", "mae", "huber")
KINDS = (*POINT, "quantiles", "gaussian", "student-t")
QUANTILES = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)


class Head:
    """How a model's raw outputs (..., P) become numbers, quantiles and draws.

    Parameters
    ----------
    kind : {"mse", "mae", "huber", "quantiles", "gaussian", "student-t"}
        What is trained: a number, the quantiles at `quantiles` (pinball loss), or a density.
    quantiles : sequence of float
        Levels for kind "quantiles".

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.series.heads import Head
    >>> head = Head("quantiles", [0.1, 0.5, 0.9])
    >>> head.size, head.quantiles(np.array([3.0, 1.0, 2.0]), [0.1, 0.9])
    (3, array([1., 3.]))
    """

    def __init__(self, kind: str = "quantiles", quantiles: Sequence[float] = QUANTILES):
        require_choice("Forecaster", "loss", kind, KINDS)
        self.kind = kind
        self.loss: losses.Loss
        if kind == "quantiles":
            self.loss = losses.Pinball(quantiles)
        elif kind == "gaussian":
            self.loss = losses.GaussianNLL()
        elif kind == "student-t":
            self.loss = losses.StudentTNLL()
        else:
            self.loss = losses.get(kind)
        self.is_point = kind in POINT
        if kind == "quantiles" and len(quantiles) < 2:
            raise ValueError("Forecaster: quantiles must hold two levels at least")
        self.levels = tuple(quantiles)
        self.size = {"quantiles": len(self.levels), "gaussian": 2, "student-t": 3}.get(kind, 1)

    def centre(self, out: Array) -> Array:
        """Give the median (of a point forecast, the point): (...)."""
        return self.quantiles(out, [0.5])[..., 0] if self.kind == "quantiles" else out[..., 0]

    def quantiles(self, out: Array, levels: Any) -> Array:
        """Give quantiles (..., K) at any levels; a point forecast has none of its own."""
        out = out.astype(np.float64)
        if self.kind == "quantiles":
            # Quantiles that cross are put in order: it can only lower the pinball loss.
            return np.sort(out, axis=-1) @ quantile_weights(self.levels, levels)
        if self.kind == "gaussian":
            spread = normal_quantiles(levels)
        elif self.kind == "student-t":
            spread = student_t_quantiles(levels, 2 + softplus(out[..., 2]))
        else:
            raise ValueError(f"a forecast trained with {self.kind} has no quantiles of its own")
        return out[..., :1] + self._scale(out)[..., None] * spread

    def draw(self, out: Array, rng: np.random.Generator) -> Array:
        """Draw one value from each distribution: (...)."""
        out = out.astype(np.float64)
        shape = out.shape[:-1]
        if self.kind == "gaussian":
            return out[..., 0] + self._scale(out) * rng.standard_normal(shape)
        if self.kind == "student-t":
            return out[..., 0] + self._scale(out) * rng.standard_t(2 + softplus(out[..., 2]), shape)
        # Invert the distribution function, a straight line over normal quantiles, at a random place
        x, knots = np.sort(out, axis=-1), normal_quantiles(self.levels)
        z = rng.standard_normal(shape)
        right = np.clip(np.searchsorted(knots, z), 1, len(knots) - 1)
        low, high = (np.take_along_axis(x, i[..., None], -1)[..., 0] for i in (right - 1, right))
        return low + (high - low) * (z - knots[right - 1]) / (knots[right] - knots[right - 1])

    def _scale(self, out: Array) -> Array:
        floor: float = self.loss.floor  # type: ignore[attr-defined]
        return softplus(out[..., 1]) + floor
