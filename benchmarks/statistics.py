"""Medians and quartiles of repetitions, and what follows from them."""

from typing import Any

import numpy as np

from .contestants import entry_of


def quartiles(values: list[float]) -> dict[str, float]:
    """Median, first and third quartile."""
    q1, median, q3 = np.percentile(values, [25, 50, 75])
    return {"median": float(median), "q1": float(q1), "q3": float(q3)}


def summary(seconds: list[float]) -> dict[str, Any]:
    """Median, quartiles, fastest and number, in seconds."""
    return quartiles(seconds) | {"fastest": float(min(seconds)), "repeats": len(seconds)}


def tail(singles: list[float]) -> dict[str, Any]:
    """99th percentile of single calls, in seconds, and how many there were."""
    return {"p99": float(np.percentile(singles, 99)), "singles": len(singles)}


def share_in_turn(operations: int, seconds: list[float], peaks: list[float]) -> float:
    """Median over the rounds of the rate in a round over the peak, in GFLOP/s, of that round.

    Round by round, because the clock wanders: the medians of both need not be of the same minute.
    """
    return float(np.median(operations / np.array(seconds) / 1e9 / np.array(peaks)))


def peak_share(row: dict[str, Any]) -> float | None:
    """Share of the peak in turn; of the run's best where the peak had no turn; None without any."""
    share: float | None = row.get("peak share in turn", row.get("peak share"))
    return share


def seconds_by(statistic: str, results: dict[str, Any]) -> dict[str, float]:
    """Seconds of the contestants that have this statistic: "median" or "fastest"."""
    return {name: row[statistic] for name, row in results.items() if statistic in row}


def best_rival(statistic: str, results: dict[str, Any]) -> str:
    """Name the rival with the least time; "" if there is none."""
    seconds = seconds_by(statistic, results)
    rivals = {k: v for k, v in seconds.items() if entry_of(k).rival}
    return min(rivals, key=rivals.__getitem__, default="")


def ratio(statistic: str, results: dict[str, Any], rival: str, ours: str) -> float | None:
    """How many times as long the rival takes; None if either has no time."""
    seconds = seconds_by(statistic, results)
    return seconds[rival] / seconds[ours] if rival in seconds and ours in seconds else None
