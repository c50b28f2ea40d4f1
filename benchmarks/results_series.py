"""Series and sequences: our GRU, torch's at equal settings, and published numbers.

    python -m benchmarks.results_series --data FOLDER [--only NAME ...] [--epochs N]

Every finished part is kept in benchmarks/results/series.json and not run again; the tables in
series.md are made from that file. FOLDER holds `ts/` and `mnist/`; it is no part of the project.
Both libraries begin with the same weights, see the same batches in the same order, and use the same
optimiser, schedule, clipping and early stopping; only dropout masks differ. One thread.
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
from gru_np.callbacks import EarlyStopping
from gru_np.data import epoch_order
from gru_np.layers import SegmentGRU
from gru_np.optimizers import Adam

from . import machine

RESULTS = Path(__file__).parent / "results"
SEEDS = (0, 1, 2)

# name: file, columns, horizon, log, gaps; the last fifth is the test part
FORECASTS: dict[str, dict[str, Any]] = {
    "co2": {"file": "mauna_loa_co2_weekly", "target": "co2", "horizon": 26},
    "sunspots": {"file": "monthly_sunspots", "target": "Sunspots", "horizon": 12},
    "melbourne": {"file": "daily_min_temperatures", "target": "Temp", "horizon": 7},
    "load": {"file": "taylor_half_hourly_load", "target": "Y", "horizon": 48},
    "exchange": {"file": "exchange_rate", "target": "0", "horizon": 5},
    "sp500": {"file": "sp500_daily_2000_2020", "target": "close", "horizon": 5, "log": True},
}
TITLES = {
    "co2": "Mauna Loa CO2, weekly, 26 ahead", "sunspots": "Sunspots, monthly, 12 ahead",
    "melbourne": "Melbourne minimum temperature, daily, 7 ahead",
    "load": "Electricity demand, half-hourly, 48 ahead",
    "exchange": "Exchange rate (first of eight), daily, 5 ahead",
    "sp500": "S&P 500, daily, 5 ahead",
    "etth1": "ETTh1, 7 variables, 96 -> 96", "etth2": "ETTh2, 7 variables, 96 -> 96",
    "mnist": "MNIST, row by row", "japanese_vowels": "JapaneseVowels",
    "basic_motions": "BasicMotions",
}  # fmt: skip
# Read in the authors' own tables: SegRNN's README (look-back 96), other columns there.
PUBLISHED = {
    "etth1": "SegRNN 0.368 / 0.395, iTransformer 0.386 / 0.405, DLinear 0.386 / 0.400",
    "etth2": "SegRNN 0.278 / 0.335, iTransformer 0.297 / 0.349, DLinear 0.333 / 0.387",
}


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


# ------------------------------------------------------------------------------- torch's twins


def torch_stack(model: Sequential) -> Any:
    """Make torch's modules for a model of GRUs and Dense layers, with copies of its weights."""
    import torch
    from torch import nn

    class Twin(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList()
            self.kinds: list[Any] = []
            size = model.input_shape[-1]
            for layer in model.layers:
                if isinstance(layer, GRU | Bidirectional):
                    both = isinstance(layer, Bidirectional)
                    gru = nn.GRU(size, (layer.layer if both else layer).units, batch_first=True,
                                 bidirectional=both)  # fmt: skip
                    for name, array in layer.params.items():
                        end = "_reverse" if name.startswith("backward/") else ""
                        which = name.split("/")[-1].replace("W_", "weight_").replace("b_", "bias_")
                        getattr(gru, f"{which}_l0{end}").data[...] = torch.from_numpy(array)
                    self.parts.append(gru)
                    whole = (layer.layer if both else layer).return_sequences
                    self.kinds.append("sequence" if whole else "both" if both else "last")
                    size = gru.hidden_size * (1 + both)
                elif isinstance(layer, Dense):
                    dense = nn.Linear(size, layer.units)
                    dense.weight.data[...] = torch.from_numpy(layer.params["W"])
                    dense.bias.data[...] = torch.from_numpy(layer.params["b"])
                    self.parts.append(dense)
                    self.kinds.append("dense")
                    size = layer.units

        def forward(self, x: Any) -> Any:
            for part, kind in zip(self.parts, self.kinds, strict=True):
                if kind == "dense":
                    x = part(x)
                    continue
                x, state = part(x)
                if kind == "both":
                    x = torch.cat([state[0], state[1]], dim=-1)
                elif kind == "last":
                    x = state[-1]
            return x

    return Twin()


def torch_segments(layer: SegmentGRU) -> Any:
    """Make torch's form of SegmentGRU, with copies of its weights."""
    import torch
    from torch import nn

    class Twin(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            d, s = layer.units, layer.segment
            self.gru = nn.GRU(d, d)
            self.enter, self.leave = nn.Linear(s, d), nn.Linear(d, s)
            self.position = nn.Parameter(torch.from_numpy(layer.params["position"].copy()))
            self.channel = nn.Parameter(torch.from_numpy(layer.params["channel"].copy()))
            for name, target in (
                ("W_in", self.enter.weight), ("b_in", self.enter.bias),
                ("W_out", self.leave.weight), ("b_out", self.leave.bias),
                ("W_ih", self.gru.weight_ih_l0), ("W_hh", self.gru.weight_hh_l0),
                ("b_ih", self.gru.bias_ih_l0), ("b_hh", self.gru.bias_hh_l0),
            ):  # fmt: skip
                target.data[...] = torch.from_numpy(layer.params[name])

        def forward(self, x: Any) -> Any:
            B, L, C = x.shape
            s, m = layer.segment, layer.horizon // layer.segment
            last = x[:, -1:]
            u = (x - last).permute(0, 2, 1).reshape(B * C, L // s, s).permute(1, 0, 2)
            _, h = self.gru(torch.relu(self.enter(u)))
            place = torch.cat(
                [self.position.repeat_interleave(C, 0), self.channel.repeat(m, 1)], dim=1
            ).reshape(m, 1, C, -1)
            inputs = place.expand(m, B, C, -1).reshape(1, m * B * C, -1)
            _, g = self.gru(inputs, h.repeat(1, m, 1))
            g = nn.functional.dropout(g[0], layer.dropout, self.training)
            y = self.leave(g).reshape(m, B, C, s).permute(1, 0, 3, 2).reshape(B, m * s, C)
            return y + last

    return Twin()


def train_torch(
    net: Any, x: Any, y: Any, weight: Any, held_out: Any, loss: Callable[..., Any], *,
    rate: Callable[[int], float], epochs: int, patience: int, batch_size: int, seed: int,
    clip: float | None,
) -> int:  # fmt: skip
    """Train as `Sequential.fit` does: same order, schedule, clipping, stopping; give the epoch."""
    import torch

    tensors = [torch.from_numpy(np.ascontiguousarray(a)) for a in (x, y, weight)]
    held = [torch.from_numpy(np.ascontiguousarray(a)) for a in held_out]
    optimizer = torch.optim.Adam(net.parameters(), lr=rate(0), eps=1e-7)
    best, best_epoch, kept, step = np.inf, 0, None, 0
    for epoch in range(epochs):
        net.train()
        order = torch.from_numpy(epoch_order(len(x), seed, epoch))
        for rows in order.split(batch_size):
            for group in optimizer.param_groups:
                group["lr"] = rate(step)
            optimizer.zero_grad()
            bx, by, bw = (t[rows] for t in tensors)
            loss(net(bx), by, bw).backward()
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(net.parameters(), clip)
            optimizer.step()
            step += 1
        net.eval()
        with torch.no_grad():
            pieces = [t.split(256) for t in held]
            found = [(float(loss(net(a), b, c)), len(a)) for a, b, c in zip(*pieces, strict=True)]
        value = sum(v * n for v, n in found) / sum(n for _, n in found)
        if value < best:
            best, best_epoch, kept = value, epoch, copy.deepcopy(net.state_dict())
        elif epoch - best_epoch >= patience:
            break
    net.load_state_dict(kept)
    return best_epoch + 1


def torch_pinball(levels: Any) -> Callable[..., Any]:
    """Give the pinball loss as gru_np.losses.Pinball has it."""
    import torch

    q = torch.tensor(levels, dtype=torch.float32)

    def loss(out: Any, y: Any, weight: Any) -> Any:
        e = y[..., None] - out.reshape(*y.shape, len(levels))
        return (torch.maximum(q * e, (q - 1) * e).mean(dim=-1) * weight).mean()

    return loss


# ------------------------------------------------------------------------------------- the runs


def forecast_run(folder: Path, name: str, epochs: int | None) -> dict[str, Any]:
    """Train, back-test, and do the same with torch's GRU on the same windows."""
    settings = FORECASTS[name]
    path = folder / "ts" / f"{settings['file']}.csv.gz"
    data = series.read_csv(path, [settings["target"]])
    stop = series.split(data, validation=0, test=0.2).train
    ours, theirs, seconds = [], [], {"gru_np": 0.0, "torch": 0.0}
    for seed in SEEDS:
        forecaster = series.Forecaster(
            settings["target"], settings["horizon"], log=settings.get("log", False), seed=seed,
            epochs=epochs or 40,
        )  # fmt: skip
        began = time.perf_counter()
        forecaster.fit(data, stop=stop)
        seconds["gru_np"] += time.perf_counter() - began
        report = series.backtest(forecaster, data)
        ours.append(report.to_json())
        began = time.perf_counter()
        twin = torch_forecaster(forecaster, data, stop)
        seconds["torch"] += time.perf_counter() - began
        theirs.append(series.backtest(twin, data).to_json())
    return {
        "kind": "forecast", "rows": len(data), "target": settings["target"],
        "horizon": settings["horizon"], "units": forecaster.units, "season": report.season,
        "base": forecaster.layout.base, "lookback": forecaster.lookback, "notes": data.notes,
        "gru_np": ours, "torch": theirs, "seconds": seconds,
    }  # fmt: skip


def torch_forecaster(forecaster: Any, data: Any, stop: int) -> Any:
    """Give a forecaster whose weights torch trained, from the same beginning, on the same data."""
    twin = copy.deepcopy(forecaster)
    z = twin.scaling.apply(data.rows(0, stop).values)
    x, y, weight, held_out = twin._examples(z, data.clock.rows_between(0, stop), twin.parts)
    twin.model = twin.build_model()
    inner = Sequential(twin.model.layers[:-1], seed=twin.seed)
    inner.input_shape = twin.model.input_shape
    net = torch_stack(inner)
    schedule = forecaster.model.optimizer.learning_rate
    train_torch(
        net, x, y, weight, held_out, torch_pinball(twin.head.levels), rate=schedule,
        epochs=twin.epochs, patience=twin.patience, batch_size=twin.batch_size, seed=twin.seed,
        clip=1.0,
    )  # fmt: skip
    for layer, part in zip(inner.layers, net.parts, strict=True):
        for name, array in layer.params.items():
            if isinstance(layer, Dense):
                source = part.weight if name == "W" else part.bias
            else:
                key = name.replace("W_", "weight_").replace("b_", "bias_") + "_l0"
                source = getattr(part, key)
            array[...] = source.detach().numpy()
    return twin


def ett_run(folder: Path, name: str, epochs: int | None) -> dict[str, Any]:
    """Train SegRNN's form of the GRU by the published protocol, ours and torch's."""
    data = series.read_csv(folder / "ts" / f"{name.replace('etth', 'ETTh')}.csv.gz")
    values = data.values[:14400]
    parts = series.Parts(8640, 11520, 14400)
    scaled = series.Scaling.of(data, parts).apply(values).astype(np.float32)
    cuts = [(0, parts.train), (parts.train - 96, parts.validation), (parts.validation - 96, 14400)]
    cut = [series.windows(scaled[a:b], 96, 96) for a, b in cuts]
    (x, y, _), (xv, yv, _), (xt, yt, _) = cut
    epochs, patience, batch_size, units = epochs or 12, 4, 256, 256
    steps = -(-len(x) // batch_size)

    def rate(step: int) -> float:
        return 1e-3 * 0.8 ** max(step // steps - 2, 0)

    def fresh() -> Sequential:
        model = Sequential([SegmentGRU(96, 24, units, dropout=0.5)], seed=0)
        model.build((None, 96, 7))
        return model

    model = fresh()
    model.compile("mse", Adam(rate))
    stopping = EarlyStopping(patience=patience, restore_best_weights=True)
    began = time.perf_counter()
    model.fit(
        x, y, batch_size=batch_size, epochs=epochs, validation_data=(xv, yv),
        callbacks=[stopping], verbose=2,
    )  # fmt: skip
    seconds = {"gru_np": time.perf_counter() - began}
    found = {"gru_np": errors(model.predict(xt, batch_size=256), yt)}
    found["gru_np"]["epoch"] = stopping.best_epoch + 1
    yesterday = np.tile(xt[:, -24:], (1, 4, 1))
    found["persistence"] = errors(np.repeat(xt[:, -1:], 96, axis=1), yt)
    found["same hour yesterday"] = errors(yesterday, yt)
    return {
        "kind": "ett", "units": units, "windows": [len(x), len(xv), len(xt)], **found,
        "seconds": seconds, "batch_size": batch_size, "epochs": epochs, "patience": patience,
    }  # fmt: skip


def ett_torch(folder: Path, name: str, epochs: int | None) -> dict[str, Any]:
    """Train torch's twin of `ett_run`."""
    import torch

    data = series.read_csv(folder / "ts" / f"{name.replace('etth', 'ETTh')}.csv.gz")
    parts = series.Parts(8640, 11520, 14400)
    scaled = series.Scaling.of(data, parts).apply(data.values[:14400]).astype(np.float32)
    cuts = [(0, parts.train), (parts.train - 96, parts.validation), (parts.validation - 96, 14400)]
    (x, y, _), (xv, yv, _), (xt, yt, _) = (series.windows(scaled[a:b], 96, 96) for a, b in cuts)
    model = Sequential([SegmentGRU(96, 24, 256, dropout=0.5)], seed=0)
    model.build((None, 96, 7))
    net = torch_segments(model.layers[0])
    torch.manual_seed(0)
    steps = -(-len(x) // 256)
    began = time.perf_counter()
    epoch = train_torch(
        net, x, y, np.ones(len(x), np.float32), (xv, yv, np.ones(len(xv), np.float32)),
        lambda out, t, w: ((out - t) ** 2).mean(), epochs=epochs or 12, patience=4,
        rate=lambda step: 1e-3 * 0.8 ** max(step // steps - 2, 0), batch_size=256, seed=0,
        clip=None,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    with torch.no_grad():
        out = [net(t).numpy() for t in torch.from_numpy(np.ascontiguousarray(xt)).split(256)]
    return {
        "kind": "ett torch", **errors(np.concatenate(out), yt), "epoch": epoch, "seconds": seconds,
    }  # fmt: skip


def errors(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """Give MSE and MAE over all values."""
    e = x.astype(np.float64) - y
    return {"MSE": float(np.mean(e * e)), "MAE": float(np.mean(np.abs(e)))}


def classify_run(folder: Path, name: str, epochs: int | None) -> dict[str, Any]:
    """Train a classifier of whole sequences and torch's twin of it."""
    if name == "mnist":
        x, y, xt, yt = mnist(folder)
        held, seeds, epochs, batch_size, rate0 = 5000, (0,), epochs or 8, 128, 2e-3
    else:
        camel = {"japanese_vowels": "JapaneseVowels", "basic_motions": "BasicMotions"}[name]
        x, y, xt, yt = archive(folder, camel)
        held, seeds, epochs, batch_size, rate0 = 0, SEEDS, epochs or 60, 16, 3e-3
    classes = int(y.max()) + 1
    if held:  # the last rows choose the epoch; small sets take the last one
        x, y, xv, yv = x[:-held], y[:-held], x[-held:], y[-held:]
    else:
        xv, yv = x, y
    patience = epochs
    steps = epochs * -(-len(x) // batch_size)
    found: dict[str, Any] = {"gru_np": [], "torch": [], "seconds": {"gru_np": 0.0, "torch": 0.0}}
    for seed in seeds:
        from gru_np.schedules import CosineDecay

        rate = CosineDecay(rate0, steps, alpha=0.02)
        body: Any = GRU(128) if name == "mnist" else Bidirectional(GRU(64))
        model = Sequential([body, Dense(classes, activation="softmax")], seed=seed)
        model.build((None, *x.shape[1:]))
        start = copy.deepcopy(model)
        model.compile("sparse_categorical_crossentropy", Adam(rate, global_clipnorm=1.0),
                      ["accuracy"])  # fmt: skip
        callbacks = [EarlyStopping(patience=patience, restore_best_weights=True)] if held else []
        began = time.perf_counter()
        model.fit(
            x, y, batch_size=batch_size, epochs=epochs, verbose=2 if held else 0,
            validation_data=(xv, yv) if held else None, callbacks=callbacks,
        )  # fmt: skip
        found["seconds"]["gru_np"] += time.perf_counter() - began
        right = model.predict(xt, batch_size=256).argmax(axis=-1) == yt
        found["gru_np"].append(float(right.mean()))
        began = time.perf_counter()
        accuracy = classify_torch(
            start, x, y, xv, yv, xt, yt, rate=rate, epochs=epochs, batch_size=batch_size, seed=seed
        )
        found["torch"].append(accuracy)
        found["seconds"]["torch"] += time.perf_counter() - began
    return {
        "kind": "classify", **found, "epochs": epochs, "model": repr(start.layers[0]),
        "rows": [len(x), held, len(xt)],
    }  # fmt: skip


def classify_torch(
    start: Sequential, x: Any, y: Any, xv: Any, yv: Any, xt: Any, yt: Any, *, rate: Any,
    epochs: int, batch_size: int, seed: int,
) -> float:  # fmt: skip
    """Train torch's twin of a classifier; give its accuracy."""
    import torch

    net = torch_stack(start)
    ones, ones_v = np.ones(len(x), np.float32), np.ones(len(xv), np.float32)

    def loss(out: Any, labels: Any, weight: Any) -> Any:
        return torch.nn.functional.cross_entropy(out, labels)

    train_torch(
        net, x, y, ones, (xv, yv, ones_v), loss, rate=rate, epochs=epochs, patience=epochs,
        batch_size=batch_size, seed=seed, clip=1.0,
    )  # fmt: skip
    with torch.no_grad():
        out = [net(t) for t in torch.from_numpy(np.ascontiguousarray(xt)).split(256)]
    return float((torch.cat(out).argmax(dim=-1).numpy() == yt).mean())


RUNS: dict[str, Callable[..., dict[str, Any]]] = {
    **dict.fromkeys(FORECASTS, forecast_run),
    **dict.fromkeys(("etth1", "etth2"), ett_run),
    **dict.fromkeys(("japanese_vowels", "basic_motions", "mnist"), classify_run),
}
TORCH_RUNS = {"etth1 torch": "etth1", "etth2 torch": "etth2"}


# ---------------------------------------------------------------------------------- the tables


def tables(results: dict[str, Any]) -> str:
    """Write the Markdown tables."""
    m = results["machine"]
    lines = [
        "# Series and sequences", "",
        f"Made by `python -m benchmarks.results_series`, on {m['cpu']}, one thread, gru_np "
        f"{m['gru_np']}, torch {results['torch']}. Seconds are of a machine that others used too. "
        "A model is compared with forecasts that need none, and with torch's GRU from the same "
        "initial weights on the same batches.", "",
    ]  # fmt: skip
    parts = results["parts"]
    rows = [_forecast_row(name, parts[name]) for name in FORECASTS if name in parts]
    if rows:
        lines += [
            "## Forecasts", "",
            "One GRU of 64 units, quantile loss, the last fifth of the rows as test, every origin; "
            "mean absolute error in the units of the data, mean of three seeds. CRPS and coverage "
            "of our model.", "",
            "| series | ours | torch | persistence | seasonal naive | best naive | CRPS | "
            "in 80 % | warnings |", "|---|---:|---:|---:|---:|---:|---:|---:|---|", *rows, "",
        ]  # fmt: skip
    rows = [_ett_row(name, parts) for name in ("etth1", "etth2") if name in parts]
    if rows:
        lines += [
            "## ETT, MSE / MAE of standardised values", "",
            "One GRU over segments of 24 (256 units, the form of SegRNN), published split, epoch "
            "chosen on the validation part, all 2,785 test windows.", "",
            "| set | ours | torch | last value | same hour yesterday | published |",
            "|---|---:|---:|---:|---:|---|", *rows, "",
        ]  # fmt: skip
    names = [n for n in ("mnist", "japanese_vowels", "basic_motions") if n in parts]
    if names:
        lines += [
            "## Whole sequences, accuracy on the test part", "",
            "| set | model | ours | torch | seconds, ours | seconds, torch |",
            "|---|---|---:|---:|---:|---:|",
        ]  # fmt: skip
        for name in names:
            p = parts[name]
            ours, theirs = (100 * float(np.mean(p[k])) for k in ("gru_np", "torch"))
            lines.append(
                f"| {TITLES[name]} | `{p['model']}` | {ours:.2f} % | {theirs:.2f} % | "
                f"{p['seconds']['gru_np']:.0f} | {p['seconds']['torch']:.0f} |"
            )
        lines += [
            "", "Mean of three seeds, last epoch, for the two small sets; for MNIST one seed, the "
            "epoch with the least loss on 5,000 training images held out.",
        ]  # fmt: skip
    return "\n".join(lines).rstrip() + "\n"


def _forecast_row(name: str, part: dict[str, Any]) -> str:
    target = part["target"]

    def mean(library: str, method: str, score: str) -> float:
        return float(np.mean([r["scores"][target][method][score] for r in part[library]]))

    methods = [m for m in part["gru_np"][0]["scores"][target] if m != "GRU"]
    naive = {m: mean("gru_np", m, "MAE") for m in methods}
    best = min(naive, key=naive.__getitem__)
    repeats = any("repeats" in w for r in part["gru_np"] for w in r["warnings"])
    worse = mean("gru_np", "GRU", "MAE") > 1.01 * naive[best]
    warning = "repeats the last value" if repeats else "worse than naive" if worse else ""
    seasonal = f"{naive['seasonal naive']:.4g}" if "seasonal naive" in naive else "-"
    return (
        f"| {TITLES[name]} | {mean('gru_np', 'GRU', 'MAE'):.4g} | "
        f"{mean('torch', 'GRU', 'MAE'):.4g} | {naive['persistence']:.4g} | {seasonal} | "
        f"{naive[best]:.4g} ({best}) | {mean('gru_np', 'GRU', 'CRPS'):.4g} | "
        f"{100 * mean('gru_np', 'GRU', 'in 80 %'):.0f} % | {warning} |"
    )


def _ett_row(name: str, parts: dict[str, Any]) -> str:
    part, torch_part = parts[name], parts.get(f"{name} torch")

    def cell(found: Any) -> str:
        return f"{found['MSE']:.4f} / {found['MAE']:.4f}" if found else "not run"

    return (
        f"| {TITLES[name]} | {cell(part['gru_np'])} | {cell(torch_part)} | "
        f"{cell(part['persistence'])} | {cell(part['same hour yesterday'])} | {PUBLISHED[name]} |"
    )


def main() -> None:
    """Run what is not there yet; write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with ts/ and mnist/")
    parser.add_argument("--only", nargs="+", choices=[*RUNS, *TORCH_RUNS], metavar="NAME")
    parser.add_argument("--epochs", type=int, help="fewer, for a trial (not kept)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where to keep them")
    args = parser.parse_args()
    args.results.mkdir(exist_ok=True)
    for name in args.only or [*RUNS, *TORCH_RUNS]:
        path = args.results / "series.json"
        results = json.loads(path.read_text()) if path.exists() else {"parts": {}}
        if name in results["parts"] and not args.epochs:
            continue
        if name in RUNS:
            part = RUNS[name](args.data, name, args.epochs)
        else:
            part = ett_torch(args.data, TORCH_RUNS[name], args.epochs)
        print(name, json.dumps({k: v for k, v in part.items() if k != "notes"})[:600], flush=True)
        if args.epochs:
            continue
        # Read again: another process may have finished a part meanwhile.
        results = json.loads(path.read_text()) if path.exists() else {"parts": {}}
        results["machine"], results["torch"] = machine.describe(), _torch_version()
        results["parts"][name] = part
        path.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
        (args.results / "series.md").write_text(tables(results))


def _torch_version() -> str:
    try:
        import torch
    except ImportError:
        return "absent"
    torch.set_num_threads(1)
    return torch.__version__.split("+")[0]


if __name__ == "__main__":
    _torch_version()
    main()
