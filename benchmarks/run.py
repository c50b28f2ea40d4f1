"""The run itself: sections, cases, turns; results are written after every case."""

import json
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from . import fresh, machine, peak, problems, reference, size
from .contestants import CONTESTANTS, OURS, UnsupportedError, missing
from .plan import TIMED, Plan
from .statistics import best_rival, quartiles, ratio, share_in_turn, summary
from .workers import (
    Quiet,
    Worker,
    WorkerError,
    environment,
    processors,
)

FORMAT = 1


class Progress:
    """One line on a terminal, rewritten; elsewhere a line for every case and nothing between."""

    def __init__(self) -> None:
        self.terminal = sys.stderr.isatty()
        self.start = perf_counter()

    def update(self, text: str) -> None:
        """Show what is going on."""
        if self.terminal:
            sys.stderr.write(f"\r\x1b[K{perf_counter() - self.start:5.0f} s  {text[:100]}")
            sys.stderr.flush()

    def line(self, text: str) -> None:
        """Say what is done."""
        clear = "\r\x1b[K" if self.terminal else ""
        sys.stderr.write(f"{clear}{perf_counter() - self.start:5.0f} s  {text}\n")
        sys.stderr.flush()


class Results:
    """The results as one JSON object, replaced on disk in one move after every change."""

    def __init__(self, path: Path, resume: bool) -> None:
        self.path = path
        self.data: dict[str, Any] = {}
        if resume and path.exists():
            self.data = json.loads(path.read_text())

    def begin(self, description: dict[str, Any]) -> None:
        """Say what machine this is; refuse to mix two in one file."""
        before = self.data.get("machine")
        same = ["cpu", "cores", "commit", "python"]
        if before and any(before.get(k) != description.get(k) for k in same):
            raise SystemExit(
                f"{self.path}: these results are from another machine or commit; "
                "choose another --output or leave out --resume"
            )
        self.data |= {"format": FORMAT, "machine": description}
        self.data.setdefault("started", datetime.now(UTC).isoformat(timespec="seconds"))
        for key in ("versions", "absent", "settings", "peak", "sections"):
            self.data.setdefault(key, {})

    def case(self, section: str, threads: int | str, label: str) -> dict[str, Any] | None:
        """Look up a case; None if it was not measured."""
        found: dict[str, Any] = self.data["sections"].get(section, {}).get(str(threads), {})
        return found.get(label)

    def store(self, section: str, threads: int | str, label: str, record: dict[str, Any]) -> None:
        """Add a case and write everything."""
        self.data["sections"].setdefault(section, {}).setdefault(str(threads), {})[label] = record
        self.write()

    def write(self) -> None:
        """Write beside the file, then replace it: an interrupt leaves the old or the new."""
        self.data["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_suffix(f".{os.getpid()}.tmp")
        try:
            beside.write_text(json.dumps(self.data, indent=1) + "\n")
            beside.replace(self.path)
        finally:
            beside.unlink(missing_ok=True)


class Run:
    """Workers, references and results of one run."""

    def __init__(self, plan: Plan, results: Results, progress: Progress, folder: Path) -> None:
        self.plan, self.results, self.progress, self.folder = plan, results, progress, folder
        self.workers: dict[str, Worker] = {}
        self.names: list[str] = []
        self.too_long: dict[tuple[str, str], int] = {}  # (contestant, section): T that timed out
        self._references: dict[Any, Any] = {}

    def everything(self) -> None:
        """All sections, for every number of threads."""
        for name in self.plan.contestants:
            gone = missing(name)
            if gone:
                self.results.data["absent"][name] = f"{gone} is not installed"
            else:
                self.names.append(name)
        try:
            for threads in self.plan.threads:
                self._timed_sections(threads)
            self._fresh_sections()
        finally:
            self._close()

    def _close(self) -> None:
        for worker in self.workers.values():
            worker.close()
        self.workers = {}

    # ------------------------------------------------------------------ the timed sections

    def _timed_sections(self, threads: int) -> None:
        todo = [
            (section, case)
            for section in TIMED
            if section in self.plan.sections
            for case in self.plan.cases.get(section, [])
            if self.plan.shapes is None or case.label in self.plan.shapes
            if self.results.case(section, threads, case.label) is None
        ]
        if not todo:
            return
        self._start(threads)
        last_section = ""
        for number, (section, case) in enumerate(todo, 1):
            if section != last_section:
                self._measure_peak(threads)
                last_section = section
            where = f"[{number}/{len(todo)}] {section} ({case.label}) threads {threads}"
            record = self._case(section, case, threads, where)
            self.results.store(section, threads, case.label, record)
            self.progress.line(f"{where}: {verdict(record)}")
        self._close()

    def _start(self, threads: int) -> None:
        """Start all workers at once, then hear from each."""
        settings = {k: v for k, v in environment("", threads).items() if os.environ.get(k) != v}
        pinned = processors(threads)
        self.results.data["settings"][str(threads)] = {
            "environment": settings,
            "processors": pinned,
        }
        self.progress.line(
            f"threads {threads}, processors {pinned or 'not pinned'}: "
            + " ".join(f"{k}={v}" for k, v in settings.items())
        )
        self.progress.update(f"starting {len(self.names)} contestants")
        self._close()
        for name in [*self.names, peak.TURN]:
            self.workers[name] = Worker(name, threads, self.folder / f"{name}.log")
        for worker in self.workers.values():
            with suppress(WorkerError):
                worker.send(do="hello")
        for name, worker in list(self.workers.items()):
            try:
                versions = worker.receive(self.plan.limit)["versions"]
                self.results.data["versions"] |= versions
            except (WorkerError, UnsupportedError) as reason:
                if name == peak.TURN:
                    self._no_turn(reason)
                    continue
                self.results.data["absent"][name] = str(reason)
                self.progress.line(f"{name} cannot start: {reason}")
                worker.close()
                del self.workers[name]
                self.names.remove(name)

    def _no_turn(self, reason: Exception) -> None:
        """Go on without the machine's own turns."""
        self.progress.line(f"no peak in turn: {reason}")
        self.workers.pop(peak.TURN).close()

    def _measure_peak(self, threads: int) -> None:
        """Keep the best that was seen, measuring before every section: clocks wander."""
        self.progress.update("measuring the machine")
        try:
            now = peak.measure(threads, machine.caches())
        except (ImportError, OSError, RuntimeError) as reason:
            self.progress.line(f"no machine peak: {reason}")
            return
        before = self.results.data["peak"].get(str(threads), now)
        self.results.data["peak"][str(threads)] = {k: max(now[k], before[k]) for k in now}

    def _case(self, section: str, case: Any, threads: int, where: str) -> dict[str, Any]:
        """Prepare, compare, warm, then turns."""
        record: dict[str, Any] = {"case": problems.to_record(case), "contestants": {}}
        rows = record["contestants"]
        ready: dict[str, int] = {}  # calls in a repetition
        start = perf_counter()
        for name in self.names:
            self.progress.update(f"{where}: preparing {name}")
            rows[name], calls = self._ready(name, section, case, threads)
            if calls:
                ready[name] = calls
        seconds: dict[str, list[float]] = {name: [] for name in ready}
        turns = Quiet([worker.process.pid for worker in self.workers.values()])
        peaks: list[float] = []  # GFLOP/s in every round
        layer = isinstance(case, problems.Shape)
        for turn in range(self.plan.repeats):
            if layer and peak.TURN in self.workers:
                # First in the round: right before ours, whose share the goals name.
                try:
                    reply = self.workers[peak.TURN].ask(self.plan.limit, do="time")
                    peaks.append(reply["GFLOP/s"])
                except WorkerError as reason:
                    self._no_turn(reason)
            for name in list(ready):
                self.progress.update(f"{where}: {name} {turn + 1}/{self.plan.repeats}")
                try:
                    reply = self.workers[name].ask(self.plan.limit, do="time", calls=ready[name])
                    seconds[name].append(reply["seconds"])
                except WorkerError as reason:
                    rows[name]["failed"] = str(reason)
                    del ready[name]
        for name in ready:
            rows[name] |= summary(seconds[name]) | {"calls": ready[name]}
        if len(peaks) == self.plan.repeats:
            record["peak in turn"] = quartiles(peaks)
            operations = case.operations(section == "training")
            for name in ready:
                rows[name]["peak share in turn"] = share_in_turn(operations, seconds[name], peaks)
        for worker in self.workers.values():
            if worker.alive:
                with suppress(WorkerError):
                    worker.ask(self.plan.limit, do="drop")
        record["others_cores"] = round(turns.others(), 3)
        record["idle_seconds"] = round(sum(w.idle_seconds for w in self.workers.values()), 2)
        record["total_seconds"] = round(perf_counter() - start, 1)
        self._judge(record, section, case, threads)
        return record

    def _ready(
        self, name: str, section: str, case: Any, threads: int
    ) -> tuple[dict[str, Any], int]:
        """Prepare one contestant and compare its answer: its row, and the calls of a repetition."""
        entry = CONTESTANTS[name]
        if section in ("training", "language_model") and not entry.training:
            return {"unsupported": "does not train"}, 0
        limit = self.plan.unroll_limit if entry.unrolls else self.plan.limit
        if entry.unrolls and self.too_long.get((name, section), 1 << 30) <= case.T:
            return {"failed": f"compiling for fewer steps already took over {limit:.0f} s"}, 0
        row: dict[str, Any] = {}
        started = perf_counter()
        try:
            if not self.workers[name].alive:
                self.workers[name].close()
                self.workers[name] = Worker(name, threads, self.folder / f"{name}.log")
            worker, record = self.workers[name], problems.to_record(case)
            path = self.folder / "answer.npz"
            prepared = worker.ask(limit, do="prepare", section=section, case=record)
            answered = worker.ask(
                max(1.0, limit - (perf_counter() - started)), do="answer", path=str(path)
            )
            row["prepare"] = prepared["seconds"] + answered["seconds"]
            with np.load(path) as answer:
                row |= reference.compare(dict(answer), self._reference(section, case, entry))
            if not row["agrees"]:
                return row, 0
            fastest = worker.ask(self.plan.limit, do="warm", seconds=self.plan.warm)["seconds"]
        except UnsupportedError as reason:
            return {"unsupported": str(reason)}, 0
        except WorkerError as reason:
            if entry.unrolls and perf_counter() - started >= limit:
                self.too_long[name, section] = case.T
            return {"failed": str(reason)}, 0
        return row, max(1, min(100_000, round(self.plan.repetition / fastest)))

    def _reference(self, section: str, case: Any, entry: Any) -> Any:
        """Compute the float64 answer once."""
        apart = entry.squares_apart and section == "language_model"
        key = (section, case, apart)
        if key not in self._references:
            self._references[key] = reference.answers(section, case, apart)
        return self._references[key]

    def _judge(self, record: dict[str, Any], section: str, case: Any, threads: int) -> None:
        """Ratios and shares that follow from the medians."""
        rows = record["contestants"]
        best = best_rival(rows)
        record["best_rival"] = best
        record["ratio"] = ratio(rows, best, OURS) if best else None
        if isinstance(case, problems.Shape):
            operations = case.operations(section == "training")
            record["operations"] = operations
            record["bytes_moved"] = case.bytes_moved()
            limit = self.results.data["peak"].get(str(threads), {}).get("GFLOP/s")
            for row in rows.values():
                if "median" in row:
                    row["GFLOP/s"] = operations / row["median"] / 1e9
                    row["peak share"] = row["GFLOP/s"] / limit if limit else None

    # ------------------------------------------------------------------ the fresh processes

    def _fresh_sections(self) -> None:
        threads = max(self.plan.threads)
        names = [n for n in self.names if not CONTESTANTS[n].unrolls]

        def progress(section: str) -> Callable[[str], None]:
            return lambda text: self.progress.update(f"{section}: {text}")

        def measured(section: str, label: str, work: Callable[[], dict[str, Any]]) -> None:
            if section in self.plan.sections and self.results.case(section, "-", label) is None:
                quiet = Quiet([])
                rows = work()
                record = {"contestants": rows, "threads": threads}
                if section == "cold":
                    record["others_cores"] = round(quiet.others(), 3)
                self.results.store(section, "-", label, record)
                self.progress.line(f"{section} {label}: {len(rows)} rows")

        def installed(module: str) -> bool:
            return find_spec(module) is not None

        repeats = self.plan.cold_repeats
        measured(
            "cold",
            "predict",
            lambda: fresh.cold_start(names, self.folder, threads, repeats, progress("cold start")),
        )
        measured(
            "cold", "import", lambda: fresh.imports(installed, threads, repeats, progress("import"))
        )
        for section, case in self.plan.memory:
            trained = [n for n in names if CONTESTANTS[n].training]
            measured(
                "memory",
                f"{section} {case.label}",
                lambda section=section, case=case, trained=trained: fresh.peak_memory(
                    trained, section, case, self.folder, 1, progress("memory")
                ),
            )
        measured("size", "installed", size.measure)


def verdict(record: dict[str, Any]) -> str:
    """One line about a case."""
    rows = record["contestants"]
    wrong = [name for name, row in rows.items() if row.get("agrees") is False]
    text = f"DISAGREE: {', '.join(wrong)}; " if wrong else ""
    if OURS in rows and "median" in rows[OURS]:
        text += f"{OURS} {rows[OURS]['median'] * 1e3:.4g} ms"
    if record.get("ratio"):
        text += f", {record['ratio']:.2f} x as fast as {record['best_rival']}"
    return text or "no time"


def execute(plan: Plan, path: Path, resume: bool) -> dict[str, Any]:
    """Run a plan; returns the results, which are in the file as well."""
    results = Results(path, resume)
    results.begin(machine.describe())
    progress = Progress()
    with tempfile.TemporaryDirectory(prefix="gru_np-benchmark-") as folder:
        try:
            Run(plan, results, progress, Path(folder)).everything()
        except KeyboardInterrupt:
            progress.line(f"interrupted; what was measured is in {path} (go on with --resume)")
    results.write()
    return results.data
