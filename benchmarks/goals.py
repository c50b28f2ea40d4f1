"""What gru_np sets out to reach, and whether a run reached it.

Every goal can be measured by either statistic of the repetitions, "median" or "fastest".
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from .contestants import OURS
from .problems import case_from
from .statistics import best_rival, peak_share, ratio

MEMORY_BOUND = "1,100,256,512"
NAMED = {"32,100,64,256", "20,35,650,650", "32,128,512,512"}
TINY = "100,32,16,1,4,2"


def threads_text(n: str) -> str:
    """One thread, 2 threads."""
    return "one thread" if n == "1" else f"{n} threads"


class Measured(NamedTuple):
    """One measured number and what it should at least be."""

    where: str
    value: float
    bound: float
    note: str = ""


Measure = Callable[[dict[str, Any], str], Iterator[Measured]]  # of the results, by a statistic


class Goal(NamedTuple):
    """A sentence and how to measure it."""

    text: str
    measure: Measure


Cases = Iterator[tuple[str, str, dict[str, Any]]]


def cases(results: dict[str, Any], section: str, threads: str | None = None) -> Cases:
    """Threads, label and record of every case of a section."""
    for n, found in results["sections"].get(section, {}).items():
        if threads in (None, n):
            for label, record in found.items():
                yield n, label, record


def _ratio(statistic: str, record: dict[str, Any], rival: str = "") -> float | None:
    """How many times as long one rival takes, or the best by that statistic."""
    rows = record["contestants"]
    return ratio(statistic, rows, rival or best_rival(statistic, rows), OURS)


def _ahead(*sections: str) -> Measure:
    def measure(results: dict[str, Any], statistic: str) -> Iterator[Measured]:
        for section in sections:
            for n, label, record in cases(results, section):
                found = _ratio(statistic, record)
                if found:
                    yield Measured(f"{section} ({label}), {threads_text(n)}", found, 1.0)

    return measure


def _median(section: str, bound: float, rival: str = "") -> Measure:
    """Measure the median of all cases' ratios, for each number of threads."""

    def measure(results: dict[str, Any], statistic: str) -> Iterator[Measured]:
        for n in results["sections"].get(section, {}):
            found = [
                _ratio(statistic, record, rival) for _, _, record in cases(results, section, n)
            ]
            ratios = [r for r in found if r]
            if ratios:
                yield Measured(f"{threads_text(n)}", float(np.median(ratios)), bound)

    return measure


def _against(rival: str, bound: float, *sections: str, only: str = "", but: str = "") -> Measure:
    def measure(results: dict[str, Any], statistic: str) -> Iterator[Measured]:
        for section in sections:
            for n, label, record in cases(results, section):
                found = _ratio(statistic, record, rival)
                if found and label != but and (not only or label == only):
                    yield Measured(f"{section} ({label}), {threads_text(n)}", found, bound)

    return measure


def _peak(section: str, named: float, elsewhere: float) -> Measure:
    def measure(results: dict[str, Any], statistic: str) -> Iterator[Measured]:
        best = results["peak"].get("1", {}).get("GFLOP/s")
        for _, label, record in cases(results, section, "1"):
            share, note = _share(statistic, record, best)
            if share and (label in NAMED or case_from(record["case"]).B >= 8):
                bound = named if label in NAMED else elsewhere
                yield Measured(f"({label})", share, bound, note)

    return measure


def _share(
    statistic: str, record: dict[str, Any], best_peak: float | None
) -> tuple[float | None, str]:
    """Give our share of the peak and a note; the fastest repetition's is of the run's best peak."""
    row = record["contestants"].get(OURS, {})
    if statistic == "median":
        of_best = row.get("peak share")
        both = "peak share in turn" in row and of_best
        return peak_share(row), f"{of_best:.2f} of the run's best" if both else ""
    if statistic in row and best_peak:
        return record["operations"] / row[statistic] / 1e9 / best_peak, ""
    return None, ""


def _two_threads(results: dict[str, Any], statistic: str) -> Iterator[Measured]:
    for section in ("forward", "training", "language_model"):
        for _, label, record in cases(results, section, "1"):
            other = results["sections"][section].get("2", {}).get(label, {"contestants": {}})
            one, two = (r["contestants"].get(OURS, {}) for r in (record, other))
            # Whichever statistic judges, the median says which cases.
            long = case_from(record["case"]).B >= 16 and one.get("median", 0.0) > 1e-3
            if long and statistic in one and statistic in two:
                yield Measured(f"{section} ({label})", one[statistic] / two[statistic], 1.7)


def _cold(label: str, rival: str, ours: str, factor: float) -> Measure:
    def measure(results: dict[str, Any], statistic: str) -> Iterator[Measured]:
        for _, _, record in (c for c in cases(results, "cold") if c[1] == label):
            found = ratio(statistic, record["contestants"], rival, ours)
            if found:
                yield Measured(f"{rival} / {ours}", found, factor)

    return measure


def _memory(results: dict[str, Any], statistic: str) -> Iterator[Measured]:
    for _, label, record in cases(results, "memory"):
        rows = record["contestants"]
        found = "bytes" in rows.get("torch", {}) and "bytes" in rows.get(OURS, {})
        if found and statistic == "median":  # measured once, so there is no fastest
            yield Measured(label, rows["torch"]["bytes"] / rows[OURS]["bytes"], 1.0)


GOALS = [
    Goal("forward: ahead of the best rival at every shape", _ahead("forward")),
    Goal("forward: 1.15 times the best rival in the median", _median("forward", 1.15)),
    Goal(
        f"forward: 2.5 times torch at every shape but ({MEMORY_BOUND}), which memory bounds",
        _against("torch", 2.5, "forward", but=MEMORY_BOUND),
    ),
    Goal(
        "forward, one thread: 85 % of the peak on the three large shapes, 75 % from B = 8",
        _peak("forward", 0.85, 0.75),
    ),
    Goal("forward + backward: ahead of the best rival at every shape", _ahead("training")),
    Goal("forward + backward: 1.5 times the best rival in the median", _median("training", 1.5)),
    Goal("forward + backward: 2.5 times torch in the median", _median("training", 2.5, "torch")),
    Goal(
        "forward + backward, one thread: 75 % of the peak on the three, 60 % from B = 8",
        _peak("training", 0.75, 0.60),
    ),
    Goal(
        "language-model steps and generation: ahead of every rival",
        _ahead("language_model", "generation"),
    ),
    Goal(
        "language-model steps and generation: twice torch each",
        _against("torch", 2.0, "language_model", "generation"),
    ),
    Goal(
        "the tiny step: ten times Keras on TensorFlow",
        _against("keras-tensorflow", 10.0, "language_model", only=TINY),
    ),
    Goal("two threads: 1.7 times one thread from B = 16 and a millisecond", _two_threads),
    Goal("cold start: no slower than ONNX Runtime", _cold("predict", "onnxruntime", OURS, 1.0)),
    Goal("peak memory of training: at most torch's", _memory),
]


class Judged(NamedTuple):
    """A goal by one statistic: how many were measured, those that miss, the nearest or worst."""

    of: int
    missed: list[Measured]
    worst: Measured


def judged(results: dict[str, Any], statistic: str) -> dict[str, Judged]:
    """Judge each goal that has something measured, by its text."""
    table = {}
    for goal in GOALS:
        found = list(goal.measure(results, statistic))
        if found:
            worst = min(found, key=lambda m: m.value / m.bound)
            missed = [m for m in found if m.value < m.bound]
            table[goal.text] = Judged(len(found), missed, worst)
    return table
