"""Fresh processes: cold start, and the peak memory of training."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from . import problems
from .contestants import UnsupportedError
from .reference import generation_answers
from .statistics import summary
from .workers import ROOT, Worker, WorkerError, environment


def run_program(program: str, threads: int) -> tuple[float, str]:
    """Seconds from start to end of a fresh interpreter, and what it printed."""
    start = perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment("", threads),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    seconds = perf_counter() - start
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise WorkerError(lines[-1][:200] if lines else f"code {done.returncode}")
    return seconds, done.stdout.strip()


def _alternate(
    programs: dict[str, str],
    expected: dict[str, str],
    threads: int,
    repeats: int,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Seconds of each program, in turns; the first turn fills the disk cache and is not counted."""
    results: dict[str, Any] = {}
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for turn in range(repeats + 1):
        for name, program in programs.items():
            if name in results:
                continue
            progress(f"{name} {turn}/{repeats}")
            try:
                elapsed, printed = run_program(program, threads)
            except WorkerError as reason:
                results[name] = {"failed": str(reason)}
                continue
            if printed != expected.get(name, ""):
                wrong = f"printed {printed[:40]!r}, expected {expected.get(name, '')!r}"
                results[name] = {"disagrees": wrong}
                continue
            if turn:
                seconds[name].append(elapsed)
    return {name: results.get(name) or summary(seconds[name]) for name in programs}


def cold_start(
    names: list[str],
    folder: Path,
    threads: int,
    repeats: int,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Import, load a model file, predict once: a fresh interpreter each time."""
    model = problems.COLD
    expected = str(int(generation_answers(model)["log_probabilities"][-1].argmax()))
    programs, results = {}, {}
    for name in names:
        progress(f"saving for {name}")
        worker = Worker(name, threads, folder / f"cold-{name}.log")
        try:
            reply = worker.ask(do="cold", case=problems.to_record(model), folder=str(folder))
            programs[name] = reply["program"]
        except UnsupportedError:
            continue
        except WorkerError as reason:
            results[name] = {"failed": str(reason)}
        finally:
            worker.close()
    timed = _alternate(programs, dict.fromkeys(programs, expected), threads, repeats, progress)
    return results | timed


def peak_memory(
    names: list[str],
    section: str,
    case: Any,
    folder: Path,
    threads: int,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Highest resident size of a fresh worker that trains three times; `imported`: before it began.

    Inputs, weights and Python are in it, for everyone alike.
    """
    results: dict[str, Any] = {}
    for name in names:
        progress(name)
        worker = Worker(name, threads, folder / f"memory-{name}.log")
        try:
            worker.ask(do="hello")
            imported = worker.ask(do="memory")["bytes"]
            worker.ask(do="prepare", section=section, case=problems.to_record(case))
            worker.ask(do="warm", seconds=0)
            results[name] = {"bytes": worker.ask(do="memory")["bytes"], "imported": imported}
        except UnsupportedError:
            continue
        except WorkerError as reason:
            results[name] = {"failed": str(reason)}
        finally:
            worker.close()
    return results
