"""Forecasts that anyone can make without a model: what a model has to beat.

Notation: t the origin, the last row that is known; h = 1 ... H the step ahead; m the season.

    persistence        x_t
    drift              x_t + h (x_t - x_0) / t
    seasonal naive     x_{t + h - m k},              k the least whole number with m k ≥ h
    seasonal + drift   x_{t + h - m k} + m k (x_t - x_0) / t

Their intervals are the quantiles of their own errors over the training rows, for each h.
"""

from typing import Any

import numpy as np

from gru_np._aliases import Array
from gru_np._checks import require_count, require_rank
from gru_np._intake import as_floats, as_integers
from gru_np.series.clock import Clock


def carry(values: Array, lag: int = 1) -> Array:
    """Fill missing rows of (N, C) with the last known value `lag` rows, or 2 lag, ... before.

    For naive forecasts and differences only, where there must be some last value; the model sees
    that it was missing. What has nothing before it stays NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.series.naive import carry
    >>> carry(np.array([[1.0], [2.0], [np.nan], [np.nan]]), 2).ravel()
    array([1., 2., 1., 2.])
    """
    filled = np.array(as_floats("carry", values, "values", real=True))
    require_rank("carry", "values", filled, ("rows", "columns"))
    lag = require_count("carry", "lag", lag)
    N = len(filled)
    for phase in range(min(lag, N)):
        part = filled[phase::lag]
        seen = np.where(np.isnan(part), -1, np.arange(len(part))[:, None])
        last = np.maximum.accumulate(seen, axis=0)
        taken = np.take_along_axis(part, np.maximum(last, 0), axis=0)
        filled[phase::lag] = np.where(last < 0, np.nan, taken)
    return filled


def as_rows(who: str, origins: Any, N: int) -> Array:
    """Give origins as an array (n,) of rows, or raise."""
    found = as_integers(who, origins, "origins", "integers, of rows")
    require_rank(who, "origins", found, ("origins",))
    wrong = found[(found < 0) | (found >= N)]
    if wrong.size or not found.size:
        arrived = str(wrong[0]) if wrong.size else "none"
        raise ValueError(f"{who}: origins must be rows in 0..{N - 1}, got {arrived}")
    return found


def naive_forecasts(
    values: Array, origins: Array, horizon: int, season: int = 1
) -> dict[str, Array]:
    """Make every naive forecast at the given origins.

    Parameters
    ----------
    values : (N, C)
        The series; only rows up to each origin are looked at for it.
    origins : (n,) int
        Rows t.
    horizon, season : int
        H; m, where 1 leaves the seasonal ones out.

    Returns
    -------
    dict of str to (n, H, C)

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.series import naive_forecasts
    >>> forecasts = naive_forecasts(np.array([[1.0], [5.0], [3.0], [7.0]]), np.array([3]), 3, 2)
    >>> {name: forecast.ravel().tolist() for name, forecast in forecasts.items()}
    {'persistence': [7.0, 7.0, 7.0], 'drift': [9.0, 11.0, 13.0], \
'seasonal naive': [3.0, 7.0, 3.0], 'seasonal + drift': [7.0, 11.0, 11.0]}
    """
    values = as_floats("naive_forecasts", values, "values", real=True)
    require_rank("naive_forecasts", "values", values, ("rows", "columns"))
    origins = as_rows("naive_forecasts", origins, len(values))
    horizon = require_count("naive_forecasts", "horizon", horizon)
    season = require_count("naive_forecasts", "season", season)
    h = np.arange(1, horizon + 1)
    last = carry(values)
    here = last[origins][:, None]  # (n, 1, C)
    known = ~np.isnan(last)
    first = np.where(known.any(axis=0), known.argmax(axis=0), 0)  # (C,)
    beginning = last[first, np.arange(values.shape[1])]
    run = np.maximum(origins[:, None] - first, 1)  # (n, C)
    slope = ((here[:, 0] - beginning) / run)[:, None]
    found = {
        "persistence": np.broadcast_to(here, (len(origins), horizon, values.shape[1])),
        "drift": here + h[:, None] * slope,
    }
    if season > 1:
        back = season * -(-h // season)  # (H,)
        place = origins[:, None] + h - back  # (n, H)
        seasonal = carry(values, season)[np.maximum(place, 0)]
        seasonal = np.where((place < 0)[..., None], here, seasonal)
        seasonal = np.where(np.isnan(seasonal), here, seasonal)
        found["seasonal naive"] = seasonal
        found["seasonal + drift"] = seasonal + back[:, None] * slope
    return found


def find_season(values: Array, clock: Clock | None = None) -> int:
    """Find the season of training rows (N, C), in rows; 1 if there is none.

    Of the periods the calendar suggests (a day, a week, a year), of which there must be two at
    least, and of the strongest peaks of the autocorrelation, the one with the least mean
    |x_t - x_{t-m}| over the columns, each in units of its spread.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.series import find_season
    >>> find_season(np.sin(2 * np.pi * np.arange(300) / 25)[:, None])
    25
    """
    values = as_floats("find_season", values, "values", real=True)
    require_rank("find_season", "values", values, ("rows", "columns"))
    N = len(values)
    if not np.isfinite(values).any(axis=0).all() or np.isinf(values).any() or not values.size:
        return 1
    candidates = [m for m in (clock.seasons() if clock else []) if 2 * m <= N]
    spread = np.nanstd(values, axis=0)
    scaled = carry(values / np.where(spread > 0, spread, 1))
    candidates += _autocorrelation_peaks(scaled[~np.isnan(scaled).any(axis=1)])
    if not candidates:
        return 1
    errors = [np.nanmean(np.abs(scaled[m:] - scaled[:-m])) for m in candidates]
    return candidates[int(np.argmin(errors))]


def _autocorrelation_peaks(values: Array, least: float = 0.3) -> list[int]:
    """Give the lags where the autocorrelation of differences peaks highest; none if it is low.

    And of the first peak that is nearly as high: a day, say, beside a week.

    Of differences, because the levels of a random walk have high and meaningless peaks.
    """
    if len(values) < 12:
        return []
    centred = np.diff(values, axis=0)
    centred = centred - centred.mean(axis=0)
    N = len(centred)
    spectrum = np.fft.rfft(centred, 2 * N, axis=0)
    r = np.fft.irfft(np.abs(spectrum) ** 2, axis=0)[: N // 3 + 1].sum(axis=1)
    if not r[0] > 0:
        return []
    r = r / r[0] * N / (N - np.arange(len(r)))  # each lag by its number of terms
    inner = np.arange(2, len(r) - 1)
    peaks = inner[(r[inner] > r[inner - 1]) & (r[inner] >= r[inner + 1]) & (r[inner] > least)]
    if not peaks.size:
        return []
    high = peaks[r[peaks] > 0.9 * r[peaks].max()]
    return sorted({int(high[0]), int(peaks[r[peaks].argmax()])})
