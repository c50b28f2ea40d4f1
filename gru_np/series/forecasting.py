"""The forecaster: a GRU that reads a series step by step and says at each what comes next.

    z_1 ... z_t -> features -> GRU -> Dense -> outputs for t+1 ... t+H -> numbers, quantiles

At every step of a training window the model forecasts all H steps, so one pass over the rows makes
the forecasts from every origin, and one `push` of a stream costs one step. See `features.py`.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from gru_np._aliases import Array
from gru_np._checks import require_choice, require_count, require_rate
from gru_np._schema import Count, require_fields, require_settings
from gru_np.callbacks import Callback, EarlyStopping
from gru_np.layers import GRU, Dense, Dropout
from gru_np.layers.reshape import Reshape
from gru_np.model import Sequential
from gru_np.optimizers import Adam
from gru_np.schedules import CosineDecay
from gru_np.series import features
from gru_np.series.clock import Clock
from gru_np.series.features import Layout
from gru_np.series.forecast import Forecast
from gru_np.series.heads import QUANTILES, Head
from gru_np.series.naive import as_rows, carry, find_season
from gru_np.series.scores import LEVELS, as_levels
from gru_np.series.table import Series, as_names
from gru_np.series.windows import Parts, Scaling

CHUNK = 512  # steps of one pass, to bound memory
MARK = "gru_np forecaster"


class Forecaster:
    """Forecast columns of a series with a GRU.

    Parameters
    ----------
    targets : str or sequence of str
        The columns to forecast.
    horizon : int
        H, steps ahead.
    lookback : int, optional
        Steps of a training window; three seasons or two horizons, 48 to 256, if not given.
    past, known : str or sequence of str
        Covariates: columns that are known up to the origin, and columns whose future is known too
        (holidays, prices that were announced).
    calendar : bool
        Read the time of day, week and year, where the series has times.
    method : {"direct", "recursive"}
        All H steps at once, or one step, fed back H times; then a distribution is sampled, `paths`
        times.
    loss : {"quantiles", "gaussian", "student-t", "mse", "mae", "huber"}
        What to learn: quantiles, a density, or a number. A number gets intervals from the errors
        on the validation rows.
    quantiles : sequence of float
        Levels of loss "quantiles".
    units, layers, dropout
        Size of the GRUs, how many on top of each other, dropout after each.
    season : int, optional
        m; found by `find_season` on the training rows if not given, 1 for none.
    base : {"auto", "none", "last", "season"}
        What the outputs are measured from; "auto" takes what is best on the training rows.
    log : bool
        Forecast the logarithm of the targets, for values above zero that grow by shares.
    epochs, patience, batch_size, learning_rate
        Of training; it stops when the validation loss has not improved for `patience` epochs.
    paths : int
        Draws of a recursive forecast.
    seed : int
        Decides everything random.

    Attributes
    ----------
    model : Sequential
    parts : Parts
        Rows of training and of validation.
    layout, scaling : Layout, Scaling
        What is made of the columns, how they are scaled; from training rows only.

    Notes
    -----
    The scaling, the season, the base and all weights come from rows before `parts.train`; rows of
    validation decide when to stop and how wide the intervals are (`calibrate`).

    Examples
    --------
    >>> from gru_np import series
    >>> data = series.mackey_glass(600)
    >>> forecaster = series.Forecaster("x", horizon=6, units=8, epochs=2, seed=0)
    >>> _ = forecaster.fit(data, stop=500)
    >>> forecast = forecaster.forecast(data)
    >>> forecast.point.shape, forecast.quantiles.shape
    ((6, 1), (6, 1, 19))
    """

    def __init__(
        self,
        targets: str | Sequence[str],
        horizon: int = 24,
        lookback: int | None = None,
        *,
        past: str | Iterable[str] = (),
        known: str | Iterable[str] = (),
        calendar: bool = True,
        method: str = "direct",
        loss: str = "quantiles",
        quantiles: Sequence[float] = QUANTILES,
        units: int = 64,
        layers: int = 1,
        dropout: float = 0.0,
        season: int | None = None,
        base: str = "auto",
        log: bool = False,
        epochs: int = 60,
        patience: int = 8,
        batch_size: int = 16,
        learning_rate: float = 3e-3,
        paths: int = 200,
        seed: int = 0,
    ):
        who = "Forecaster"
        self.targets = as_names(who, "targets", targets)
        self.past, self.known = as_names(who, "past", past), as_names(who, "known", known)
        if not self.targets:
            raise ValueError(f"{who}: targets must name a column at least")
        names = self.targets + self.past + self.known
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"{who}: column {twice!r} must have one role, got two")
        require_choice(who, "method", method, ["direct", "recursive"])
        require_choice(who, "base", base, ["auto", *features.BASES])
        if method == "recursive" and self.past:
            raise ValueError(
                f"{who}: a recursive forecast would need the future of the past covariates "
                f"{', '.join(self.past)}; use method='direct', or known= if their future is known"
            )
        self.horizon = require_count(who, "horizon", horizon)
        self.lookback = None if lookback is None else require_count(who, "lookback", lookback, 2)
        self.calendar, self.method, self.log = bool(calendar), method, bool(log)
        self.loss = loss
        self.quantiles = tuple(as_levels(who, quantiles, "quantiles").tolist())
        self.head = Head(loss, self.quantiles)
        self.units = require_count(who, "units", units)
        self.layers = require_count(who, "layers", layers)
        self.dropout = require_rate(who, "dropout", dropout)
        self.season = None if season is None else require_count(who, "season", season)
        self.base = base
        self.epochs = require_count(who, "epochs", epochs)
        self.patience = require_count(who, "patience", patience)
        self.batch_size = require_count(who, "batch_size", batch_size)
        if isinstance(learning_rate, bool) or not 0 < learning_rate < np.inf:
            raise ValueError(
                f"{who}: learning_rate must be above 0 and finite, got {learning_rate!r}"
            )
        self.learning_rate = learning_rate
        self.paths = require_count(who, "paths", paths)
        self.seed = require_count(who, "seed", seed, least=0)
        self.model: Any = None
        self.parts: Parts | None = None
        self.layout: Any = None
        self.scaling: Any = None
        self.unit = np.ones(len(self.targets))
        self.spread: Array | None = None  # (H, D, 19) quantiles of a point forecast's own errors
        self.widths: Array | None = None  # (H, D) by which the quantiles of a direct one are spread
        self.trained: dict[str, Any] = {}  # what is told of the training rows

    # ----------------------------------------------------------------------------------- training

    @property
    def columns(self) -> list[str]:
        """Name the columns that are read, in the order of the arrays."""
        return self.targets + self.past + self.known

    def fit(
        self,
        series: Series,
        stop: int | None = None,
        validation: float | int = 0.15,
        verbose: Any = 0,
        callbacks: Iterable[Callback] | None = None,
    ) -> "Forecaster":
        """Train on the rows before `stop`; their last share is kept to stop by.

        Parameters
        ----------
        series : Series
        stop : int, optional
            The first row that is not to be seen at all; all rows if not given.
        validation : float or int
            Share, or number, of the rows before `stop` for validation.
        verbose, callbacks
            As for `Sequential.fit`.

        Returns
        -------
        Forecaster
            Itself.
        """
        data = _select(series, self.columns)
        parts = self._parts(data, stop, validation)
        data = data.rows(0, parts.validation)  # nothing after it is ever looked at
        self.parts = parts
        self.scaling = Scaling.of(data, parts, self.targets if self.log else ())
        z = self.scaling.apply(data.values)
        self.trained = {}
        self.layout = self._layout(z[: parts.train], data.clock.rows_between(0, parts.train))
        self.lookback = self._lookback(parts.train)
        x, y, weight, held_out = self._examples(z, data.clock, parts)
        self.trained |= {
            "until": int(data.clock.times()[-1].astype(np.int64)),
            "rows": parts.validation,
            "parts": list(parts),
            "clock": data.clock.to_config(),
            "mase": self._mase_scale(data.values[: parts.train]),
        }
        self.model = self.build_model()
        # A schedule over the whole run; stopping early cuts it short.
        steps = self.epochs * -(-len(x) // self.batch_size)
        rate = CosineDecay(self.learning_rate, steps, alpha=0.05)
        self.model.compile(self.head.loss, Adam(rate, global_clipnorm=1.0))
        stopping = EarlyStopping(patience=self.patience, restore_best_weights=True)
        self.model.fit(
            x, y, sample_weight=weight, validation_data=held_out, epochs=self.epochs,
            batch_size=self.batch_size, verbose=verbose, callbacks=[stopping, *(callbacks or ())],
        )  # fmt: skip
        self.trained["epochs"] = stopping.best_epoch + 1
        self.model.extras["forecaster"] = self.get_config()
        self.calibrate(data)
        self.model.extras["forecaster"] = self.get_config()
        return self

    def build_model(self) -> Sequential:
        """Make the untrained model: GRUs, a Dense layer, P numbers for each future value."""
        layers: list[Any] = []
        for _ in range(self.layers):
            layers.append(GRU(self.units, return_sequences=True))
            if self.dropout:
                layers.append(Dropout(self.dropout))
        values = self.layout.horizon * len(self.targets)
        layers += [Dense(values * self.head.size), Reshape((-1, values, self.head.size))]
        model = Sequential(layers, seed=self.seed, name="forecaster")
        model.build((None, None, self.layout.size))
        return model

    def _parts(self, data: Series, stop: int | None, validation: float | int) -> Parts:
        N = len(data)
        if stop is None:
            # Rows after the last known target hold known covariates of the future, no more.
            D = len(self.targets)
            seen = np.flatnonzero(~np.isnan(data.values[:, :D]).all(axis=1))
            stop = int(seen[-1]) + 1 if seen.size else N
        if not 0 < stop <= N:
            raise ValueError(f"fit: stop must be between 1 and the {N} rows, got {stop}")
        is_count = isinstance(validation, int | np.integer) and not isinstance(validation, bool)
        if not is_count and not 0 < validation < 1:
            raise ValueError(f"fit: validation must be a share between 0 and 1, got {validation}")
        held = int(validation) if is_count else round(validation * stop)
        held = max(held, 1)
        need = max(3 * self._model_horizon, 12)
        if stop - held < need:
            raise ValueError(
                f"fit: a horizon of {self.horizon} needs {need} training rows at least, got "
                f"{stop - held} of {stop} rows, less {held} for validation"
            )
        return Parts(stop - held, stop, N)

    @property
    def _model_horizon(self) -> int:
        return self.horizon if self.method == "direct" else 1

    def _layout(self, z: Array, clock: Clock) -> Layout:
        """Decide what the features are, from training rows."""
        D = len(self.targets)
        own = z[:, :D]
        season = self.season or find_season(own, clock)
        if season * 2 > len(z):
            season = 1
        if self.base == "season" and season == 1:
            raise ValueError(
                "Forecaster: base 'season' needs a season, and none was found; give it"
            )
        self.trained["season"] = season
        calendar = self._calendar(clock)
        layouts = self._layouts(z, season, calendar.shape[1])
        is_sure = self.season is not None or self.base == "season" or season in clock.seasons()
        if season > 1 and not is_sure:
            # Chaos comes back to where it was now and then; a season so found must be of use.
            without = self._layouts(z, 1, calendar.shape[1])
            best, alone = (
                min(features.probe(one, z, calendar, bends=200) for one in some)
                for some in (layouts, without)
            )
            if alone < 0.8 * best:
                layouts = without
        origins = np.arange(len(own) - 1)

        def unit(one: Layout) -> list[float]:
            left = features.truths(own, origins, one.horizon) - features.bases(one, own, origins)
            return features.spread(left.reshape(-1, D))

        errors = [features.probe(one, z, calendar) for one in layouts] if len(layouts) > 1 else [0]
        # Of bases from which a linear model does alike, the one that leaves least to learn.
        alike = [one for one, e in zip(layouts, errors, strict=True) if e <= 1.02 * min(errors)]
        best_layout = min(alike, key=lambda one: sum(unit(one)))
        self.unit = np.array(unit(best_layout))
        return best_layout

    def _layouts(self, z: Array, season: int, calendar: int) -> list[Layout]:
        """Give the layouts to choose from, one a base."""
        D, Q, K = len(self.targets), len(self.past), len(self.known)
        own = z[:, :D]
        seasonal = features.shifted(carry(own, season), season) if season > 1 else own * np.nan
        steady = features.is_steady(own)
        of_all: dict[str, Any] = {
            "targets": list(range(D)),
            "past": list(range(D, D + Q)),
            "known": list(range(D + Q, D + Q + K)),
            "horizon": self._model_horizon,
            "season": season,
            "flags": [int(i) for i in np.flatnonzero(np.isnan(z[:, : D + Q]).any(axis=0))],
            "calendar": calendar,
            "change": features.spread(own - features.shifted(carry(own), 1)),
            "seasonal_change": features.spread(own - seasonal),
        }
        choices = features.BASES[: 3 if season > 1 else 2] if self.base == "auto" else (self.base,)
        return [Layout(base=one, level=one == "none" or steady, **of_all) for one in choices]

    def _calendar(self, clock: Clock) -> Array:
        """Give the calendar of the time after each row."""
        if not self.calendar:
            return np.zeros((clock.rows, 0))
        times = clock.times()
        return clock.calendar(np.concatenate([times[1:], clock.after(1).astype(times.dtype)]))[0]

    def _lookback(self, rows: int) -> int:
        if self.lookback is not None:
            return min(self.lookback, rows - 1)
        wish = max(48, 2 * self._model_horizon, min(3 * self.layout.season, 168))
        return max(4, min(wish, 256, rows // 3))

    def _examples(
        self, z: Array, clock: Clock, parts: Parts
    ) -> tuple[Array, Array, Array, tuple[Array, Array, Array]]:
        """Cut training and validation rows into windows with a target at every step."""
        assert self.lookback is not None
        L, H, D = self.lookback, self.layout.horizon, len(self.targets)
        x = self._features(z, clock)
        origins = np.arange(len(z))
        own = z[:, :D]
        warm = L // 4  # steps at the beginning of a window that only fill the state
        # No window of the training part has a target in the validation part.
        train = own[: parts.train]
        target = features.truths(train, origins[: parts.train], H)
        target = self._residual(target, features.bases(self.layout, train, origins[: parts.train]))
        # Windows enough for some two dozen steps of the optimiser an epoch.
        overlap = max(1, min(L // 4, (parts.train - L) // (24 * self.batch_size)))
        starts = np.arange(0, max(parts.train - L, 0) + 1, overlap)
        rows = starts[:, None] + np.arange(min(L, parts.train))
        y, weight = target[rows], (~np.isnan(target)).astype(np.float32)[rows]
        weight[starts > 0, :warm] = 0
        y = np.nan_to_num(y, nan=0.0).astype(np.float32)

        target = features.truths(own, origins, H)
        target = self._residual(target, features.bases(self.layout, own, origins))
        length = min(L, len(z))
        # The last of these windows ends with the last row; each judged step is judged once.
        ends = np.arange(len(z), max(parts.train - 1, length - 1), -max(L - warm, 1))[::-1]
        rows_v = np.maximum(ends - length, 0)[:, None] + np.arange(length)
        seen = ~np.isnan(target)
        seen[: parts.train - 1] = False
        counted = np.zeros(len(z), bool)
        weight_v = np.zeros((*rows_v.shape, H * D), np.float32)
        for i, window in enumerate(rows_v):
            new = ~counted[window]
            weight_v[i] = seen[window] & new[:, None]
            counted[window] = True
        if not weight.any() or not weight_v.any():
            part = "training" if not weight.any() else "validation"
            raise ValueError(f"fit: the {part} rows hold no known value to learn from")
        y_v = np.nan_to_num(target[rows_v], nan=0.0).astype(np.float32)
        return x[rows], y, weight, (x[rows_v], y_v, weight_v)

    def _residual(self, truth: Array, base: Array) -> Array:
        """Give targets (n, H D): how far the truth is from the base, in its unit."""
        return ((truth - base) / self.unit).reshape(len(truth), -1)

    def _features(self, z: Array, clock: Clock) -> Array:
        return features.all_features(self.layout, z, self._calendar(clock)).astype(np.float32)

    def _mase_scale(self, values: Array) -> list[float]:
        from gru_np.series.scores import mase_scale

        season = min(self.trained["season"], len(values) - 1)
        return [float(s) for s in mase_scale(values[:, : len(self.targets)], season)]

    def calibrate(self, data: Series) -> None:
        """Set the width of the intervals by the errors on the validation rows, for each step ahead.

        A number gets the quantiles of these errors. Quantiles and densities of a direct forecast
        are drawn apart, or together, around their median m until 80 % of the truths lie inside

            m + s (q₁₀ - m) ... m + s (q₉₀ - m)

        (split conformal prediction, as in arXiv:1905.03222, with a factor for a summand); those of
        a recursive forecast stay as they are.

        Parameters
        ----------
        data : Series
            The rows that `fit` saw, no more.
        """
        assert self.parts is not None
        self.spread = self.widths = None
        if self.method == "recursive" and not self.head.is_point:
            return
        data = _select(data, self.columns)
        z = self.scaling.apply(data.values)
        origins = np.arange(self.parts.train - 1, len(z) - 1)
        truth = features.truths(z[:, : len(self.targets)], origins, self.horizon)
        if self.head.is_point:
            error = truth - self._scaled(z, data.clock, origins, None)[0]
            self.spread = self._by_step(error, LEVELS)
            return
        point, quantiles = self._scaled(z, data.clock, origins, (0.1, 0.9))
        assert quantiles is not None
        low, high = (np.abs(quantiles[..., j] - point) + 1e-12 for j in (0, 1))
        beyond = np.where(truth < point, (point - truth) / low, (truth - point) / high)
        self.widths = np.clip(self._by_step(beyond, [0.8])[..., 0], 0.1, 100)

    def _by_step(self, error: Array, levels: Any) -> Array:
        """Give quantiles (H, D, J) of errors (n, H, D), by step; of all steps where it has few."""
        known = (~np.isnan(error)).sum(axis=0)
        pooled = np.nanquantile(error, levels, axis=(0, 1))
        with np.errstate(invalid="ignore"):
            own = [
                [
                    np.nanquantile(error[:, h, d], levels) if known[h, d] >= 20 else pooled[:, d]
                    for d in range(error.shape[2])
                ]
                for h in range(self.horizon)
            ]
        return np.array(own)

    # -------------------------------------------------------------------------------- forecasting

    def forecast(self, series: Series, origin: int | None = None, levels: Any = LEVELS) -> Forecast:
        """Forecast the H steps after a row.

        Parameters
        ----------
        series : Series
            With the columns of training; rows up to the origin are read, and of the known
            covariates H more.
        origin : int, optional
            The last row to read; the last one with a known target if not given.
        levels : sequence of float
            Of the quantiles.

        Returns
        -------
        Forecast
        """
        data = self._checked(series)
        if origin is None:
            origin = self.find_origin(data)
        if not 0 <= origin < len(data):
            raise ValueError(f"forecast: origin must be a row of {len(data)}, got {origin}")
        self._require_known(data, np.array([origin]))
        point, quantiles = self.predict(data, np.array([origin]), levels)
        here = data.rows(0, origin + 1)
        return Forecast(
            list(self.targets), here.clock.after(self.horizon), point[0], quantiles[0],
            tuple(float(q) for q in levels), here.clock,
        )  # fmt: skip

    def predict(self, series: Series, origins: Array, levels: Any = LEVELS) -> tuple[Array, Array]:
        """Forecast from many origins in one pass over the rows.

        Returns
        -------
        point : (n, H, D)
        quantiles : (n, H, D, J)
        """
        data = self._checked(series)
        z = self.scaling.apply(data.values)
        rows = as_rows("predict", origins, len(data))
        point, quantiles = self._scaled(z, data.clock, rows, as_levels("predict", levels))
        places = self.layout.targets
        assert quantiles is not None
        return (
            self.scaling.undo(point, places),
            self.scaling.undo(quantiles, places, axis=-2),
        )

    def _scaled(
        self, z: Array, clock: Clock, origins: Array, levels: Any
    ) -> tuple[Array, Array | None]:
        """Forecast in scaled values; without levels no quantiles."""
        last = int(origins.max()) + 1
        # Only known covariates are ever read beyond the last origin.
        x = self._features(z[: last + self.horizon], clock.rows_between(0, last + self.horizon))
        x = x[:last]
        own = z[:last, : len(self.targets)]
        if self.method == "recursive":
            return self._recursive(x, z, clock, origins, levels)
        out, _ = self.run(x, origins)  # (n, H D, P)
        base = features.bases(self.layout, own, origins)
        base = np.where(np.isnan(base), carry(own)[origins][:, None], base)
        base = np.nan_to_num(base, nan=0.0)
        out = out.reshape(len(origins), self.horizon, len(self.targets), self.head.size)
        point = base + self.unit * self.head.centre(out)
        return point, None if levels is None else self._quantiles(out, base, point, levels)

    def _quantiles(self, out: Array, base: Array, point: Array, levels: Any) -> Array:
        if self.head.is_point:
            from gru_np.series.scores import quantile_weights

            if self.spread is None:
                raise ValueError("forecast: the forecaster has not been calibrated; fit it")
            return point[..., None] + self.spread @ quantile_weights(LEVELS, levels)
        found = base[..., None] + self.unit[:, None] * self.head.quantiles(out, levels)
        if self.widths is None:
            return found
        return point[..., None] + self.widths[..., None] * (found - point[..., None])

    def run(self, x: Array, origins: Array) -> tuple[Array, list[Array]]:
        """Run the model over features (N, F): outputs at the origins, and the states there."""
        states: Any = None
        outputs = []
        layers = self.model.layers
        kept: list[list[Array]] = [[] for layer in layers if isinstance(layer, GRU)]
        order = np.argsort(np.argsort(origins, kind="stable"), kind="stable")
        origins = np.sort(origins, kind="stable")
        for begin in range(0, len(x), CHUNK):
            piece, number = x[None, begin : begin + CHUNK], 0
            here = origins[(origins >= begin) & (origins < begin + CHUNK)] - begin
            after: list[Any] = []
            for i, layer in enumerate(layers):
                if isinstance(layer, GRU):
                    state = None if states is None else states[i]
                    piece = layer(piece, initial_state=state)
                    after.append(piece[:, -1])
                    kept[number].append(piece[0, here])
                    number += 1
                    continue
                after.append(None)
                if isinstance(layer, Dense):
                    piece = piece[:, here]  # outputs are wanted at the origins only
                piece = layer(piece)
            outputs.append(piece[0])
            states = after
        return (
            np.concatenate(outputs)[order],
            [np.concatenate(of_layer)[order] for of_layer in kept],
        )

    def _recursive(
        self, x: Array, z: Array, clock: Clock, origins: Array, levels: Any
    ) -> tuple[Array, Array | None]:
        """Feed forecasts of one step back: the median if it is a number, else random draws."""
        layout, D, n = self.layout, len(self.targets), len(origins)
        S = 1 if self.head.is_point else self.paths
        # Each origin draws alike, so that its paths do not depend on the others asked with it.
        rngs = [np.random.default_rng([self.seed, 2]) for _ in origins]
        out, states = self.run(x, origins)
        m, H = layout.season, self.horizon
        # The last m rows before each origin, then room for the forecasts.
        filled = carry(z[: len(x), :D], m) if m > 1 else carry(z[: len(x), :D])
        place = origins[:, None] + np.arange(1 - m, 1)
        tape = np.where((place < 0)[..., None], 0, np.nan_to_num(filled[np.maximum(place, 0)]))
        tape[:, -1] = np.nan_to_num(carry(z[: len(x), :D])[origins])
        tape = np.repeat(np.concatenate([tape, np.zeros((n, H, D))], axis=1), S, axis=0)
        gru, stepper = iter(states), self.stepper()
        state: Any = [
            np.repeat(next(gru), S, axis=0) if isinstance(layer, GRU) else None
            for layer in stepper.layers
        ]
        out = np.repeat(out, S, axis=0)
        ahead, calendar = self._ahead(z, clock, origins)
        for h in range(H):
            now = m + h  # where z_{t+h+1} goes
            lag = {"none": None, "last": 1, "season": m}[layout.base]
            base = 0.0 if lag is None else tape[:, now - lag]
            out = out.reshape(n * S, D, self.head.size)
            if self.head.is_point:
                drawn = self.head.centre(out)
            else:
                each = zip(np.split(out, n), rngs, strict=True)
                drawn = np.concatenate([self.head.draw(part, rng) for part, rng in each])
            # A diverging path is held where nothing was ever seen.
            tape[:, now] = np.clip(base + self.unit * drawn, -50, 50)
            if h + 1 == H:
                break
            row = features.row_features(
                layout, tape[:, now], tape[:, now - 1],
                tape[:, now - m] if m > 1 else None, np.zeros((n * S, 0)),
                np.repeat(ahead[:, h + 1], S, axis=0), np.repeat(calendar[:, h + 1], S, axis=0),
            )  # fmt: skip
            out, state = stepper.step(row.astype(np.float32), state)
        paths = tape[:, m:].reshape(n, S, H, D)
        if self.head.is_point:
            point = paths[:, 0]
            quantiles = None if levels is None else self._quantiles(out, point, point, levels)
            return point, quantiles
        point = np.median(paths, axis=1)
        if levels is None:
            return point, None
        return point, np.moveaxis(np.quantile(paths, levels, axis=1), 0, -1)

    def _ahead(self, z: Array, clock: Clock, origins: Array) -> tuple[Array, Array]:
        """Give known covariates of the row after each of t ... t+H-1, and its calendar."""
        n, H, N = len(origins), self.horizon, len(z)
        place = origins[:, None] + np.arange(1, H + 1)
        known = z[:, self.layout.known][np.minimum(place, N - 1)]
        known = np.nan_to_num(np.where((place >= N)[..., None], 0, known))
        if not self.layout.calendar:
            return known, np.zeros((n, H, 0))
        times = clock.times()
        times = np.concatenate([times, clock.after(H).astype(times.dtype)])
        return known, clock.calendar(times)[0][place]

    def stepper(self) -> Sequential:
        """Give the model without its last layer: then a step is one compiled call."""
        model = Sequential(dtype=self.model.dtype, seed=self.seed)
        model.layers = self.model.layers[:-1]
        model.input_shape = self.model.input_shape
        return model

    def _checked(self, series: Series) -> Series:
        """Give the columns of a series in order, if it fits what was trained on."""
        if self.model is None:
            raise ValueError("forecast: the forecaster must be fitted first")
        data = _select(series, self.columns)
        clock = data.clock.to_config()
        if clock != self.trained["clock"] and len(data) > 1:
            want = Clock(np.zeros(1, int), **_clock_settings(self.trained["clock"])).step_name
            raise ValueError(
                f"forecast: the model was trained on steps of {want}, the series has steps of "
                f"{data.clock.step_name}"
            )
        return data

    def find_origin(self, series: Series) -> int:
        """Give the row that `forecast` starts from: the last with a known target.

        Raises ValueError if there is none, or if known covariates are not known beyond it: before
        training this tells whether there will be a forecast after it.
        """
        data = _select(series, self.columns)
        seen = np.flatnonzero(~np.isnan(data.values[:, : len(self.targets)]).all(axis=1))
        if not seen.size:
            raise ValueError("forecast: the targets have no known value")
        origin = int(seen[-1])
        self._require_known(data, np.array([origin]))
        return origin

    def _require_known(self, data: Series, origins: Array) -> None:
        """Raise unless the known covariates are known for H rows after each origin."""
        if not self.known:
            return
        first = len(self.targets) + len(self.past)
        for origin in origins:
            ahead = data.values[origin + 1 : origin + 1 + self.horizon, first:]
            lacking = [
                name for name, column in zip(self.known, ahead.T, strict=True)
                if len(column) < self.horizon or np.isnan(column).any()
            ]  # fmt: skip
            if lacking:
                raise ValueError(
                    f"forecast: {', '.join(lacking)} must be known for the {self.horizon} rows "
                    f"after the last value of {', '.join(self.targets)}; add these rows, with the "
                    "target left empty"
                )

    def _is_layout(self, layout: Layout) -> bool:
        """Answer whether a layout, perhaps out of a damaged file, is one of this forecaster."""
        D, Q, K = len(self.targets), len(self.past), len(self.known)
        return (
            [*layout.targets, *layout.past, *layout.known] == list(range(D + Q + K))
            and (len(layout.targets), len(layout.past)) == (D, Q)
            and layout.horizon == self._model_horizon
            and type(layout.season) is int
            and layout.season >= 1
            and type(self.trained.get("season", 1)) is int
            and self.trained.get("season", 1) >= 1
            and layout.base in features.BASES[: 3 if layout.season > 1 else 2]
            and set(layout.flags) <= set(range(D + Q))
            and len(layout.change) == len(layout.seasonal_change) == D
            and all(size > 0 for size in (*layout.change, *layout.seasonal_change))
        )

    def stream(self, series: Series | None = None) -> Any:
        """Give a `Stream` that takes one observation at a time; it reads `series` first."""
        from gru_np.series.stream import Stream

        return Stream(self, series)

    # ------------------------------------------------------------------------------ save and load

    def get_config(self) -> dict[str, Any]:
        """Describe everything but the weights, ready for JSON."""
        settings = (
            "targets", "horizon", "lookback", "past", "known", "calendar", "method", "loss",
            "quantiles", "units", "layers", "dropout", "season", "base", "log", "epochs",
            "patience", "batch_size", "learning_rate", "paths", "seed",
        )  # fmt: skip
        config = {name: getattr(self, name) for name in settings}
        return {
            "format": MARK,
            "settings": config | {"quantiles": list(self.quantiles)},
            "layout": self.layout._asdict(),
            "scaling": {
                name: getattr(self.scaling, name).tolist() for name in ("mean", "std", "log")
            },
            "unit": self.unit.tolist(),
            "spread": None if self.spread is None else self.spread.tolist(),
            "widths": None if self.widths is None else self.widths.tolist(),
            "trained": self.trained,
        }

    def save(self, path: Any) -> None:
        """Write model, scaling and columns to one file."""
        if self.model is None:
            raise ValueError("save: the forecaster must be fitted first")
        self.model.save(path)

    @classmethod
    def load(cls, path: Any) -> "Forecaster":
        """Read what `save` wrote; ready to forecast.

        Raises
        ------
        CheckpointError
            If the file is damaged, foreign or hostile.
        ValueError
            If it holds a model of another kind.
        """
        return cls.of(Sequential.load(path), str(path))

    @classmethod
    def of(cls, model: Sequential, who: str = "Forecaster") -> "Forecaster":
        """Make the forecaster that a loaded model was saved by."""
        config = model.extras.get("forecaster")
        if not isinstance(config, dict) or config.get("format") != MARK:
            raise ValueError(f"{who}: this model was not made by a forecaster")
        try:
            require_settings(cls, config["settings"])
            require_settings(Layout, config["layout"])
            require_fields("trained", config["trained"], TRAINED)
            require_fields("clock", config["trained"]["clock"], CLOCK)
            made = cls(**config["settings"])
            made.layout = Layout(**config["layout"])
            D, C = len(made.targets), len(made.columns)
            scaling = config["scaling"]
            made.scaling = Scaling(
                np.array(scaling["mean"], float), np.array(scaling["std"], float),
                np.array(scaling["log"], bool),
            )  # fmt: skip
            made.unit = np.array(config["unit"], float)
            made.trained = config["trained"]
            made.parts = Parts(*made.trained["parts"])
            if config["spread"] is not None:
                made.spread = np.array(config["spread"], float)
            if config.get("widths") is not None:
                made.widths = np.array(config["widths"], float)
            shapes = [made.scaling.mean.shape, made.scaling.std.shape, made.scaling.log.shape]
            spread = () if made.spread is None else made.spread.shape
            widths = () if made.widths is None else made.widths.shape
            output = model.parameter_shapes()[f"{model.layers[-2].name}/W"][0]
            fits = (
                shapes == [(C,)] * 3
                and made.unit.shape == (D,)
                and spread in ((), (made.horizon, D, len(LEVELS)))
                and widths in ((), (made.horizon, D))
                and model.input_shape is not None
                and model.input_shape[-1] == made.layout.size
                and made._is_layout(made.layout)
                and output == made.layout.horizon * D * made.head.size
            )
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise ValueError(
                f"{who}: the settings of its forecaster are damaged: {error}"
            ) from None
        if not fits:
            raise ValueError(f"{who}: the settings of its forecaster do not fit the weights")
        made.model = model
        return made


# What is told of the training rows that has to be there to forecast.
TRAINED = {"clock": dict[str, Any], "parts": list[Count]}
CLOCK = {"unit": str | None, "step": int, "business": bool}


def _clock_settings(config: dict[str, Any]) -> dict[str, Any]:
    return {
        "unit": config["unit"], "step": config["step"], "even": True,
        "business": config["business"],
    }  # fmt: skip


def _select(series: Series, columns: list[str]) -> Series:
    """Give a series with these columns, in this order."""
    if not isinstance(series, Series):
        raise TypeError(
            f"expected a gru_np.series.Series, got {type(series).__name__}; "
            "make one with series.from_table or series.read_csv"
        )
    part = series.rows(0, len(series))
    part.values = series.values[:, series.places(columns)]
    part.columns = list(columns)
    return part
