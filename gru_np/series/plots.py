"""Pictures of forecasts; they need matplotlib: `pip install gru_np[plot]`."""

from typing import Any

import numpy as np

from gru_np._plotting import axes_for, pyplot, style
from gru_np.series.backtest import MODEL, Report
from gru_np.series.forecast import Forecast
from gru_np.series.table import Series


def plot_forecast(
    forecast: Forecast,
    series: Series,
    column: str | None = None,
    rows: int | None = None,
    shares: tuple[float, ...] = (0.5, 0.8, 0.95),
    ax: Any = None,
) -> Any:
    """Draw a forecast with its intervals over the last rows of a series, the truth where known.

    Parameters
    ----------
    forecast : Forecast
    series : Series
        What came before; rows within the time of the forecast are drawn as the truth.
    column : str, optional
        The first of the forecast if not given.
    rows : int, optional
        How many rows before the forecast; three horizons, 48 at least, if not given.
    shares : tuple of float
        The intervals.
    ax : matplotlib axes, optional

    Returns
    -------
    matplotlib axes

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> from gru_np import series
    >>> data = series.mackey_glass(400)
    >>> forecaster = series.Forecaster("x", horizon=6, units=4, epochs=1).fit(data, stop=380)
    >>> ax = series.plot_forecast(forecaster.forecast(data, origin=379), data)
    >>> ax.get_title()
    'x: 6 steps ahead'
    """
    ax = axes_for("series", ax, (9, 3.5))
    column = column or forecast.columns[0]
    d, H = forecast.columns.index(column), len(forecast.time)
    times, values = series.clock.times(), series[column]
    past = np.flatnonzero(times < forecast.time[0])
    end = int(past[-1]) + 1 if past.size else 0
    begin = max(end - (rows or max(3 * H, 48)), 0)
    ax.plot(times[begin : end + H], values[begin : end + H], color="black", lw=1, label="observed")
    for share in sorted(shares, reverse=True):
        low, high = forecast.interval(share)
        # The wider, the paler: not by transparency, so that the legend has the same colours.
        colour = tuple(1 - (1 - c) * (0.9 - 0.75 * share) for c in (0.12, 0.47, 0.71))
        ax.fill_between(
            forecast.time, low[:, d], high[:, d], color=colour, lw=0,
            label=f"{share:.0%} interval".replace("%", " %"),
        )  # fmt: skip
    point = forecast.point[:, d]
    ax.plot(forecast.time, point, color="tab:blue", lw=1.5, ls="--", label="forecast")
    ax.set_title(f"{column}: {H} steps ahead")
    _finish(ax)
    return ax


def plot_backtest(
    report: Report, series: Series, column: str | None = None, step: int = 1, ax: Any = None
) -> Any:
    """Draw the forecasts made `step` steps before, with their 80 % interval, over the truth.

    Parameters
    ----------
    report : Report
    series : Series
        That was back-tested.
    column : str, optional
    step : int
        h.
    ax : matplotlib axes, optional

    Returns
    -------
    matplotlib axes
    """
    ax = axes_for("series", ax, (9, 3.5))
    column = column or report.columns[0]
    d, h = report.columns.index(column), step - 1
    times = series.clock.times()[report.origins + step]
    low, high = report.quantiles[:, h, d, 1], report.quantiles[:, h, d, -2]
    ax.fill_between(times, low, high, color="tab:blue", alpha=0.25, lw=0, label="80 % interval")
    ax.plot(times, report.truth[:, h, d], color="black", lw=0.8, label="observed")
    ax.plot(times, report.point[:, h, d], color="tab:blue", lw=1.2, ls="--", label="forecast")
    error = report.by_step[column]
    ax.set_title(
        f"{column}: {step} step{'s' * (step > 1)} ahead, mean absolute error {error[MODEL][h]:.3g}"
        f" (persistence {error['persistence'][h]:.3g})"
    )
    _finish(ax)
    return ax


def plot_errors(report: Report, column: str | None = None, ax: Any = None) -> Any:
    """Draw the mean absolute error of the model and of each naive forecast by steps ahead.

    Parameters
    ----------
    report : Report
    column : str, optional
    ax : matplotlib axes, optional

    Returns
    -------
    matplotlib axes
    """
    ax = axes_for("series", ax, (9, 3.5))
    column = column or report.columns[0]
    for k, (name, error) in enumerate(report.by_step[column].items()):
        ax.plot(np.arange(1, len(error) + 1), error, label=name, **style(k, len(error)))
    ax.set_xlabel("steps ahead")
    ax.set_ylabel("mean absolute error")
    ax.set_title(column)
    ax.legend(frameon=False)
    return ax


def plot_residuals(report: Report, column: str | None = None, step: int = 1) -> Any:
    """Draw what the model leaves at one step ahead: over time, as a histogram, and by lag.

    Residuals with a pattern could have been forecast; bars of the autocorrelation beyond the dotted
    lines (two standard errors of white noise) say so.

    Parameters
    ----------
    report : Report
    column : str, optional
    step : int

    Returns
    -------
    array of three matplotlib axes
    """
    figure, axes = pyplot("series").subplots(1, 3, figsize=(12, 3.2), layout="constrained")
    column = column or report.columns[0]
    d = report.columns.index(column)
    residual = report.truth[:, step - 1, d] - report.point[:, step - 1, d]
    axes[0].plot(report.origins, residual, lw=0.6, color="tab:blue")
    axes[0].axhline(0, color="black", lw=0.6)
    axes[0].set_title(f"{column}: observed − forecast, {step} ahead")
    axes[0].set_xlabel("row of the series")
    known = residual[~np.isnan(residual)]
    axes[1].hist(known, bins=40, color="tab:blue")
    axes[1].set(xlabel="observed − forecast", ylabel="how often")
    axes[1].set_title(f"mean {known.mean():.3g}, deviation {known.std():.3g}")
    centred = np.nan_to_num(residual - known.mean())
    lags = np.arange(1, min(40, len(centred) // 2) + 1)
    power = max(float(centred @ centred), 1e-300)
    axes[2].bar(lags, [centred[k:] @ centred[:-k] / power for k in lags], color="tab:blue")
    for bound in (-2, 2):
        axes[2].axhline(bound / np.sqrt(len(known)), color="black", ls=":", lw=0.8)
    axes[2].set_xlabel("lag, steps")
    axes[2].set_title("autocorrelation")
    del figure
    return axes


def _finish(ax: Any) -> None:
    ax.legend(frameon=False, fontsize="small")
    for label in ax.get_xticklabels():
        label.set_rotation(0)
