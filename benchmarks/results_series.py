"""Series and sequences: our GRU, torch's at equal settings, naive forecasts, published numbers.

    python -m benchmarks.results_series --data FOLDER [--only NAME ...] [--epochs N]
    python -m benchmarks.results_series --tables

Every finished part is kept in benchmarks/results/series.json and not run again; the tables in
series.md and in README.md are made from that file. FOLDER holds `ts/` and `mnist/`; it is no part
of the project. Both libraries begin with the same weights, see the same batches in the same order,
drop the same units, and use the same optimiser, schedule, clipping and early stopping. One thread.
"""

import argparse
import copy
import gzip
import json
import lzma
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gru_np import GRU, Bidirectional, Dense, Sequential, series
from gru_np.callbacks import EarlyStopping, LambdaCallback
from gru_np.layers import SegmentGRU
from gru_np.optimizers import Adam
from gru_np.schedules import CosineDecay

from . import machine
from .report import replace
from .series_tables import FORECASTS, WINDOWS, write_tables

RESULTS = Path(__file__).parent / "results"
SEEDS = (0, 1, 2)
SEQUENCES: dict[str, dict[str, Any]] = {
    "mnist": {
        "layer": GRU(128), "held": 5000, "seeds": (0,), "epochs": 8, "batch_size": 128,
        "rate": 2e-3,
    },
    "japanese_vowels": {"file": "JapaneseVowels"},
    "basic_motions": {"file": "BasicMotions"},
}  # fmt: skip
SMALL = {
    "layer": Bidirectional(GRU(64)), "held": 0, "seeds": SEEDS, "epochs": 60, "batch_size": 16,
    "rate": 3e-3,
}  # fmt: skip


# ------------------------------------------------------------------------------------- reading


def read_idx(path: Path, offset: int) -> np.ndarray:
    """Read one of MNIST's files, packed by gzip or xz."""
    opener: Any = lzma.open if path.suffix == ".xz" else gzip.open
    with opener(path) as file:
        return np.frombuffer(file.read(), np.uint8, offset=offset)


def mnist(folder: Path) -> tuple[np.ndarray, ...]:
    """Give x (n, 28, 28) and labels, training then test."""
    parts = []
    for name in ("train", "t10k"):
        x = read_idx(folder / "mnist" / f"{name}-images-idx3-ubyte.xz", 16).reshape(-1, 28, 28)
        parts += [(x / np.float32(255) - np.float32(0.1307)) / np.float32(0.3081)]
        parts += [read_idx(folder / "mnist" / f"{name}-labels-idx1-ubyte.gz", 8).astype(np.int64)]
    return tuple(parts)


def archive(folder: Path, name: str) -> tuple[np.ndarray, ...]:
    """Read a set of the UEA archive: x (n, T, C), zeros in front of shorter rows, and labels."""
    parts: list[Any] = []
    for part in ("TRAIN", "TEST"):
        with gzip.open(folder / "ts" / f"{name}_{part}.ts.gz", "rt") as file:
            lines = [line.strip() for line in file if line.strip() and line[0] not in "#@"]
        cases = [line.split(":") for line in lines]
        x = [np.array([c.split(",") for c in case[:-1]], np.float32).T for case in cases]
        parts.append((x, [case[-1] for case in cases]))
    names = sorted(set(parts[0][1]))
    length = max(len(row) for x, _ in parts for row in x)
    rows = np.concatenate(parts[0][0])
    mean, std = rows.mean(axis=0), rows.std(axis=0)
    found: list[np.ndarray] = []
    for x, labels in parts:
        padded = np.zeros((len(x), length, len(mean)), np.float32)
        for i, row in enumerate(x):
            padded[i, length - len(row) :] = (row - mean) / std
        found += [padded, np.array([names.index(label) for label in labels])]
    return tuple(found)


# ------------------------------------------------------------------------------------- training


def watched(kept: dict[str, Any], first: int = 10) -> LambdaCallback:
    """Keep the losses of a run of ours: of every epoch, and the running mean of its first steps."""
    kept |= {"losses": [], "val_losses": [], "first_steps": []}

    def step(batch: int, logs: dict[str, float]) -> None:
        if len(kept["first_steps"]) < first:
            kept["first_steps"].append(logs["loss"])

    def epoch(number: int, logs: dict[str, float]) -> None:
        kept["losses"].append(logs["loss"])
        if "val_loss" in logs:
            kept["val_losses"].append(logs["val_loss"])

    return LambdaCallback(on_train_batch_end=step, on_epoch_end=epoch)


# ----------------------------------------------------------------------- forecasts of one column


def forecast_run(
    folder: Path, name: str, epochs: int | None, before: Any, seeds: tuple[int, ...] = SEEDS
) -> dict[str, Any]:
    """Train, back-test, and do the same with torch's GRU on the same windows."""
    settings = FORECASTS[name]
    path = folder / "ts" / f"{settings['file']}.csv.gz"
    data = series.read_csv(path, [settings["target"]])
    stop = series.split(data, validation=0, test=0.2).train
    found: dict[str, list[Any]] = {"gru_np": [], "torch": []}
    for seed in seeds:
        forecaster = series.Forecaster(
            settings["target"], settings["horizon"], log=settings.get("log", False), seed=seed,
            epochs=epochs or 40,
        )  # fmt: skip
        ours: dict[str, Any] = {}
        began = time.perf_counter()
        forecaster.fit(data, stop=stop, callbacks=[watched(ours)])
        ours["seconds"] = time.perf_counter() - began
        ours["epoch"] = forecaster.trained["epochs"]
        found["gru_np"].append(ours | series.backtest(forecaster, data).to_json())
        twin, theirs = torch_forecaster(forecaster, data, stop)
        found["torch"].append(theirs | series.backtest(twin, data).to_json())
    return {
        "kind": "forecast", "rows": len(data), "target": settings["target"], "seeds": seeds,
        "horizon": settings["horizon"], "units": forecaster.units,
        "season": forecaster.trained["season"], "base": forecaster.layout.base,
        "lookback": forecaster.lookback, "notes": data.notes,
        "parameters": forecaster.model.count_params(), **found,
    }  # fmt: skip


def torch_forecaster(forecaster: Any, data: Any, stop: int) -> tuple[Any, dict[str, Any]]:
    """Give a forecaster whose weights torch trained, from the same beginning, on the same data."""
    from . import series_torch

    twin = copy.deepcopy(forecaster)
    z = twin.scaling.apply(data.rows(0, stop).values)
    *train, held_out = twin._examples(z, data.clock.rows_between(0, stop), twin.parts)
    twin.model = twin.build_model()
    inner = Sequential(twin.model.layers[:-1], seed=twin.seed)
    inner.input_shape = twin.model.input_shape
    net = series_torch.Stack(inner)
    log = series_torch.train(
        net, train, held_out, series_torch.pinball(twin.head.levels),
        rate=forecaster.model.optimizer.learning_rate, epochs=twin.epochs, patience=twin.patience,
        batch_size=twin.batch_size, seed=twin.seed, clip=1.0,
    )  # fmt: skip
    net.write_back(inner)
    twin.calibrate(data.rows(0, stop))
    return twin, log


# ------------------------------------------------------------------ windows in, windows out: ETT


def window_parts(folder: Path, name: str) -> tuple[np.ndarray, series.Parts, list[Any]]:
    """Give scaled rows, where they are cut, and the windows of each part."""
    settings = WINDOWS[name]
    data = series.read_csv(folder / "ts" / f"{settings['file']}.csv.gz")
    parts = series.Parts(*settings["parts"])
    scaled = series.Scaling.of(data, parts).apply(data.values[: parts.test]).astype(np.float32)
    L, H = settings["lookback"], 96
    ranges = [
        (0, parts.train), (parts.train - L, parts.validation), (parts.validation - L, parts.test)
    ]  # fmt: skip
    return scaled, parts, [series.windows(scaled[a:b], L, H)[:2] for a, b in ranges]


def segments(settings: dict[str, Any], candidate: dict[str, Any], channels: int) -> Sequential:
    """Make the untrained model."""
    layer = SegmentGRU(96, 24, candidate["units"], dropout=candidate["dropout"])
    model = Sequential([layer], seed=0)
    model.build((None, settings["lookback"], channels))
    for name in ("position", "channel"):  # the authors draw them from N(0, 1)
        layer.params[name][...] *= candidate["embeddings"] / 0.05
    return model


def decay(rate: float, steps: int) -> Callable[[int], float]:
    """Give SegRNN's schedule: from the fourth epoch on a fifth less in each."""
    return lambda step: rate * 0.8 ** max(step // steps - 2, 0)


def window_run(folder: Path, name: str, epochs: int | None, before: Any) -> dict[str, Any]:
    """Train SegRNN's form of the GRU by the published protocol; validation chooses, test judges.

    Of candidates that were tried before only the log is kept, and the model of the best.
    """
    settings = WINDOWS[name]
    scaled, parts, ((x, y), held_out, (xt, yt)) = window_parts(folder, name)
    tried: dict[str, Any] = {}
    models: dict[str, Sequential] = {}
    for label, candidate in settings["candidates"].items():
        known = (before or {}).get("tried", {}).get(label)
        if known and known["settings"] == candidate:
            tried[label] = known
            continue
        batch_size = candidate["batch_size"]
        model = segments(settings, candidate, x.shape[2])
        model.compile("mse", Adam(decay(candidate["rate"], -(-len(x) // batch_size))))
        averaged = candidate["averaged"]
        stopping = EarlyStopping(patience=candidate["patience"], restore_best_weights=True)
        last: list[list[np.ndarray]] = []  # the weights after the last epochs
        remember = LambdaCallback(
            on_epoch_end=lambda epoch, logs, to=last, of=model: to.append(of.get_weights())
        )
        log: dict[str, Any] = {}
        began = time.perf_counter()
        model.fit(
            x, y, batch_size=batch_size, epochs=epochs or candidate["epochs"], verbose=2,
            validation_data=held_out,
            callbacks=[remember if averaged > 1 else stopping, watched(log)],
        )  # fmt: skip
        log["seconds"] = time.perf_counter() - began
        log |= {"settings": candidate, "validation": min(log["val_losses"])}
        log["epoch"] = log["val_losses"].index(log["validation"]) + 1
        if averaged > 1:  # stochastic weight averaging, arXiv:1803.05407
            model.set_weights([np.mean(w, axis=0) for w in zip(*last[-averaged:], strict=True)])
            log["epoch"] = len(log["losses"])
            found = model.evaluate(*held_out, batch_size=256, return_dict=True)
            log["validation"] = float(found["loss"])
        tried[label] = log
        models[label] = model
    chosen = min(tried, key=lambda label: tried[label]["validation"])
    if chosen in models:
        found = tried[chosen] | errors(models[chosen].predict(xt, batch_size=256), yt)
    else:
        found = before["gru_np"]
        assert before["chosen"] == chosen
    origins = np.arange(parts.validation - 1, parts.test - 96)
    naive = series.naive_forecasts(scaled, origins, 96, settings["season"])
    count = segments(settings, tried[chosen]["settings"], x.shape[2]).count_params()
    return {
        "kind": "windows", "windows": [len(x), len(held_out[0]), len(xt)], "tried": tried,
        "chosen": chosen, "channels": x.shape[2], "parameters": count, "gru_np": found,
        "naive": {method: errors(forecast, yt) for method, forecast in naive.items()},
    }  # fmt: skip


def window_torch(folder: Path, name: str, share: int | None, ours: Any) -> dict[str, Any]:
    """Train torch's twin with the settings that were chosen; perhaps a share of the epochs only."""
    from . import series_torch

    settings, candidate = WINDOWS[name], ours["gru_np"]["settings"]
    _, _, ((x, y), (xv, yv), (xt, yt)) = window_parts(folder, name)
    net = series_torch.Segments(segments(settings, candidate, x.shape[2]).layers[0])
    ones = [np.ones(len(a), np.float32) for a in (x, xv)]
    log = series_torch.train(
        net, (x, y, ones[0]), (xv, yv, ones[1]), series_torch.squares,
        rate=decay(candidate["rate"], -(-len(x) // candidate["batch_size"])),
        epochs=share or candidate["epochs"], patience=candidate["patience"],
        batch_size=candidate["batch_size"], seed=0, clip=None, averaged=candidate["averaged"],
    )  # fmt: skip
    if share:  # a share of the training says nothing about errors
        return {"kind": "torch", **log, "share": [share, candidate["epochs"]]}
    return {"kind": "torch", **log, **errors(series_torch.predict(net, xt), yt)}


def errors(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """Give MSE and MAE over all values."""
    e = x.astype(np.float64) - y
    return {"MSE": float(np.mean(e * e)), "MAE": float(np.mean(np.abs(e)))}


# ------------------------------------------------------------------ classes of whole sequences


def sequence_data(folder: Path, name: str) -> tuple[dict[str, Any], Any, Any, Any]:
    """Give settings, and training, held-out and test sequences with their labels."""
    settings = SMALL | SEQUENCES[name]
    x, y, xt, yt = mnist(folder) if name == "mnist" else archive(folder, settings["file"])
    held = settings["held"]
    # The last rows choose the epoch; small sets hold none out and take the last epoch.
    held_out = (x[-held:], y[-held:]) if held else None
    end = len(x) - held
    return settings, (x[:end], y[:end]), held_out, (xt, yt)


def classifier(settings: dict[str, Any], x: Any, classes: int, seed: int) -> Sequential:
    """Make the untrained model: one layer and a softmax."""
    layer = copy.deepcopy(settings["layer"])
    model = Sequential([layer, Dense(classes, activation="softmax")], seed=seed)
    model.build((None, *x.shape[1:]))
    return model


def cosine(settings: dict[str, Any], n: int, epochs: int) -> CosineDecay:
    """Give the schedule, down to a fiftieth."""
    return CosineDecay(settings["rate"], epochs * -(-n // settings["batch_size"]), alpha=0.02)


def sequence_run(folder: Path, name: str, epochs: int | None, before: Any) -> dict[str, Any]:
    """Train a classifier of whole sequences."""
    settings, (x, y), held_out, (xt, yt) = sequence_data(folder, name)
    epochs = epochs or settings["epochs"]
    runs = []
    for seed in settings["seeds"]:
        model = classifier(settings, x, int(y.max()) + 1, seed)
        rate = cosine(settings, len(x), epochs)
        model.compile("sparse_categorical_crossentropy", Adam(rate, global_clipnorm=1.0))
        stopping = EarlyStopping(patience=epochs, restore_best_weights=True)
        log: dict[str, Any] = {}
        began = time.perf_counter()
        model.fit(
            x, y, batch_size=settings["batch_size"], epochs=epochs, verbose=2 if held_out else 0,
            validation_data=held_out,
            callbacks=[watched(log), *([stopping] if held_out else [])],
        )  # fmt: skip
        log["seconds"] = time.perf_counter() - began
        log["epoch"] = stopping.best_epoch + 1 if held_out else epochs
        right = model.predict(xt, batch_size=256).argmax(axis=-1) == yt
        runs.append(log | {"accuracy": float(right.mean())})
    return {
        "kind": "sequences", "gru_np": runs, "epochs": epochs, "model": repr(settings["layer"]),
        "rows": [len(x), settings["held"], len(xt)], "parameters": model.count_params(),
        "seeds": settings["seeds"],
    }  # fmt: skip


def sequence_torch(folder: Path, name: str, share: int | None, ours: Any) -> dict[str, Any]:
    """Train torch's twins of the classifiers; perhaps for a share of the epochs only."""
    from . import series_torch

    settings, (x, y), held_out, (xt, yt) = sequence_data(folder, name)
    epochs = settings["epochs"]
    runs = []
    for seed in settings["seeds"]:
        net = series_torch.Stack(classifier(settings, x, int(y.max()) + 1, seed))
        if held_out:
            held_out = (*held_out[:2], np.ones(len(held_out[0]), np.float32))
        log = series_torch.train(
            net, (x, y, np.ones(len(x), np.float32)), held_out, series_torch.cross_entropy,
            rate=cosine(settings, len(x), epochs), epochs=share or epochs, patience=epochs,
            batch_size=settings["batch_size"], seed=seed, clip=1.0,
        )  # fmt: skip
        right = series_torch.predict(net, xt).argmax(axis=-1) == yt
        runs.append(log | ({} if share else {"accuracy": float(right.mean())}))
    return {"kind": "torch", "torch": runs} | ({"share": [share, epochs]} if share else {})


# ------------------------------------------------------------------------------------ all of it

RUNS: dict[str, Callable[..., dict[str, Any]]] = {
    **dict.fromkeys(FORECASTS, forecast_run),
    **dict.fromkeys(WINDOWS, window_run),
    **dict.fromkeys(SEQUENCES, sequence_run),
}
TWINS = {**dict.fromkeys(WINDOWS, window_torch), **dict.fromkeys(SEQUENCES, sequence_torch)}
PARTS = [*RUNS, *(f"{name} torch" for name in TWINS)]


def read_results(folder: Path) -> dict[str, Any]:
    """Read what is finished."""
    path = folder / "series.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def keep(folder: Path, name: str, part: dict[str, Any]) -> None:
    """Add a part to what is kept, with what it was measured on."""
    results = read_results(folder)  # again: another process may have finished something meanwhile
    here = machine.describe()
    results[name] = part | {"measured": {k: here[k] for k in ("cpu", "gru_np", "commit")}}
    replace(folder / "series.json", json.dumps(results, indent=1, sort_keys=True) + "\n")
    write_tables(results, folder)


def main() -> None:
    """Run what is not there yet; write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with ts/ and mnist/")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="NAME", help=", ".join(PARTS))
    parser.add_argument("--again", action="store_true", help="repeat what is finished")
    parser.add_argument("--epochs", type=int, help="so many, for a trial; nothing is kept")
    parser.add_argument("--seeds", nargs="+", type=int, help="of the forecasts (0 1 2)")
    parser.add_argument(
        "--torch-epochs", type=int,
        help="so many of torch's own parts: shows that both learn alike, and no more",
    )  # fmt: skip
    parser.add_argument("--results", type=Path, default=RESULTS, help="where to keep them")
    parser.add_argument("--tables", action="store_true", help="only write the tables again")
    args = parser.parse_args()
    args.results.mkdir(exist_ok=True)
    if args.tables:
        write_tables(read_results(args.results), args.results)
        return
    if args.data is None:
        parser.error("--data must name the folder of the data sets")
    for name in args.only or PARTS:
        results = read_results(args.results)
        if name in results and not (args.again or args.epochs):
            continue
        task = name.removesuffix(" torch")
        if name == task:
            given = {"seeds": tuple(args.seeds)} if args.seeds and name in FORECASTS else {}
            part = RUNS[name](args.data, name, args.epochs, results.get(name), **given)
        else:
            share = args.torch_epochs or args.epochs
            part = TWINS[task](args.data, task, share, results.get(task))
        if args.epochs:
            print(name, json.dumps(part)[:4000], flush=True)
        else:
            keep(args.results, name, part)


if __name__ == "__main__":
    main()
