"""One contestant in a process of its own: reads requests, one JSON object a line, and answers so.

    {"do": "hello"}                                versions
    {"do": "prepare", "section", "case"}           inputs, weights, sessions, compilation: seconds,
                                                   and the way taken where there are several
    {"do": "answer", "path"}                       writes the answer's arrays to an .npz file
    {"do": "warm", "seconds"}                      runs until then, at least 3 times: calls for 1 s
    {"do": "time", "calls"}                        seconds for one call, the mean over `calls`, and
                                                   of up to 100 single calls each
    {"do": "cold", "case", "folder"}               saves the model: the program of a cold start
    {"do": "memory"}                               bytes: highest resident size so far
    {"do": "drop"}                                 forgets the task

The machine itself takes turns by the same pipe (`peak.Turn`): "hello", "time" and "drop".

A failure is answered {"failed": "reason"}; "unsupported" likewise where the library has no such
thing. Everything a library prints goes to standard error.
"""

import ctypes
import gc
import json
import os
import signal
import sys
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from . import contestants, peak, problems
from .contestants import UnsupportedError
from .contestants.base import Contestant, Task

# One call before the timed ones, so that they find their data in the cache, when it costs little:
# other contestants have run since, and the processor has forgotten this one.
RECALL_BELOW = 0.05  # seconds
SINGLES = 100  # calls in a repetition that are timed one by one, for the 99th percentile


def die_with_parent() -> None:
    """Ask Linux to end this process with its parent: a stopped worker cannot notice by itself."""
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def highest_resident_size() -> int:
    """Bytes. Not ru_maxrss on Linux: a child inherits there what its parent reached."""
    try:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.split("VmHWM:")[1].split()[0])
    except OSError:
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Versions of those that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


class Player:
    """The state between requests: the contestant, the task, how long its last call took."""

    def __init__(self, name: str, threads: int) -> None:
        self.name = name
        self.contestant: Contestant = contestants.load(name)
        self.contestant.start(threads)
        self.task: Task | None = None
        self.last = 0.0

    def hello(self) -> dict[str, Any]:
        """Who this is."""
        return {"versions": versions(contestants.entry_of(self.name).packages)}

    def prepare(self, section: str, case: dict[str, int]) -> dict[str, Any]:
        """Make the task and call it once; the first call may compile."""
        self.drop()
        what = problems.case_from(case)
        start = perf_counter()
        if isinstance(what, problems.Shape):
            problem = problems.gru_problem(what)
        else:
            problem = problems.model_problem(what)
        self.task = task = getattr(self.contestant, section)(what, problem)
        return {"seconds": perf_counter() - start, "way": task.way}

    def answer(self, path: str) -> dict[str, Any]:
        """Run once for the result; the first run may compile."""
        start = perf_counter()
        arrays = self._task().answer()
        seconds = perf_counter() - start
        np.savez(path, **arrays)
        return {"seconds": seconds}

    def warm(self, seconds: float) -> dict[str, Any]:
        """Run for `seconds`, three times at least; returns the seconds of the fastest run."""
        run, fastest, runs, end = self._task().run, float("inf"), 0, perf_counter() + seconds
        while runs < 3 or (perf_counter() < end and runs < 1_000_000):
            start = perf_counter()
            run()
            fastest = min(fastest, perf_counter() - start)
            runs += 1
        self.last = fastest
        return {"seconds": fastest}

    def time(self, calls: int) -> dict[str, Any]:
        """One repetition; of short calls, some more are timed one by one afterwards."""
        run = self._task().run
        if self.last < RECALL_BELOW:
            run()
        gc.collect()
        gc.disable()
        try:
            singles = self._singles(calls) if calls <= SINGLES else []
            if not singles:
                start = perf_counter()
                for _ in range(calls):
                    run()
                self.last = (perf_counter() - start) / calls
                singles = self._singles(SINGLES)
            else:
                self.last = sum(singles) / calls
        finally:
            gc.enable()
        return {"seconds": self.last, "singles": singles}

    def _singles(self, calls: int) -> list[float]:
        """Time calls one by one."""
        run, stamps = self._task().run, [perf_counter()]
        for _ in range(calls):
            run()
            stamps.append(perf_counter())
        return [after - before for before, after in pairwise(stamps)]

    def cold(self, case: dict[str, int], folder: str) -> dict[str, Any]:
        """Save the model and hand over the program."""
        model = problems.LanguageModel(**case)
        problem = problems.model_problem(model)
        return {"program": self.contestant.cold_start(model, problem, Path(folder))}

    def memory(self) -> dict[str, Any]:
        """How much this process ever held."""
        return {"bytes": highest_resident_size()}

    def drop(self) -> dict[str, Any]:
        """Free the task."""
        self.task = None
        gc.collect()
        return {}

    def _task(self) -> Task:
        if self.task is None:
            raise RuntimeError("nothing is prepared")
        return self.task


def main(name: str, threads: int, processors: list[int]) -> None:
    """Answer requests until standard input ends."""
    die_with_parent()
    if processors and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, processors)
    # The pipe keeps the first descriptor; whoever prints, prints to standard error.
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    player: Player | peak.Turn | None = None
    for line in sys.stdin:
        request = json.loads(line)
        do = request.pop("do")
        try:
            if player is None:
                player = peak.Turn(threads) if name == peak.TURN else Player(name, threads)
            reply = getattr(player, do)(**request)
        except UnsupportedError as reason:
            reply = {"unsupported": str(reason)}
        except Exception as problem:  # the parent decides; one bad case must not end the run
            first_line = (str(problem).splitlines() or [""])[0]
            reply = {"failed": f"{type(problem).__name__}: {first_line[:200]}"}
            sys.excepthook(type(problem), problem, problem.__traceback__)
        out.write(json.dumps(reply) + "\n")
        out.flush()


if __name__ == "__main__":
    cpus = [int(cpu) for cpu in sys.argv[3].split(",")] if len(sys.argv) > 3 and sys.argv[3] else []
    main(sys.argv[1], int(sys.argv[2]), cpus)
