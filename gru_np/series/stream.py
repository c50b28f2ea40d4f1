"""One observation in, the next forecast out."""

from typing import Any

import numpy as np

from gru_np import kernels
from gru_np._aliases import Array
from gru_np._checks import spell
from gru_np._intake import as_floats
from gru_np.layers import GRU
from gru_np.series import features
from gru_np.series.naive import carry
from gru_np.series.scores import LEVELS
from gru_np.series.table import Series

_NOTHING: Any = None
AHEAD = 256  # calendar features are computed this many steps at a time


class Stream:
    """Feed a forecaster one row at a time; each costs one step of the GRU.

    Parameters
    ----------
    forecaster : Forecaster
        Fitted, with method "direct" (a recursive forecast costs H steps; use `forecast`).
    series : Series, optional
        Rows to read first; without, the stream begins with nothing known. Rows after the last
        known target give the future of known covariates.

    Notes
    -----
    After the same rows, a push returns what `Forecaster.forecast` does, but for rounding.
    Lags reach one season back and are kept here. Making a stream loads the compiled kernels.

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
        if kernels.available():  # a stream is long: loading the kernels pays
            kernels.load()
        self.forecaster = forecaster
        layout = forecaster.layout
        self._layout = layout
        D = len(layout.targets)
        self._model, self._state = forecaster.stepper(), _NOTHING
        self._tape = np.full((max(layout.season, 1), D), np.nan)  # a ring of carried values
        self._last = np.full(D, np.nan)
        self._count = 0
        self._calendar: Array = np.zeros((0, layout.calendar))
        self._clock: Any = None
        self._first = 0  # rows that were read at the beginning
        self._out: Any = None
        self._base: Any = None
        back = layout.season * -(-np.arange(1, layout.horizon + 1) // layout.season)
        self._places = np.arange(1, layout.horizon + 1) - back
        if layout.calendar and series is None:
            raise ValueError(
                "stream: a forecaster that reads the calendar needs rows to begin with"
            )
        if series is not None:
            self._begin(series)

    def _begin(self, series: Series) -> None:
        """Read the rows before the stream in one pass."""
        forecaster, layout = self.forecaster, self._layout
        data = forecaster._checked(series)
        # Rows without a target at the end hold known covariates of the future.
        seen = ~np.isnan(data.values[:, layout.targets]).all(axis=1)
        N = int(np.flatnonzero(seen)[-1]) + 1 if layout.known and seen.any() else len(data)
        self._clock = data.clock.rows_between(0, N)
        z = forecaster.scaling.apply(data.values)
        x = forecaster._features(z, data.clock)[:N]
        z = z[:N]
        out, states = forecaster.run(x, np.array([N - 1]))
        each = iter(states)
        self._state = [
            next(each) if isinstance(layer, GRU) else None for layer in self._model.layers
        ]
        m, own = len(self._tape), z[:, layout.targets]
        carried = carry(own, m)[max(N - m, 0) :]
        self._tape[np.arange(N - len(carried), N) % m] = carried
        self._last = carry(own)[-1]
        self._first, self._count = N, N
        self._forecast(out)

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
        values = np.atleast_1d(as_floats("push", row, "row", real=True).astype(np.float64))
        _refuse_infinity(values, "row")
        if values.shape != (len(forecaster.columns),):
            raise ValueError(
                f"push: row must hold {', '.join(forecaster.columns)}, got shape "
                f"{spell(values.shape)}"
            )
        following = np.zeros(0)
        if self._layout.known:
            shape = (self._layout.horizon, len(self._layout.known))
            given = as_floats("push", np.nan if known is None else known, "known", real=True)
            _refuse_infinity(given, "known")
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
        point = self._base + forecaster.unit * forecaster.head.centre(self._out)
        scaled = forecaster._quantiles(self._out, self._base, point, levels)
        return forecaster.scaling.undo(scaled, self._layout.targets, axis=-2)

    def _push(self, z: Array, known: Array) -> None:
        layout, ring = self._layout, self._tape
        t, m = self._count, len(self._tape)
        now = z[layout.targets]
        season = ring[t % m].copy() if layout.season > 1 else None
        calendar = np.zeros(0)
        if layout.calendar:
            if t - self._first >= len(self._calendar):
                self._extend_calendar()
            calendar = self._calendar[t - self._first]
        row = features.row_features(
            layout, now, self._last, season, z[layout.past], known, calendar
        )
        missing = np.isnan(now)
        self._last = np.where(missing, self._last, now)
        # As `carry` does: a missing value is the last known one of its phase.
        ring[t % m] = np.where(missing, ring[t % m], now)
        self._count = t + 1
        out, self._state = self._model.step(row[None].astype(np.float32), self._state)
        self._forecast(out)

    def _forecast(self, out: Array) -> None:
        """Keep the outputs after the last row, and what they are measured from."""
        layout, ring, t = self._layout, self._tape, self._count - 1
        m, D = len(ring), len(layout.targets)
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
        done = len(self._calendar) + 1  # the calendar of a row is that of the next one
        times = self._clock.after(done + AHEAD)[done:]
        more = self._clock.calendar(times)[0]
        self._calendar = np.concatenate([self._calendar, more])


def _refuse_infinity(values: Array, what: str) -> None:
    if np.isinf(values).any():
        raise ValueError(f"push: {what} must hold no infinity, got {values}; NaN is missing")
