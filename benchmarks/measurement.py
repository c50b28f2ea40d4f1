"""One case with one number of threads: its repetitions as they come, then the record of them."""

from dataclasses import dataclass, field
from typing import Any

from . import problems
from .contestants import OURS
from .statistics import best_rival, quartiles, ratio, share_in_turn, summary, tail


@dataclass
class Measurement:
    """What is measured, and what has been seen of it so far."""

    section: str
    case: Any
    threads: int
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)  # by contestant
    calls: dict[str, int] = field(default_factory=dict)  # in a repetition, of those who still run
    seconds: dict[str, list[float]] = field(default_factory=dict)
    singles: dict[str, list[float]] = field(default_factory=dict)  # seconds of single calls
    peaks: list[float] = field(default_factory=list)  # GFLOP/s in every round

    @property
    def is_layer(self) -> bool:
        """Whether it is one layer, whose operations are counted against the peak."""
        return isinstance(self.case, problems.Shape)

    def enter(self, name: str, row: dict[str, Any], calls: int) -> None:
        """Take in a contestant; it runs unless `calls` is 0."""
        self.rows[name] = row
        if calls:
            self.calls[name], self.seconds[name], self.singles[name] = calls, [], []

    def take(self, name: str, reply: dict[str, Any]) -> None:
        """Take in a repetition."""
        self.seconds[name].append(reply["seconds"])
        self.singles[name] += reply.get("singles", ())

    def leave(self, name: str, reason: str) -> None:
        """Let a contestant that failed run no more; it has no time."""
        self.rows[name]["failed"] = reason
        del self.calls[name], self.seconds[name], self.singles[name]

    def record(self, best_peak: float | None) -> dict[str, Any]:
        """Summaries, and the ratios and shares that follow; `best_peak` of the run in GFLOP/s."""
        for name, seconds in self.seconds.items():
            self.rows[name] |= summary(seconds) | {"calls": self.calls[name]}
            if self.singles[name]:
                self.rows[name] |= tail(self.singles[name])
        rival = best_rival("median", self.rows)
        record = {
            "case": problems.to_record(self.case),
            "contestants": self.rows,
            "best_rival": rival,
            "ratio": ratio("median", self.rows, rival, OURS),
        }
        return record | (self._shares(best_peak) if self.is_layer else {})

    def _shares(self, best_peak: float | None) -> dict[str, Any]:
        """Give everyone's share of the peak; what they are computed from is for the record."""
        operations = self.case.operations(self.section == "training")
        found = {"operations": operations, "bytes_moved": self.case.bytes_moved()}
        if self.peaks:
            found["peak in turn"] = quartiles(self.peaks)
        for name, seconds in self.seconds.items():
            row = self.rows[name]
            row["GFLOP/s"] = operations / row["median"] / 1e9
            row["peak share"] = row["GFLOP/s"] / best_peak if best_peak else None
            if self.peaks:
                row["peak share in turn"] = share_in_turn(operations, seconds, self.peaks)
        return found
