"""The run itself: sections, cases, turns; results are written after every case."""

import json
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from . import fresh, machine, peak, problems, reference, size
from .contestants import CONTESTANTS, OURS, UnsupportedError, entry_of, missing
from .measurement import Measurement
from .plan import TIMED, Plan
from .workers import Quiet, Worker, WorkerError, environment, processors

FORMAT = 1
Todo = list[tuple[str, Any, list[int]]]  # section, case, numbers of threads


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
        self.workers: dict[tuple[str, int], Worker] = {}  # by contestant and threads
        self.names: list[str] = []
        self.too_long: dict[str, int] = {}  # by contestant: the fewest steps that timed out
        self._references: dict[Any, Any] = {}

    def everything(self) -> None:
        """All sections, for every number of threads."""
        self.results.data["left out"] = {
            name: self.plan.left_out(name)
            for name in CONTESTANTS
            if name not in self.plan.contestants
        }
        for name in self.plan.contestants:
            gone = missing(name)
            if gone:
                self.results.data["absent"][name] = f"{gone} is not installed"
            else:
                self.names.append(name)
        try:
            self._timed_sections()
            self._close()
            self._fresh_sections()
        finally:
            self._close()

    def _close(self) -> None:
        for worker in self.workers.values():
            worker.close()
        self.workers = {}

    # ------------------------------------------------------------------ the timed sections

    def _timed_sections(self) -> None:
        todo = self._todo()
        for threads in self._threads(todo):
            self._start(threads)
        last_section = ""
        for number, (section, case, counts) in enumerate(todo, 1):
            if section != last_section:
                for threads in self._threads([one for one in todo if one[0] == section]):
                    self._measure_peak(threads)
                last_section = section
            where = f"[{number}/{len(todo)}] {section} ({case.label})"
            for threads, record in self._case(section, case, counts, where).items():
                self.results.store(section, threads, case.label, record)
                self.progress.line(f"{where} threads {threads}: {verdict(record)}")

    def _todo(self) -> Todo:
        """List the cases, each with the numbers of threads that the results lack."""
        todo = [
            (section, case, self._lacking(section, case.label))
            for section in TIMED
            if section in self.plan.sections
            for case in self.plan.cases.get(section, [])
        ]
        return [one for one in todo if one[2]]

    def _lacking(self, section: str, label: str) -> list[int]:
        """Numbers of threads that a case was not measured with."""
        return [n for n in self.plan.threads if self.results.case(section, n, label) is None]

    def _threads(self, todo: Todo) -> list[int]:
        """Numbers of threads that something is to be measured with."""
        return [n for n in self.plan.threads if any(n in counts for *_, counts in todo)]

    def _start(self, threads: int) -> None:
        """Start everyone with so many threads at once, then hear from each."""
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
        started = {name: self._worker(name, threads) for name in [*self.names, peak.TURN]}
        for worker in started.values():
            with suppress(WorkerError):
                worker.send(do="hello")
        for name, worker in started.items():
            try:
                versions = worker.receive(self.plan.limit)["versions"]
                self.results.data["versions"] |= versions
            except (WorkerError, UnsupportedError) as reason:
                if name == peak.TURN:
                    self._no_turn(threads, reason)
                else:
                    self._absent(name, reason)

    def _worker(self, name: str, threads: int) -> Worker:
        """Start one worker."""
        worker = Worker(name, threads, self.folder / f"{name}-{threads}.log")
        self.workers[name, threads] = worker
        return worker

    def _absent(self, name: str, reason: Exception) -> None:
        """Go on without a contestant, with any number of threads."""
        self.results.data["absent"][name] = str(reason)
        self.progress.line(f"{name} cannot start: {reason}")
        self.names.remove(name)
        for key in [key for key in self.workers if key[0] == name]:
            self.workers.pop(key).close()

    def _no_turn(self, threads: int, reason: Exception) -> None:
        """Go on without the machine's own turns."""
        self.progress.line(f"threads {threads}: no peak in turn: {reason}")
        self.workers.pop((peak.TURN, threads)).close()

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

    def _case(
        self, section: str, case: Any, counts: list[int], where: str
    ) -> dict[int, dict[str, Any]]:
        """Prepare, compare and warm everyone, then turns: a record for each number of threads."""
        start = perf_counter()
        measured = [Measurement(section, case, threads) for threads in counts]
        for one in measured:
            for name in self.names:
                self.progress.update(f"{where} threads {one.threads}: preparing {name}")
                one.enter(name, *self._ready(name, one))
        turns = Quiet([worker.process.pid for worker in self.workers.values()])
        for turn in range(self.plan.repeats):
            for one in measured:
                self._round(one, f"{where} {turn + 1}/{self.plan.repeats}")
        self._drop()
        common = {
            "others_cores": round(turns.others(), 3),
            "idle_seconds": round(sum(w.idle_seconds for w in self.workers.values()), 2),
            "total_seconds": round(perf_counter() - start, 1),
        }
        peaks = self.results.data["peak"]
        return {
            one.threads: one.record(peaks.get(str(one.threads), {}).get("GFLOP/s")) | common
            for one in measured
        }

    def _round(self, one: Measurement, where: str) -> None:
        """One turn of everyone with one number of threads."""
        if one.is_layer and (peak.TURN, one.threads) in self.workers:
            # First in the round: right before ours, whose share the goals name.
            try:
                reply = self.workers[peak.TURN, one.threads].ask(self.plan.limit, do="time")
                one.peaks.append(reply["GFLOP/s"])
            except WorkerError as reason:
                self._no_turn(one.threads, reason)
                one.peaks.clear()  # shares are taken round by round: all rounds or none
        for name, calls in list(one.calls.items()):
            self.progress.update(f"{where} threads {one.threads}: {name}")
            worker = self.workers[name, one.threads]
            try:
                reply = worker.ask(self.plan.limit, do="time", calls=calls)
                one.take(name, reply)
            except WorkerError as reason:
                one.leave(name, str(reason))

    def _drop(self) -> None:
        """Let everyone forget the case."""
        for worker in self.workers.values():
            if worker.alive:
                with suppress(WorkerError):
                    worker.ask(self.plan.limit, do="drop")

    def _ready(self, name: str, one: Measurement) -> tuple[dict[str, Any], int]:
        """Prepare one contestant and compare its answer: its row, and the calls of a repetition."""
        entry, section, case = entry_of(name), one.section, one.case
        if section in ("training", "language_model") and not entry.training:
            return {"unsupported": "does not train"}, 0
        limit = self.plan.unroll_limit if entry.unrolls else self.plan.limit
        # Neither threads nor a gradient make the time loop that is compiled shorter.
        if entry.unrolls and self.too_long.get(name, 1 << 30) <= case.T:
            return {"failed": f"compiling for no more steps already took over {limit:.0f} s"}, 0
        row: dict[str, Any] = {}
        started = perf_counter()
        try:
            worker, record = self.workers[name, one.threads], problems.to_record(case)
            if not worker.alive:
                worker.close()
                worker = self._worker(name, one.threads)
            path = self.folder / "answer.npz"
            prepared = worker.ask(limit, do="prepare", section=section, case=record)
            answered = worker.ask(
                max(1.0, limit - (perf_counter() - started)), do="answer", path=str(path)
            )
            row["prepare"] = prepared["seconds"] + answered["seconds"]
            if prepared.get("way"):
                row["way"] = prepared["way"]
            with np.load(path) as answer:
                row |= reference.compare(dict(answer), self._reference(section, case, entry))
            if entry.own_precision:
                row["own precision"] = True  # its error is shown, not judged
                row.pop("agrees")
            elif not row["agrees"]:
                return row, 0
            fastest = worker.ask(self.plan.limit, do="warm", seconds=self.plan.warm)["seconds"]
        except UnsupportedError as reason:
            return {"unsupported": str(reason)}, 0
        except WorkerError as reason:
            if entry.unrolls and perf_counter() - started >= limit:
                self.too_long[name] = min(case.T, self.too_long.get(name, case.T))
            return {"failed": str(reason)}, 0
        return row, max(1, min(100_000, round(self.plan.repetition / fastest)))

    def _reference(self, section: str, case: Any, entry: Any) -> Any:
        """Compute the float64 answer once."""
        apart = entry.squares_apart and section == "language_model"
        key = (section, case, apart)
        if key not in self._references:
            self._references[key] = reference.answers(section, case, apart)
        return self._references[key]

    # ------------------------------------------------------------------ the fresh processes

    def _fresh_sections(self) -> None:
        threads = max(self.plan.threads)
        names = [n for n in self.names if not entry_of(n).unrolls]

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

        repeats = self.plan.cold_repeats
        measured(
            "cold",
            "predict",
            lambda: fresh.cold_start(names, self.folder, threads, repeats, progress("cold start")),
        )
        for section, case in self.plan.memory:
            trained = [n for n in names if entry_of(n).training]
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
