"""What forecasts are scored with. Missing truths are left out of every mean.

Notation: n origins, H horizon, C columns, J levels.
"""

from functools import lru_cache
from typing import Any

import numpy as np

from gru_np._aliases import Array
from gru_np._checks import require_count, require_rank, spell
from gru_np._intake import as_array, as_floats
from gru_np.likelihoods import normal_quantiles, pinball

LEVELS = tuple(round(0.05 * j, 2) for j in range(1, 20))  # where the CRPS is taken


def mae(y: Array, x: Array) -> float:
    """Mean absolute error: mean |y - x|.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.series import scores
    >>> scores.mae(np.array([1.0, np.nan, 3.0]), np.array([2.0, 2.0, 2.5]))
    0.75
    """
    y, x = _alike("mae", y=y, x=x)
    return _mean(np.abs(y - x))


def rmse(y: Array, x: Array) -> float:
    """Root mean squared error: √ mean (y - x)².

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.series import scores
    >>> scores.rmse(np.array([0.0, 0.0]), np.array([1.0, 7.0]))
    5.0
    """
    y, x = _alike("rmse", y=y, x=x)
    return float(np.sqrt(_mean((y - x) ** 2)))


def smape(y: Array, x: Array) -> float:
    """Symmetric mean absolute percentage error: 100 mean 2|y - x| / (|y| + |x|), 0 where both are.

    Notes
    -----
    Between 0 and 200; misleading where values come near zero. Source: Makridakis 1993, as in M4.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.series import scores
    >>> round(scores.smape(np.array([90.0]), np.array([110.0])), 6)
    20.0
    """
    y, x = _alike("smape", y=y, x=x)
    size = np.abs(y) + np.abs(x)
    return 200 * _mean(np.where(size == 0, 0, np.abs(y - x) / np.where(size == 0, 1, size)))


def mase_scale(values: Array, season: int) -> Array:
    """Give the mean of |x_t - x_{t-m}| over the training rows (N, C), by which MASE divides: (C,).

    Notes
    -----
    Source: Hyndman and Koehler, Int. J. Forecasting 22 (2006) 679-688.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.series import scores
    >>> scores.mase_scale(np.array([[1.0], [3.0], [2.0], [5.0]]), 2)
    array([1.5])
    """
    values = as_floats("mase_scale", values, "values", real=True)
    require_rank("mase_scale", "values", values, ("rows", "columns"))
    season = require_count("mase_scale", "season", season)
    difference = np.abs(values[season:] - values[:-season])
    seen = ~np.isnan(difference)
    return np.where(seen, difference, 0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)


def crps(y: Array, quantiles: Array, levels: Any = LEVELS) -> float:
    """Continuous ranked probability score, from quantiles (..., J): twice the mean pinball loss.

        CRPS = 2 ∫ l_q(y, F⁻¹(q)) dq ≈ 2 / J Σ_j l_{q_j}(y, x_j)

    In the units of y. Of a point forecast it is the mean absolute error.

    Notes
    -----
    With the 19 levels 0.05 ... 0.95 the tails beyond are left out. Source: Gneiting and Raftery,
    JASA 102 (2007) 359-378.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.series import scores
    >>> y = np.array([2.0])
    >>> round(scores.crps(y, np.full((1, 19), 1.5)), 6)
    0.5
    """
    levels = as_levels("crps", levels)
    y = as_floats("crps", y, "y", real=True)
    quantiles = as_floats("crps", quantiles, "quantiles", real=True)
    require_rank("crps", "quantiles", quantiles, (*y.shape, len(levels)))
    with np.errstate(invalid="ignore"):  # of an infinity nothing is left
        loss, _ = pinball(y[..., None], quantiles, levels)
    return 2 * _mean(loss)


def coverage(y: Array, low: Array, high: Array) -> float:
    """Share of truths inside the interval low ≤ y ≤ high.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.series import scores
    >>> scores.coverage(np.array([1.0, 5.0]), np.zeros(2), np.full(2, 2.0))
    0.5
    """
    y, low, high = _alike("coverage", y=y, low=low, high=high)
    return _mean(np.where(np.isnan(y), np.nan, (y >= low) & (y <= high)))


def quantile_weights(given: Any, wanted: Any) -> Array:
    """Give W (J, K) so that `x @ W` takes quantiles at J levels to K others.

    Between two given levels, and beyond the outermost, the quantile is a straight line over the
    normal quantile of its level: exact for a normal distribution.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.series import scores
    >>> np.array([-1.0, 0.0, 1.0]) @ scores.quantile_weights([0.1, 0.5, 0.9], [0.1, 0.5])
    array([-1.,  0.])
    """
    knots = as_levels("quantile_weights", given, "given")
    if len(knots) < 2 or (np.diff(knots) <= 0).any():
        raise ValueError(f"quantile_weights: given must be two rising levels or more, got {given}")
    return _quantile_weights(
        tuple(knots.tolist()), tuple(as_levels("quantile_weights", wanted, "wanted").tolist())
    )


@lru_cache(maxsize=64)
def _quantile_weights(given: tuple[float, ...], wanted: tuple[float, ...]) -> Array:
    knots, query = normal_quantiles(given), normal_quantiles(wanted)
    right = np.clip(np.searchsorted(knots, query), 1, len(knots) - 1)
    share = (query - knots[right - 1]) / (knots[right] - knots[right - 1])
    W = np.zeros((len(knots), len(query)))
    W[right, np.arange(len(query))] += share
    W[right - 1, np.arange(len(query))] += 1 - share
    W.flags.writeable = False
    return W


def as_levels(who: str, levels: Any, what: str = "levels") -> Array:
    """Give levels of quantiles as an array (J,), or raise."""
    found = as_array(who, levels, what, "f", "levels in (0, 1)", finite=True).astype(np.float64)
    require_rank(who, what, found, ("levels",))
    wrong = found[(found <= 0) | (found >= 1)]
    if wrong.size or not found.size:
        arrived = f"{wrong[0]:g}" if wrong.size else "none"
        raise ValueError(f"{who}: {what} must be levels in (0, 1), got {arrived}")
    return found


def _alike(who: str, **arrays: Any) -> list[Array]:
    """Take in arrays of one shape; NumPy would make one of (n, n) out of (n,) and (n, 1)."""
    found = {name: as_floats(who, x, name, real=True) for name, x in arrays.items()}
    (first, y), *others = found.items()
    for name, x in others:
        if x.shape != y.shape:
            raise ValueError(
                f"{who}: {name} must have the shape of {first}, {spell(y.shape)}, got "
                f"{spell(x.shape)}"
            )
    return list(found.values())


def _mean(values: Array) -> float:
    """Mean of what is not NaN; NaN if nothing is left."""
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if kept.size else float("nan")
