"""One forecast: times, numbers, quantiles."""

import csv
import os
from typing import Any, NamedTuple

import numpy as np

from gru_np._aliases import Array
from gru_np.series.clock import Clock
from gru_np.series.scores import quantile_weights


class Forecast(NamedTuple):
    """What comes after the last known row, H steps of D columns.

    Attributes
    ----------
    columns : list of str
    time : (H,) datetime64 or int
    point : (H, D)
        The median; the trained number for loss "mse", "mae", "huber".
    quantiles : (H, D, J)
    levels : tuple of float
        The J levels.
    clock : Clock
        Of the rows before.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.series import Forecast, Series
    >>> clock = Series([3.0, 4.0]).clock
    >>> point = np.array([[5.0]])
    >>> forecast = Forecast(["x"], clock.after(1), point, np.array([[[4.0, 5.0, 6.0]]]),
    ...     (0.1, 0.5, 0.9), clock)
    >>> forecast
    time     x  80 % interval
       2  5.00   4.00 .. 6.00
    """

    columns: list[str]
    time: Array
    point: Array
    quantiles: Array
    levels: tuple[float, ...]
    clock: Clock

    def interval(self, share: float = 0.8) -> tuple[Array, Array]:
        """Give the bounds (H, D) between which a future value lies with this probability."""
        if not 0 < share < 1:
            raise ValueError(f"interval: share must be between 0 and 1, got {share}")
        tails = [(1 - share) / 2, (1 + share) / 2]
        bounds = self.quantiles @ quantile_weights(self.levels, tails)
        return bounds[..., 0], bounds[..., 1]

    def table(self, share: float = 0.8) -> list[list[Any]]:
        """Give header and rows: time, then point, low and high of each column."""
        low, high = self.interval(share)
        header = ["time"]
        for name in self.columns:
            header += [name, f"{name} low {share:.0%}", f"{name} high {share:.0%}"]
        rows: list[list[Any]] = [header]
        for h, time in enumerate(self.time):
            row: list[Any] = [self.clock.spell(time)]
            for d in range(len(self.columns)):
                row += [float(a[h, d]) for a in (self.point, low, high)]
            rows.append(row)
        return rows

    def to_csv(self, path: str | os.PathLike[str], share: float = 0.8) -> None:
        """Write the table to a CSV file."""
        with open(path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(self.table(share))

    def text(self, share: float = 0.8) -> str:
        """Write times, points and intervals under each other."""
        low, high = self.interval(share)
        title = f"{100 * share:.4g} % interval"
        cells = [["time", *(c for name in self.columns for c in (name, title))]]
        digits = [decimals(self.quantiles[:, d]) for d in range(len(self.columns))]
        for h, time in enumerate(self.time):
            row = [self.clock.spell(time)]
            for d, n in enumerate(digits):
                row += [f"{self.point[h, d]:.{n}f}", f"{low[h, d]:.{n}f} .. {high[h, d]:.{n}f}"]
            cells.append(row)
        return aligned(cells)

    def __repr__(self) -> str:
        return self.text()


def decimals(values: Array) -> int:
    """Say how many decimals show three digits of how much values move."""
    finite = values[np.isfinite(values)]
    size = float(np.ptp(finite)) if finite.size else 1.0
    return int(np.clip(2 - np.floor(np.log10(size)), 0, 8)) if size > 0 else 2


def aligned(cells: list[list[str]]) -> str:
    """Put rows of cells under each other, right-aligned."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(lines)
