"""gru-np forecast: from a CSV file to a judged forecast."""

import argparse
import importlib
import warnings
from typing import Any

from gru_np import _console, _options
from gru_np.saving import require_own_path
from gru_np.series.backtest import Report, backtest, find_origins
from gru_np.series.csvfile import THOUSANDS, read_csv
from gru_np.series.demo import mackey_glass
from gru_np.series.forecast import Forecast
from gru_np.series.forecasting import Forecaster
from gru_np.series.heads import KINDS
from gru_np.series.table import Series
from gru_np.series.windows import split

SUMMARY = "Forecast columns of a CSV file, and say how far the forecast can be trusted."
EXAMPLE = "gru-np forecast weather.csv --target temperature --horizon 24 --plot weather.png"


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """Describe the arguments of gru-np forecast."""
    sub.add_argument(
        "csv", nargs="?", metavar="CSV", type=_options.Source,
        help="a header, a column of times, numbers",
    )  # fmt: skip
    sub.add_argument("--demo", action="store_true", help="use a series made on the spot instead")
    sub.add_argument("--target", nargs="+", metavar="COLUMN", help="what to forecast")
    rows, count = _options.integer(1), _options.integer(1, 10**6)
    sub.add_argument(
        "--horizon", type=_options.integer(1, 10_000), default=None, help="steps ahead (24)"
    )
    sub.add_argument(
        "--past", nargs="+", default=[], metavar="COLUMN", help="inputs known up to now"
    )
    sub.add_argument(
        "--known", nargs="+", default=[], metavar="COLUMN",
        help="inputs whose future is known; add rows for it, the target left empty",
    )  # fmt: skip
    sub.add_argument(
        "--time", nargs="+", metavar="COLUMN", help="times; several are joined (found)"
    )
    sub.add_argument(
        "--gaps", choices=["auto", "insert", "rows"], default="auto",
        help="what a jump in time is: rows that are missing, or none (auto)",
    )  # fmt: skip
    sub.add_argument("--missing", nargs="+", default=[], metavar="VALUE", help="stands for missing")
    sub.add_argument(
        "--decimal", choices=[".", ","], help="what begins the decimals of a number (found)"
    )
    sub.add_argument(
        "--thousands", choices=THOUSANDS, metavar="MARK",
        help="what parts the thousands of a number: a comma, dot, space or ' (none; with a decimal "
        "comma a dot)",
    )  # fmt: skip
    sub.add_argument("--method", choices=["direct", "recursive"], default="direct")
    sub.add_argument("--loss", choices=KINDS, default="quantiles", help="(quantiles)")
    sub.add_argument("--season", type=rows, help="period in rows (found); 1 for none")
    sub.add_argument("--log", action="store_true", help="forecast the logarithm of the target")
    sub.add_argument(
        "--lookback", type=_options.integer(2, 10**6), help="steps of a training window (chosen)"
    )
    sub.add_argument("--units", type=_options.size, default=64, help="size of each GRU (64)")
    sub.add_argument(
        "--layers", type=_options.depth, default=1, help="GRUs on top of each other (1)"
    )
    sub.add_argument("--dropout", type=_options.rate, default=0.0, help="after each GRU (0)")
    sub.add_argument("--epochs", type=count, default=None, help="at most (40; demo 15)")
    sub.add_argument(
        "--test", type=_options.share, default=0.2, help="share of the rows to judge by (0.2)"
    )
    sub.add_argument("--stride", type=rows, default=1, help="rows between origins of the back-test")
    sub.add_argument("--refit-every", type=rows, help="retrain after so many origins; slow")
    sub.add_argument(
        "--interval",
        type=_options.number(0, 0.9999, "("),
        default=0.8,
        help="share inside the interval (0.8)",
    )
    sub.add_argument("--seed", type=_options.seed, default=0, help="decides everything random (0)")
    sub.add_argument(
        "--save", type=_options.output, metavar="FILE",
        help="keep the model, with scaling and columns",
    )  # fmt: skip
    sub.add_argument(
        "--model",
        metavar="FILE",
        type=_options.Source,
        help="use a model that was kept; nothing is trained",
    )
    sub.add_argument(
        "--output", type=_options.output, metavar="CSV", help="write the forecast to a file"
    )
    sub.add_argument(
        "--plot", type=_options.picture, metavar="IMAGE", help="draw it (needs matplotlib)"
    )


def run(args: argparse.Namespace) -> int:
    """Read, train, judge, forecast."""
    _check(args)
    forecaster = Forecaster.load(args.model) if args.model else None
    if forecaster is not None and args.target not in (None, forecaster.targets):
        raise ValueError(
            f"--target must be {' '.join(forecaster.targets)}, what {args.model} was trained for"
        )
    data = _read(args, forecaster)
    _console.say(repr(data))
    for note in data.notes:
        _console.say(f"Note: {note}")
    if forecaster is None:
        forecaster = _asked(args, data)
        # Before minutes of training: will there be a forecast after it, and anything to judge by?
        origin = forecaster.find_origin(data)
        stop = split(data.rows(0, origin + 1), 0, args.test).train
        find_origins(forecaster, data, stop - 1, args.stride)
        forecaster.fit(data, stop=stop, verbose=2 if _console.is_terminal() else 0)
        _console.say(_training(forecaster))
        report: Report | None = backtest(forecaster, data, stop - 1, args.stride, args.refit_every)
    else:
        report = _judge(forecaster, data, args.stride)
    if report is not None:
        _console.say(f"\n{report}\n")
    forecast = forecaster.forecast(data)
    _console.say(_shown(forecast, args.interval))
    if args.save:
        forecaster.save(args.save)
        _console.say(
            f"The model is in {args.save}; use it with gru-np forecast CSV --model {args.save}"
        )
    if args.output:
        forecast.to_csv(args.output, args.interval)
        _console.say(f"The forecast is in {args.output}")
    if args.plot:
        _plot(args.plot, forecast, data, report)
        _console.say(f"The picture is in {args.plot}")
    return 0


def _check(args: argparse.Namespace) -> None:
    if args.demo == (args.csv is not None):
        raise ValueError("give a CSV file or --demo, one of the two")
    if args.save:
        require_own_path("--save", args.save)
    if not args.demo and not args.target and not args.model:
        raise ValueError("--target must name the column to forecast")
    if args.plot:  # before minutes of training, not after
        _pyplot()


def _read(args: argparse.Namespace, forecaster: Forecaster | None) -> Series:
    if args.demo:
        _console.say(
            "The Mackey-Glass equation, tau = 17, integrated here: chaos, forecast for a while."
        )
        return mackey_glass(1500)
    columns = forecaster.columns if forecaster else [*args.target, *args.past, *args.known]
    if len(set(columns)) < len(columns):
        raise ValueError("a column must have one role, --target or --past or --known")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        data = read_csv(
            args.csv, columns, args.time, args.gaps, args.missing, args.decimal, args.thousands
        )
    for warning in caught:
        _console.remark(f"gru-np forecast: {warning.message}")
    return data


def _asked(args: argparse.Namespace, data: Series) -> Forecaster:
    return Forecaster(
        args.target or data.columns, args.horizon or 24, args.lookback, past=args.past,
        known=args.known, method=args.method, loss=args.loss, units=args.units,
        layers=args.layers, dropout=args.dropout, season=args.season, log=args.log,
        epochs=args.epochs or (15 if args.demo else 40), seed=args.seed,
    )  # fmt: skip


def _training(forecaster: Forecaster) -> str:
    assert forecaster.parts is not None
    layout, parts = forecaster.layout, forecaster.parts
    base = {
        "none": "the training mean",
        "last": "the last value",
        "season": "the seasonal naive forecast",
    }[layout.base]
    found = forecaster.trained["season"]
    season = f"season {found} rows" if found > 1 else "no season"
    if found > layout.season:
        season += ", of which the model makes no use"
    return (
        f"Trained on {parts.train:,} rows, stopped by the next {parts.validation - parts.train:,} "
        f"(best epoch {forecaster.trained['epochs']}), judged by the rest. "
        f"{season[0].upper()}{season[1:]}; the outputs are measured from {base}; windows of "
        f"{forecaster.lookback} steps; {forecaster.model.count_params():,} parameters."
    )


def _judge(forecaster: Forecaster, data: Series, stride: int) -> Report | None:
    """Back-test a loaded model on whatever rows came after its training."""
    try:
        return backtest(forecaster, data, None, stride)
    except ValueError as error:
        _console.say(f"Not judged: {str(error).removeprefix('backtest: ')}")
        return None


def _shown(forecast: Forecast, share: float, most: int = 48) -> str:
    lines = forecast.text(share).splitlines()
    if len(lines) > most + 1:
        lines = [*lines[: most + 1], f"... {len(lines) - most - 1} more; --output writes them all"]
    return "\n".join(lines)


def _plot(path: str, forecast: Forecast, data: Series, report: Report | None) -> None:
    """Draw the forecast and, beneath it, what the back-test found."""
    from gru_np.series import plots

    plt = _pyplot()
    rows = 1 if report is None else 3
    figure, axes = plt.subplots(
        rows, 1, figsize=(9, 3.3 * rows), layout="constrained", squeeze=False
    )
    plots.plot_forecast(forecast, data, ax=axes[0, 0])
    if report is not None:
        plots.plot_backtest(report, data, ax=axes[1, 0])
        plots.plot_errors(report, ax=axes[2, 0])
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _pyplot() -> Any:
    try:
        matplotlib = importlib.import_module("matplotlib")
    except ImportError:
        raise ValueError("--plot needs matplotlib; pip install 'gru_np[plot]'") from None
    matplotlib.use("agg")
    return importlib.import_module("matplotlib.pyplot")
