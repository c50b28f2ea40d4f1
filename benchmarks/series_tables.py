"""The tasks of results_series, and its tables: series.md, and the short one in README.md."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

README = Path(__file__).parent.parent / "README.md"

# One column, the last fifth of its rows as test; MAE in its own units.
FORECASTS: dict[str, dict[str, Any]] = {
    "co2": {
        "file": "mauna_loa_co2_weekly", "target": "co2", "horizon": 26,
        "title": "Mauna Loa CO2, weekly, 26 ahead", "unit": "ppm",
    },
    "sunspots": {
        "file": "monthly_sunspots", "target": "Sunspots", "horizon": 12,
        "title": "Sunspots, monthly, 12 ahead", "unit": "spots",
    },
    "melbourne": {
        "file": "daily_min_temperatures", "target": "Temp", "horizon": 7,
        "title": "Melbourne minimum temperature, daily, 7 ahead", "unit": "°C",
    },
    "load": {
        "file": "taylor_half_hourly_load", "target": "Y", "horizon": 48,
        "title": "Electricity demand, half-hourly, 48 ahead", "unit": "MW",
    },
    "exchange": {
        "file": "exchange_rate", "target": "0", "horizon": 5,
        "title": "Exchange rate (first of eight), daily, 5 ahead", "unit": "USD",
    },
    "sp500": {
        "file": "sp500_daily_2000_2020", "target": "close", "horizon": 5, "log": True,
        "title": "S&P 500, daily, 5 ahead", "unit": "points",
    },
}  # fmt: skip
# All columns together, 96 rows ahead; MSE of standardised values.
SEGRNN = {
    "units": 256, "dropout": 0.5, "rate": 1e-3, "batch_size": 256, "epochs": 14, "patience": 4,
    "embeddings": 0.05, "averaged": 1,
}  # fmt: skip
ETT: dict[str, Any] = {
    "parts": (8640, 11520, 14400), "lookback": 96, "season": 24,
    "candidates": {
        "embeddings N(0, 0.05²)": SEGRNN, "embeddings N(0, 1)": SEGRNN | {"embeddings": 1.0},
        "N(0, 0.05²), mean of the last six epochs' weights": SEGRNN | {"averaged": 6},
        "512 units, embeddings N(0, 0.05²)": SEGRNN | {"units": 512},
        "512 units, embeddings N(0, 1), as published": SEGRNN | {"units": 512, "embeddings": 1.0},
    },
}  # fmt: skip
WINDOWS: dict[str, dict[str, Any]] = {
    # Published: as the authors give them, look-back 96.
    "etth1": ETT | {
        "file": "ETTh1", "title": "ETTh1, 7 variables, 96 -> 96",
        "published": "SegRNN 0.368, iTransformer 0.386, DLinear 0.386",
    },
    "etth2": ETT | {
        "file": "ETTh2", "title": "ETTh2, 7 variables, 96 -> 96",
        "candidates": {"128 units": SEGRNN | {"units": 128}},
        "published": "SegRNN 0.278, iTransformer 0.297, DLinear 0.333",
    },
}  # fmt: skip
SEQUENCES = {
    "mnist": "MNIST, row by row", "japanese_vowels": "JapaneseVowels",
    "basic_motions": "BasicMotions",
}  # fmt: skip


class Row(NamedTuple):
    """One task, in whatever it is measured by."""

    title: str
    measure: str
    ours: float
    torch: float | None
    naive: dict[str, float]  # persistence, drift, seasonal naive: what there is
    published: str

    @property
    def is_accuracy(self) -> bool:
        """Answer whether more is better."""
        return self.measure == "accuracy"

    @property
    def behind(self) -> float | None:
        """Give how much worse ours is than torch's, as a share of torch's; below 0 if better."""
        if self.torch is None:
            return None
        ratio = self.ours / self.torch
        return 1 - ratio if self.is_accuracy else ratio - 1


def rows_of(results: dict[str, Any]) -> list[Row]:
    """Give the row of every task that is finished."""
    rows = []
    for name, settings in WINDOWS.items():
        if name in results:
            found, twin = results[name], results.get(f"{name} torch")
            naive = {method: e["MSE"] for method, e in found["naive"].items()}
            rows.append(
                Row(settings["title"], "MSE", found["gru_np"]["MSE"], twin and twin.get("MSE"),
                    naive, settings["published"])
            )  # fmt: skip
    for name, settings in FORECASTS.items():
        if name in results:
            part = results[name]
            naive = {m: mean_of(part, "gru_np", m) for m in methods_of(part) if m != "GRU"}
            rows.append(
                Row(settings["title"], f"MAE, {settings['unit']}", mean_of(part, "gru_np"),
                    mean_of(part, "torch"), naive, "")
            )  # fmt: skip
    for name, title in SEQUENCES.items():
        if name in results:
            twin = results.get(f"{name} torch")
            theirs = accuracy(twin["torch"]) if twin and "share" not in twin else None
            rows.append(Row(title, "accuracy", accuracy(results[name]["gru_np"]), theirs, {}, ""))
    return rows


def methods_of(part: dict[str, Any]) -> list[str]:
    """Name the model and the naive forecasts of a back-test."""
    return list(part["gru_np"][0]["scores"][part["target"]])


def mean_of(part: dict[str, Any], library: str, method: str = "GRU", score: str = "MAE") -> float:
    """Give the mean of a score over the seeds."""
    return float(np.mean([run["scores"][part["target"]][method][score] for run in part[library]]))


def accuracy(runs: list[dict[str, Any]]) -> float:
    """Give the mean accuracy over the seeds."""
    return float(np.mean([run["accuracy"] for run in runs]))


# ---------------------------------------------------------------------------------- the tables


def table(head: list[str], rows: list[list[str]], left: int = 1) -> list[str]:
    """Write a Markdown table, its first columns to the left and the others to the right."""
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    return [f"| {' | '.join(cells)} |".replace("  ", " ") for cells in (head, rule, *rows)]


def overview(results: dict[str, Any]) -> list[str]:
    """Write the table of everything, a line a task."""
    cells = []
    for row in rows_of(results):
        write = "{:.2%}".format if row.is_accuracy else "{:.4g}".format
        numbers = [row.ours, row.torch]
        numbers += [row.naive.get(name) for name in ("persistence", "drift", "seasonal naive")]
        shown = ["" if n is None else write(n).replace("%", " %") for n in numbers]
        cells.append([row.title, row.measure, *shown, row.published])
    return table(
        ["task", "measure", "gru_np", "torch", "persistence", "drift", "seasonal naive",
         "published"], cells, 2
    )  # fmt: skip


def verdicts(results: dict[str, Any]) -> list[str]:
    """Say, from the numbers, what was reached and what was not."""
    rows = rows_of(results)
    both = [row for row in rows if row.behind is not None]
    lines = []
    if both:
        worst = max(both, key=lambda row: row.behind or 0.0)
        bound = "never more than" if (worst.behind or 0) <= 0.02 else "NOT always within"
        lines.append(
            f"Against torch at equal settings, ours is {bound} 2 % worse in {len(both)} tasks; "
            f"the worst is {worst.title}: {100 * (worst.behind or 0):+.2f} %."
        )
    seasonal = [row for row in both if "seasonal naive" in row.naive]
    if seasonal:
        torchs = [
            r for r in seasonal if r.torch is not None and r.torch < r.naive["seasonal naive"]
        ]
        ours = [row for row in torchs if row.ours < row.naive["seasonal naive"]]
        lines.append(
            f"Torch's GRU beats the seasonal naive forecast in {len(torchs)} of {len(seasonal)} "
            f"tasks, ours in {len(ours)} of these {len(torchs)}."
        )
    return lines


def forecast_table(results: dict[str, Any]) -> list[str]:
    """Write what is known of the forecasts of one column."""
    rows = []
    for name, settings in FORECASTS.items():
        if name not in results:
            continue
        part = results[name]
        naive = {m: mean_of(part, "gru_np", m) for m in methods_of(part) if m != "GRU"}
        best = min(naive, key=naive.__getitem__)
        scores = [
            f"{mean_of(part, library, score=score):.4g}"
            for score in ("MAE", "RMSE", "MASE", "CRPS") for library in ("gru_np", "torch")
        ]  # fmt: skip
        pairs = [" / ".join(scores[i : i + 2]) for i in range(0, len(scores), 2)]
        inside = [f"{100 * mean_of(part, 'gru_np', score=s):.0f} %" for s in ("in 80 %", "in 90 %")]
        warnings = sorted({w.split(": ", 1)[1] for run in part["gru_np"] for w in run["warnings"]})
        warning = "repeats the last value" if any("repeats" in w for w in warnings) else ""
        if any("do not use" in w for w in warnings):
            warning = f"{warning}; worse than {best}".removeprefix("; ")
        rows.append(
            [settings["title"], str(part["season"]), str(len(part["gru_np"])), *pairs,
             f"{naive[best]:.4g} ({best})", *inside, warning]
        )  # fmt: skip
    return table(
        ["series", "season", "seeds", "MAE", "RMSE", "MASE", "CRPS", "best naive MAE", "in 80 %",
         "in 90 %", "warned that it"], rows
    )  # fmt: skip


def window_tables(results: dict[str, Any]) -> list[str]:
    """Write MSE and MAE of everything, and how the settings were chosen."""
    scores, chosen = [], []
    for name, settings in WINDOWS.items():
        if name not in results:
            continue
        part = results[name]
        lines = {"gru_np": part["gru_np"], "torch": results.get(f"{name} torch")} | part["naive"]
        scores += [
            [settings["title"], who, f"{e['MSE']:.4f}", f"{e['MAE']:.4f}"]
            for who, e in lines.items() if e and "MSE" in e
        ]  # fmt: skip
        for label, log in part["tried"].items():
            shown = f"**{label}**" if label == part["chosen"] else label
            chosen.append(
                [settings["title"], shown, f"{log['validation']:.4f}",
                 f"{log['epoch']} of {len(log['losses'])}", f"{log['seconds']:.0f}"]
            )  # fmt: skip
    return [
        *table(["set", "forecast", "MSE", "MAE"], scores, 2), "",
        *table(["set", "settings", "validation MSE", "epoch", "seconds"], chosen, 2),
    ]  # fmt: skip


def sequence_table(results: dict[str, Any]) -> list[str]:
    """Write the accuracy of every seed."""
    rows = []
    for name, title in SEQUENCES.items():
        if name not in results:
            continue
        part, twin = results[name], results.get(f"{name} torch", {"torch": []})
        cells = [
            ", ".join(f"{100 * run['accuracy']:.2f}" for run in runs if "accuracy" in run)
            for runs in (part["gru_np"], twin["torch"])
        ]
        seconds = [
            f"{sum(run['seconds'] for run in runs):.0f}" if runs else ""
            for runs in (part["gru_np"], twin["torch"])
        ]
        rows.append([title, f"`{part['model']}`", f"{part['parameters']:,}", *cells, *seconds])
    return table(
        ["set", "layer", "parameters", "gru_np, %", "torch, %", "seconds", "torch"], rows, 2
    )


def agreement(results: dict[str, Any]) -> list[str]:
    """Write the losses of both, which part only as rounding grows."""
    rows = []
    for title, ours, theirs in pairs_of(results):
        if "losses" not in theirs:
            continue
        n = min(len(ours["losses"]), len(theirs["losses"]))
        cells = [apart(ours["first_steps"], theirs["first_steps"])]
        for epoch in (1, n):
            a, b = ours["losses"][epoch - 1], theirs["losses"][epoch - 1]
            cells += [f"{a:.5f} / {b:.5f}"]
        epochs = [log["epoch"] if len(log["losses"]) == n else "" for log in (ours, theirs)]
        taken = f"{epochs[0]} / {epochs[1]}" if all(epochs) else "torch: these epochs only"
        rows.append([title, *cells, str(n), taken])
    return table(
        ["task (seed 0)", "first steps, apart at most", "loss of the first epoch", "of epoch n",
         "n", "epoch taken"], rows
    )  # fmt: skip


def pairs_of(results: dict[str, Any]) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Give title, our log and torch's of every task that both did, at the first seed."""
    found = []
    for name, settings in FORECASTS.items():
        if name in results:
            found.append((settings["title"], *(results[name][k][0] for k in ("gru_np", "torch"))))
    for name, settings in WINDOWS.items():
        if f"{name} torch" in results:
            found.append((settings["title"], results[name]["gru_np"], results[f"{name} torch"]))
    for name, title in SEQUENCES.items():
        if f"{name} torch" in results:
            both = results[name]["gru_np"][0], results[f"{name} torch"]["torch"][0]
            found.append((title, *both))
    return found


def apart(a: list[float], b: list[float]) -> str:
    """Write the largest relative difference."""
    return f"{max(abs(x / y - 1) for x, y in zip(a, b, strict=True)):.1e}"


def write_tables(results: dict[str, Any], folder: Path, readme: Path = README) -> None:
    """Write series.md, and the short table into README.md."""
    short = [*overview(results), "", *verdicts(results)]
    lines = [
        "# Series and sequences", "",
        "Written by `python -m benchmarks.results_series`. Ours and torch's begin with the same "
        "weights and see the same batches, dropout masks, schedule and stopping; persistence, "
        "drift and seasonal naive need no model. Where torch has no number it was not trained to "
        "the end; the last table has what it was trained for. One thread; seconds are of a machine "
        "that others used too.", "", *short, "",
        "## One column of a series, ours / torch's", "",
        "One GRU of 64 units, quantile loss, the default settings of `Forecaster`; the last fifth "
        "of the rows is the test, every row of it an origin; means over seeds 0, 1, ... The last "
        "fifteen of a hundred training rows choose the epoch. Coverage of our intervals.", "",
        *forecast_table(results), "",
        "## Windows of several columns, standardised", "",
        "One GRU over segments of 24 rows (the form of SegRNN), published split, all windows, "
        "seed 0. The validation part alone chooses settings and epoch; candidates were added to "
        "ETTh1 twice after its test part had been read.", "",
        *window_tables(results), "",
        "## Classes of whole sequences", "",
        "MNIST: seed 0, the epoch with the least loss on 5,000 training images held out. The two "
        "small sets: seeds 0, 1 and 2, the last of 60 epochs, settings fixed beforehand.", "",
        *sequence_table(results), "",
        "## The losses of both", "", *agreement(results),
    ]  # fmt: skip
    (folder / "series.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    page = readme.read_text(encoding="utf-8")
    before, begin, rest = page.partition("<!-- series:begin -->")
    _, end, after = rest.partition("<!-- series:end -->")
    if end:
        text = "\n".join(short)
        readme.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")
