"""Time series: forecasts that say how far they can be trusted.

table.py        Series: columns over time; from arrays, data frames, dicts
csvfile.py      read_csv: the same from a file
clock.py        times, steps, gaps, the calendar
windows.py      split, Scaling (training rows only, by construction), windows
naive.py        persistence, drift, seasonal naive: what a model has to beat
scores.py       MAE, RMSE, sMAPE, MASE, CRPS, coverage
features.py     what the GRU reads at each step, and what its outputs are measured from
heads.py        numbers, quantiles, densities
forecasting.py  Forecaster: fit, forecast, save, load
stream.py       one observation in, the next forecast out
backtest.py     rolling origins, and the report
plots.py        pictures (matplotlib)
demo.py         mackey_glass, a series made on the spot
command.py      gru-np forecast
"""

from gru_np.series.backtest import Report, backtest
from gru_np.series.csvfile import read_csv
from gru_np.series.demo import mackey_glass
from gru_np.series.forecast import Forecast
from gru_np.series.forecasting import Forecaster
from gru_np.series.naive import find_season, naive_forecasts
from gru_np.series.plots import plot_backtest, plot_errors, plot_forecast, plot_residuals
from gru_np.series.stream import Stream
from gru_np.series.table import Series, from_table
from gru_np.series.windows import Parts, Scaling, Windows, split, windows

__all__ = [
    "Forecast",
    "Forecaster",
    "Parts",
    "Report",
    "Scaling",
    "Series",
    "Stream",
    "Windows",
    "backtest",
    "find_season",
    "from_table",
    "mackey_glass",
    "naive_forecasts",
    "plot_backtest",
    "plot_errors",
    "plot_forecast",
    "plot_residuals",
    "read_csv",
    "split",
    "windows",
]
