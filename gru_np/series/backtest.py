"""A rolling-origin back-test, and the report that says how good a model really is.

    row    ... 996 997 998 999 1000 1001 1002 1003
               known .... t |  h=1  h=2  h=3           origin t
                          known ... t+1 | h=1 ...      origin t + 1

From every origin the model forecasts H steps and is compared with what came; so are the forecasts
that need no model. Nothing after an origin is read for its forecast, and no origin lies inside the
rows that the model was trained on.
"""

from typing import Any, NamedTuple

import numpy as np

from gru_np._aliases import Array
from gru_np._checks import require_count
from gru_np.series import features, scores
from gru_np.series.forecast import aligned
from gru_np.series.forecasting import Forecaster, _select
from gru_np.series.naive import naive_forecasts
from gru_np.series.scores import LEVELS
from gru_np.series.table import Series

MODEL = "GRU"
SCORES = ("MAE", "RMSE", "sMAPE", "MASE", "CRPS", "in 80 %", "in 90 %")
INSIDE = {0.8: (0.1, 0.9), 0.9: (0.05, 0.95)}


class Report(NamedTuple):
    """What a back-test found; printed, it is a table and the plain sentences that follow from it.

    Attributes
    ----------
    columns : list of str
        The targets.
    scores : dict
        `scores[column][method]` is {"MAE": ..., "RMSE", "sMAPE", "MASE", "CRPS", "in 80 %",
        "in 90 %"}; the methods are "GRU", "persistence", "drift", and with a season "seasonal
        naive" and "seasonal + drift".
    by_step : dict
        `by_step[column][method]`: the mean absolute error of each step ahead, (H,).
    verdict : list of str
        Better or worse than the best naive forecast, by how much, for each target.
    warnings : list of str
        What must not be overlooked: the model repeats the last value, it is worse than a naive
        forecast, its intervals are too narrow or too wide.
    origins : (n,) int
    truth, point : (n, H, D)
    quantiles : (n, H, D, 19)
        Of the model, at `scores.LEVELS`.
    season : int
    first, last : str
        Times of the first and the last value that was forecast.

    Examples
    --------
    >>> from gru_np import series
    >>> data = series.mackey_glass(700)
    >>> forecaster = series.Forecaster("x", horizon=4, units=8, epochs=4, seed=0)
    >>> report = series.backtest(forecaster.fit(data, stop=600), data)
    >>> sorted(report.scores["x"])
    ['GRU', 'drift', 'persistence', 'seasonal + drift', 'seasonal naive']
    >>> report.origins[[0, -1]]
    array([599, 695])
    """

    columns: list[str]
    scores: dict[str, dict[str, dict[str, float]]]
    by_step: dict[str, dict[str, Array]]
    verdict: list[str]
    warnings: list[str]
    origins: Array
    truth: Array
    point: Array
    quantiles: Array
    season: int
    first: str
    last: str

    def __repr__(self) -> str:
        H, n = self.truth.shape[1], len(self.origins)
        season = f", season {self.season}" if self.season > 1 else ""
        lines = [
            f"Back-test: {n:,} origins, {H} step{'s' * (H > 1)} ahead{season}; "
            f"forecasts of {self.first} to {self.last}"
        ]
        for column in self.columns:
            rows = [[column, *SCORES]]
            for method, found in self.scores[column].items():
                rows.append([method, *(_cell(name, found[name]) for name in SCORES)])
            lines += ["", aligned_left(rows)]
        lines += ["", *self.verdict]
        lines += [f"WARNING: {warning}" for warning in self.warnings]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Give what the table shows, ready for JSON."""
        return {
            "origins": len(self.origins), "horizon": int(self.truth.shape[1]),
            "season": self.season, "first": self.first, "last": self.last,
            "scores": self.scores, "verdict": self.verdict, "warnings": self.warnings,
        }  # fmt: skip


def backtest(
    forecaster: Forecaster,
    series: Series,
    first: int | None = None,
    stride: int = 1,
    refit_every: int | None = None,
    verbose: Any = 0,
) -> Report:
    """Forecast from origin after origin, and compare with what came and with naive forecasts.

    Parameters
    ----------
    forecaster : Forecaster
        Fitted; or not, if `refit_every` is given.
    series : Series
        All rows, those of training included: they are what the first forecasts look back on.
    first : int, optional
        The first origin; the last row of training if not given.
    stride : int
        Rows from origin to origin.
    refit_every : int, optional
        Train a fresh model with the same settings after every so many origins, on the rows up to
        the origin alone; the honest picture of a model that will be retrained, and slow.
    verbose
        Of the retraining.

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        If an origin would lie inside the training rows, or no row is left to forecast.
    """
    stride = require_count("backtest", "stride", stride)
    data = _select(series, forecaster.columns)
    if refit_every is None:
        data = forecaster._checked(series)
        seen = _rows_seen(forecaster, data)
        first = seen - 1 if first is None else first
        if first < seen - 1:
            raise ValueError(
                f"backtest: the first origin must be row {seen - 1} or later, because the model "
                f"was trained on the rows before; got {first}"
            )
    elif first is None:
        raise ValueError("backtest: with refit_every, first must say where to begin")
    origins, truth = find_origins(forecaster, data, first, stride)
    if refit_every is None:
        forecaster._require_known(data, origins[-1:])
        point, quantiles = forecaster.predict(data, origins)
    else:
        step = require_count("backtest", "refit_every", refit_every)
        pieces = []
        for begin in range(0, len(origins), step):
            part = origins[begin : begin + step]
            settings = (
                forecaster.get_config()["settings"] if forecaster.model else _asked(forecaster)
            )
            forecaster = Forecaster(**settings).fit(data, int(part[0]) + 1, verbose=verbose)
            pieces.append(forecaster.predict(data, part))
        point, quantiles = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
    return _report(forecaster, data, origins, truth, point, quantiles)


def find_origins(
    forecaster: Forecaster, series: Series, first: int, stride: int
) -> tuple[Array, Array]:
    """Give the rows to forecast from and what came after each, or raise if there is nothing.

    Before training this tells whether it can be judged afterwards.
    """
    H = forecaster.horizon
    own = _select(series, forecaster.columns).values[:, : len(forecaster.targets)]
    end = int(np.flatnonzero(~np.isnan(own).all(axis=1))[-1]) + 1
    origins = np.arange(first, end - H, stride)
    if not origins.size:
        raise ValueError(
            f"backtest: {max(end - 1 - first, 0)} rows after the first origin are too few for a "
            f"horizon of {H}; train on fewer rows"
        )
    truth = features.truths(own, origins, H)
    if np.isnan(truth).all():
        raise ValueError("backtest: the rows to be forecast hold no known value")
    return origins, truth


def _asked(forecaster: Forecaster) -> dict[str, Any]:
    """Give the settings of a forecaster that has not been fitted."""
    import inspect

    return {name: getattr(forecaster, name) for name in inspect.signature(Forecaster).parameters}


def _rows_seen(forecaster: Forecaster, data: Series) -> int:
    """Count the rows of a series that lie in the time the model was trained on."""
    times = data.clock.times().astype(np.int64)
    return max(int(np.searchsorted(times, forecaster.trained["until"], side="right")), 1)


def _report(
    forecaster: Forecaster, data: Series, origins: Array, truth: Array, point: Array,
    quantiles: Array,
) -> Report:  # fmt: skip
    own = data.values[:, : len(forecaster.targets)]
    season, H = forecaster.trained.get("season", forecaster.layout.season), forecaster.horizon
    naive = naive_forecasts(own, origins, H, season)
    widths = _naive_errors(own[: int(origins[0]) + 1], H, season)
    found: dict[str, dict[str, dict[str, float]]] = {}
    by_step: dict[str, dict[str, Array]] = {}
    for d, column in enumerate(forecaster.targets):
        y, scale = truth[..., d], forecaster.trained["mase"][d]
        methods = {MODEL: (point[..., d], quantiles[..., d, :])}
        for name, forecast in naive.items():
            x = forecast[..., d]
            methods[name] = (x, x[..., None] + widths[name][:, d])
        found[column] = {name: _score(y, x, q, scale) for name, (x, q) in methods.items()}
        with np.errstate(invalid="ignore"):
            by_step[column] = {
                name: np.array([scores.mae(y[:, h], x[:, h]) for h in range(H)])
                for name, (x, _) in methods.items()
            }
    verdict, warnings = [], []
    for d, column in enumerate(forecaster.targets):
        verdict.append(_verdict(column, found[column], len(forecaster.targets) > 1))
        warnings += _warnings(column, found[column], own[:, d], origins, point[..., d])
    clock = data.clock
    return Report(
        list(forecaster.targets), found, by_step, verdict, warnings, origins, truth, point,
        quantiles, season, clock.spell(clock.times()[origins[0] + 1]),
        clock.spell(clock.times()[origins[-1] + H]),
    )  # fmt: skip


def _naive_errors(known: Array, horizon: int, season: int) -> dict[str, Array]:
    """Give the quantiles of each naive forecast's errors before the first origin: (H, D, 19)."""
    first = min(2 * season, len(known) // 2)
    origins = np.arange(max(first, 1), len(known) - 1)
    if len(origins) > 5000:  # enough to know 19 quantiles by
        origins = origins[:: len(origins) // 5000 + 1]
    truth = features.truths(known, origins, horizon)
    widths = {}
    for name, forecast in naive_forecasts(known, origins, horizon, season).items():
        error = truth - forecast
        empty = np.isnan(error).all(axis=0)
        error[:, empty] = 0
        widths[name] = np.moveaxis(np.nanquantile(error, LEVELS, axis=0), 0, -1)
    return widths


def _score(y: Array, x: Array, quantiles: Array, scale: float) -> dict[str, float]:
    found = {
        "MAE": scores.mae(y, x),
        "RMSE": scores.rmse(y, x),
        "sMAPE": scores.smape(y, x),
        "MASE": scores.mae(y, x) / scale if scale > 0 else float("nan"),
        "CRPS": scores.crps(y, quantiles),
    }
    for share, (low, high) in INSIDE.items():
        at = [LEVELS.index(low), LEVELS.index(high)]
        found[f"in {share:.0%}".replace("%", " %")] = scores.coverage(
            y, quantiles[..., at[0]], quantiles[..., at[1]]
        )
    return found


def _verdict(column: str, found: dict[str, dict[str, float]], several: bool) -> str:
    naive = {name: s["MAE"] for name, s in found.items() if name != MODEL}
    best = min(naive, key=naive.__getitem__)
    model = found[MODEL]["MAE"]
    gain = 1 - model / naive[best] if naive[best] > 0 else 0.0
    who = f"{column}: the model's" if several else "The model's"
    if abs(gain) < 0.01:
        return f"{who} mean absolute error is that of the best naive forecast, {best}, within 1 %."
    how = "lower" if gain > 0 else "HIGHER"
    return (
        f"{who} mean absolute error is {abs(gain):.0%} {how} than that of the best naive "
        f"forecast, {best}.".replace("%", " %")
    )


def _warnings(
    column: str, found: dict[str, dict[str, float]], own: Array, origins: Array, point: Array
) -> list[str]:
    warnings = []
    model, persistence = found[MODEL], found["persistence"]
    repeats = repeats_last_value(own, origins, point[:, 0])
    if repeats:
        warnings.append(f"{column}: {repeats}")
    naive = {name: s["MAE"] for name, s in found.items() if name != MODEL}
    best = min(naive, key=naive.__getitem__)
    if model["MAE"] > 1.01 * naive[best]:
        warnings.append(
            f"{column}: {best} needs no model and is better; do not use this one as it is."
        )
    elif model["MAE"] > 0.99 * persistence["MAE"] and not repeats:
        warnings.append(f"{column}: the model is no better than saying that nothing changes.")
    for share in INSIDE:
        inside = model[f"in {share:.0%}".replace("%", " %")]
        if abs(inside - share) > 0.1:
            width = "narrow" if inside < share else "wide"
            warnings.append(
                f"{column}: the {share:.0%} intervals held {inside:.0%} of the values; they are "
                f"too {width}.".replace("%", " %")
            )
    return warnings


def repeats_last_value(own: Array, origins: Array, first_step: Array) -> str:
    """Say so if forecasts of one step are the last value in disguise, else "".

    They are if they lie nearer to the last value x_t than to x_{t+1}, which they should be near,
    nearer to x_t than x_{t+1} itself, and are no more than 5 % better than x_t.

    Parameters
    ----------
    own : (N,)
        The series.
    origins : (n,) int
    first_step : (n,)
        The forecasts of x_{t+1}.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.series.backtest import repeats_last_value
    >>> walk = np.cumsum(np.random.default_rng(0).standard_normal(200))
    >>> repeats_last_value(walk, np.arange(199), walk[:-1] + 0.01)[:43]
    'the model only repeats the last value: its '
    >>> repeats_last_value(walk, np.arange(199), walk[1:])
    ''
    """
    last, following = own[origins], own[np.minimum(origins + 1, len(own) - 1)]
    known = ~(np.isnan(last) | np.isnan(following))
    last, following, forecast = last[known], following[known], first_step[known]
    if not known.any():
        return ""
    moved = float(np.mean(np.abs(following - last)))
    from_last = float(np.mean(np.abs(forecast - last)))
    error = float(np.mean(np.abs(forecast - following)))
    if moved == 0 or error < 0.95 * moved or from_last >= min(error, moved):
        return ""
    return (
        f"the model only repeats the last value: its forecasts of one step are {from_last:.3g} "
        f"from the value before and {error:.3g} from the one they are for; repeating the value "
        f"before is off by {moved:.3g}."
    )


def _cell(name: str, value: float) -> str:
    if np.isnan(value):
        return "-"
    if name.startswith("in "):
        return f"{100 * value:.0f} %"
    if name == "sMAPE":
        return f"{value:.2f} %"
    if name == "MASE":
        return f"{value:.3f}"
    return f"{value:.4g}"


def aligned_left(rows: list[list[str]]) -> str:
    """Put rows under each other, the first column to the left and the others to the right."""
    width = max(len(row[0]) for row in rows)
    return aligned([[row[0].ljust(width), *row[1:]] for row in rows])
