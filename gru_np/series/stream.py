"""One observation in, the next forecast out."""

from typing import Any

import numpy as np

from gru_np._aliases import Array
from gru_np._checks import spell
from gru_np.series import features
from gru_np.series.scores import LEVELS, quantile_weights
from gru_np.series.table import Series

AHEAD = 256  # calendar features are computed this many steps at a time


class Stream:
    """Feed a forecaster one row at a time; each costs one step of the GRU.

    Parameters
    ----------
    forecaster : Forecaster
        Fitted, with method "direct" (a recursive forecast costs H steps; use `forecast`).
    series : Series, optional
        Rows to read first; without, the stream begins with nothing known.

    Notes
    -----
    After the same rows, a push returns what `Forecaster.forecast` does, but for rounding. Lags reach
    one season back and are kept here; the model keeps its state.

    Examples
    --------
    >>> from gru_np import series
    >>> data = series.mackey_glass(600)
    >>> forecaster = series.Forecaster("x", horizon=6, units=8, epochs=1, calendar=False)
    >>> stream = forecaster.fit(data, stop=500).stream(data.rows(0, 590))
    >>> point = stream.push(data["x"][590])
    >>> point.shape
    (6, 1)
    """

    def __init__(self, forecaster: Any, series: Series | None = None):
        if forecaster.model is None:
            raise ValueError("stream: the forecaster must be fitted first")
        if forecaster.method != "direct":
            raise ValueError("stream: method must be 'direct'; use forecast for a recursive one")
        self.forecaster = forecaster
        layout = forecaster.layout
        self._layout = layout
        D = len(layout.targets)
        self._model, self._state = forecaster.stepper(), None
        self._tape = np.full((max(layout.season, 1), D), np.nan)  # a ring of carried values
        self._last = np.full(D, np.nan)
        self._base_last = np.full(D, np.nan)
        self._count = 0
        self._calendar: Array = np.zeros((0, layout.calendar))
        self._clock: Any = None
        self._out: Any = None
        self._base: Any = None
        back = layout.season * -(-np.arange(1, layout.horizon + 1) // layout.season)
        self._places = np.arange(1, layout.horizon + 1) - back
        self._last_row_of_series = 0
        if layout.calendar and series is None:
            raise ValueError("stream: a forecaster that reads the calendar needs rows to begin with")
        if series is not None:
            data = forecaster._checked(series)
            self._clock = data.clock
            if layout.calendar:
                times = data.clock.times()
                self._calendar = data.clock.calendar(
                    np.concatenate([times[1:], data.clock.after(AHEAD).astype(times.dtype)])
                )[0]
            z = forecaster.scaling.apply(data.values)
            ahead = [features.shifted(z[:, layout.known], -h) for h in range(1, layout.horizon + 1)]
            known = np.concatenate([*ahead, np.zeros((len(z), 0))], axis=-1)
            for row, following in zip(z, known, strict=True):
                self._push(row, following)

    def push(self, row: Any, known: Any = None) -> Array:
        """Take the next row; give the point forecast (H, D).

        Parameters
        ----------
        row : number or (C,) array
            The columns of the forecaster, in order: targets, past, known; NaN where missing.
        known : (H, K) array, optional
            The known covariates of the H rows that follow, if there are any.
        """
        forecaster = self.forecaster
        values = np.atleast_1d(np.asarray(row, np.float64))
        if values.shape != (len(forecaster.columns),):
            raise ValueError(
                f"push: row must hold {', '.join(forecaster.columns)}, got shape "
                f"{spell(values.shape)}"
            )
        following = np.zeros(0)
        if self._layout.known:
            shape = (self._layout.horizon, len(self._layout.known))
            given = np.asarray(np.nan if known is None else known, np.float64)
            if given.shape != shape:
                raise ValueError(
                    f"push: known must have shape {spell(shape)}, the covariates of the rows that "
                    f"follow, got {spell(given.shape)}"
                )
            places = self._layout.known
            scaling = forecaster.scaling
            following = ((given - scaling.mean[places]) / scaling.std[places]).ravel()
        self._push(forecaster.scaling.apply(values), following)
        scaled = self._base + forecaster.unit * forecaster.head.centre(self._out)
        return forecaster.scaling.undo(scaled, self._layout.targets)

    def quantiles(self, levels: Any = LEVELS) -> Array:
        """Give the quantiles (H, D, J) of the forecast that the last push made."""
        if self._out is None:
            raise ValueError("quantiles: nothing has been pushed yet")
        forecaster = self.forecaster
        if forecaster.head.is_point:
            point = self._base + forecaster.unit * forecaster.head.centre(self._out)
            scaled = point[..., None] + forecaster.spread @ quantile_weights(LEVELS, levels)
        else:
            own = forecaster.head.quantiles(self._out, levels)
            scaled = self._base[..., None] + forecaster.unit[:, None] * own
        return forecaster.scaling.undo(scaled, self._layout.targets, axis=-2)

    def _push(self, z: Array, known: Array) -> None:
        layout, ring = self._layout, self._tape
        t, m = self._count, len(self._tape)
        now = z[layout.targets]
        season = ring[t % m].copy() if layout.season > 1 else None
        calendar = np.zeros(0)
        if layout.calendar:
            if t >= len(self._calendar):
                self._extend_calendar()
            calendar = self._calendar[t]
        row = features.row_features(
            layout, now, self._last, season, z[layout.past], known, calendar
        )
        missing = np.isnan(now)
        self._last = np.where(missing, self._last, now)
        # As `carry` does: a missing value is the last known one of its phase.
        ring[t % m] = np.where(missing, ring[t % m], now)
        self._count = t + 1
        out, self._state = self._model.step(row[None].astype(np.float32), self._state)
        D = len(layout.targets)
        self._out = out.reshape(layout.horizon, D, self.forecaster.head.size)
        if layout.base == "none":
            base = np.zeros((1, D))
        elif layout.base == "last":
            base = self._last[None]
        else:
            base = ring[(t + self._places) % m]
            base = np.where((t + self._places < 0)[:, None] | np.isnan(base), self._last, base)
        self._base = np.where(np.isnan(base), 0.0, base)

    def _extend_calendar(self) -> None:
        """Compute the calendar of the steps that follow the last ones."""
        done = len(self._calendar) + 1 - self._clock.rows
        times = self._clock.after(done + AHEAD - 1)[done - 1 :]
        more = self._clock.calendar(times)[0]
        self._calendar = np.concatenate([self._calendar, more])
