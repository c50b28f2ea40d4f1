"""What the model reads at each step, and what its outputs are measured from.

All in scaled values z; t is a step, m the season, H the horizon. A step's features, in this order:

    level      z_t                       of each target, if its level is steady
    change     z_t - z_{t-1}             of each target
    season     z_t - z_{t-m}             of each target, if there is a season
    past       z_t                       of each past covariate
    unknown    1 where z_t is missing    of each of these columns that has gaps in training
    known      z_{t+1} ... z_{t+H}       of each known covariate
    calendar   of the time t + 1         sine and cosine of time of day, week, year

A missing value enters as 0, the mean, beside its flag. The outputs are measured from a base, the
naive forecast that suits the training rows best (`probe`), in units of its error there:

    z_{t+h} = base_{t,h} + unit · output_h
    base = 0 ("none"), z_t ("last") or z_{t+h-mk}, m k ≥ h ("season")

so an untrained model is a naive forecast, and training learns what is left to learn.
"""

from typing import Any, NamedTuple

import numpy as np

from gru_np._aliases import Array
from gru_np.series.naive import carry

BASES = ("none", "last", "season")


class Layout(NamedTuple):
    """Which columns are what, and which features are made of them; all JSON."""

    targets: list[int]
    past: list[int]
    known: list[int]
    horizon: int  # of the model's outputs: 1 if it is recursive
    season: int  # m, or 1
    base: str
    level: bool
    flags: list[int]  # positions in targets + past that get a flag
    calendar: int  # number of calendar features
    change: list[float]  # deviation of z_t - z_{t-1} in training, by target
    seasonal_change: list[float]  # of z_t - z_{t-m}

    @property
    def size(self) -> int:
        """Count the features."""
        D = len(self.targets)
        own = D * (self.level + 1 + (self.season > 1))
        return own + len(self.past) + len(self.flags) + len(self.known) * self.horizon + (
            self.calendar
        )  # fmt: skip


def row_features(
    layout: Layout,
    now: Array,
    before: Array,
    season: Array | None,
    past: Array,
    known: Array,
    calendar: Array,
) -> Array:
    """Put features together from arrays with any leading axes; the last runs over columns.

    now, before, season: z_t, z_{t-1}, z_{t-m} of the targets, (..., D); past (..., Q);
    known (..., H K); calendar (..., F).
    """
    parts = [now] if layout.level else []
    parts.append((now - before) / np.array(layout.change))
    if season is not None:
        parts.append((now - season) / np.array(layout.seasonal_change))
    parts.append(past)
    if layout.flags:
        seen = np.concatenate([now, past], axis=-1)[..., layout.flags]
        parts.append(np.isnan(seen).astype(now.dtype))
    parts += [known, calendar]
    row = np.concatenate(parts, axis=-1)
    row[np.isnan(row)] = 0
    return row


def all_features(layout: Layout, z: Array, calendar: Array) -> Array:
    """Give the features of every row of z (N, C): (N, F); calendar is that of the next row."""
    now, past = z[:, layout.targets], z[:, layout.past]
    before = shifted(carry(now), 1)
    season = shifted(carry(now, layout.season), layout.season) if layout.season > 1 else None
    ahead = [shifted(z[:, layout.known], -h) for h in range(1, layout.horizon + 1)]
    known = np.concatenate([*ahead, np.zeros((len(z), 0))], axis=-1)
    return row_features(layout, now, before, season, past, known, calendar)


def bases(layout: Layout, targets: Array, origins: Array) -> Array:
    """Give the base of every forecast from z of the targets (N, D): (n, H, D)."""
    return base_of(targets, origins, layout.horizon, layout.base, layout.season)


def base_of(targets: Array, origins: Array, horizon: int, base: str, season: int) -> Array:
    """Give z forecast by the base alone; NaN where nothing is known yet."""
    h = np.arange(1, horizon + 1)
    if base == "none":
        return np.zeros((len(origins), horizon, targets.shape[1]))
    if base == "last":
        last = carry(targets)[origins][:, None]
        return np.broadcast_to(last, (len(origins), horizon, targets.shape[1]))
    place = origins[:, None] + h - season * -(-h // season)
    found = carry(targets, season)[np.maximum(place, 0)]
    return np.where((place < 0)[..., None], np.nan, found)


def truths(targets: Array, origins: Array, horizon: int) -> Array:
    """Give what came after each origin, NaN beyond the end: (n, H, D)."""
    place = origins[:, None] + np.arange(1, horizon + 1)
    found = targets[np.minimum(place, len(targets) - 1)]
    return np.where((place >= len(targets))[..., None], np.nan, found)


def shifted(values: Array, by: int) -> Array:
    """Give row t - by at row t, NaN where there is none."""
    out = np.full_like(values, np.nan)
    if by > 0:
        out[by:] = values[: len(values) - by]
    else:
        out[: len(values) + by] = values[-by:]
    return out


def probe(
    layout: Layout, z: Array, calendar: Array, bends: int = 0, lags: int = 16, most: int = 3000
) -> float:
    """Say how well a simple model does from a base: what its error is on rows it was not fitted to.

    Ridge regression from the last `lags` features of training rows to all H steps, fitted on the
    first three quarters; the mean absolute error on the last. A base is good if what is left of it
    can be forecast, which its own error does not tell. With `bends` the better of this and of a
    regression that has so many random tanh of the features as well.
    """
    own = z[:, layout.targets]
    x = all_features(layout, z, calendar)
    first = max(layout.season, 1) + lags
    rows = np.arange(first, len(z) - layout.horizon)
    rows = rows[:: max(1, -(-len(rows) // most))]
    left = truths(own, rows, layout.horizon) - bases(layout, own, rows)
    left = left.reshape(len(rows), -1)
    known = ~np.isnan(left).any(axis=1)
    rows, left = rows[known], left[known]
    lagged = layout.size - layout.calendar - len(layout.known) * layout.horizon
    parts = [x[rows], *(x[rows - j, :lagged] for j in range(1, lags)), np.ones((len(rows), 1))]
    A = np.concatenate(parts, axis=1)
    cut = len(rows) * 3 // 4
    if cut < 20:
        return float(np.abs(left).mean()) if len(left) else np.inf

    def error(A: Array) -> float:
        gram = A[:cut].T @ A[:cut]
        ridge = 1e-3 * np.trace(gram) / len(gram) * np.eye(len(gram))
        weights = np.linalg.solve(gram + ridge, A[:cut].T @ left[:cut])
        return float(np.abs(left[cut:] - A[cut:] @ weights).mean())

    if not bends:
        return error(A)
    mean, std = A[:cut].mean(axis=0), A[:cut].std(axis=0)
    S = (A - mean) / np.where(std > 1e-9, std, 1)
    rng = np.random.default_rng(0)
    W = rng.standard_normal((S.shape[1], bends)) * 2 / np.sqrt(S.shape[1])
    bent = np.tanh(S @ W + rng.standard_normal(bends))
    return min(error(A), error(np.concatenate([S, bent, np.ones((len(S), 1))], axis=1)))


def is_steady(targets: Array) -> bool:
    """Answer whether the level of training rows of z stays where it is.

    The means of the two halves lie within 0.7 deviations, of every target.
    """
    halves = np.array_split(targets, 2)
    means: Any = [np.nanmean(h, axis=0) if (~np.isnan(h)).any() else 0.0 for h in halves]
    return bool(np.all(np.abs(means[0] - means[1]) < 0.7))


def spread(difference: Array) -> list[float]:
    """Root mean square of each column, 1 where there is nothing."""
    known = ~np.isnan(difference)
    square = np.where(known, difference, 0) ** 2
    size = np.sqrt(square.sum(axis=0) / np.maximum(known.sum(axis=0), 1))
    return [float(s) if s > 1e-12 else 1.0 for s in size]
