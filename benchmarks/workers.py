"""The parent's side: start a worker, ask it, let only one run at a time."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from time import perf_counter
from typing import Any

from .contestants import CONTESTANTS, UnsupportedError, entry_of

ROOT = Path(__file__).resolve().parent.parent


class WorkerError(Exception):
    """A worker died, took too long or reported a failure; the reason is the message."""


def environment(name: str, threads: int) -> dict[str, str]:
    """Make a worker's environment: every variable that a thread pool reads, set to `threads`."""
    n = str(threads)
    pools = [
        "GRU_NP_NUM_THREADS",
        "NUMBA_NUM_THREADS",
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "BLIS_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
        "TF_NUM_INTRAOP_THREADS",
        "NPROC",  # the CPU client of XLA
    ]
    spinning = {"OMP_WAIT_POLICY", "KMP_BLOCKTIME", "GOMP_SPINCOUNT"}  # everyone's own default
    # Installed packages come with their bytecode; this one, run from a clone, is to keep its own.
    left_out = spinning | {"PYTHONDONTWRITEBYTECODE"}
    return {
        **{k: v for k, v in os.environ.items() if k not in left_out},
        **dict.fromkeys(pools, n),
        "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'}",
        "TF_NUM_INTEROP_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "JAX_PLATFORMS": "cpu",
        "CUDA_VISIBLE_DEVICES": "",
        "TORCHINDUCTOR_COMPILE_THREADS": "1",  # no pool of compiling processes that outlives a case
        **dict(entry_of(name).environment if name.partition(":")[0] in CONTESTANTS else ()),
    }


def fresh_cache(folder: Path) -> dict[str, str]:
    """Give torch.compile an empty cache: one ended by its limit leaves half a file in it."""
    return {"TORCHINDUCTOR_CACHE_DIR": tempfile.mkdtemp(prefix="inductor-", dir=folder)}


def processors(threads: int) -> list[int]:
    """One logical processor of each of `threads` cores, the last ones; [] where that is unknown."""
    if not hasattr(os, "sched_getaffinity"):
        return []
    allowed, cores = sorted(os.sched_getaffinity(0)), {}
    for cpu in allowed:
        path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        try:
            cores.setdefault(path.read_text().strip(), cpu)
        except OSError:
            cores[str(cpu)] = cpu
    chosen = sorted(cores.values())[-threads:]
    return chosen if len(chosen) == threads else []


def processor_seconds(pid: int) -> float:
    """User and system time of a process and all its threads so far; 0 where there is no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Worker:
    """A contestant's process. It is stopped (SIGSTOP) whenever it is not being asked.

    Thread pools spin for a while after their work, waiting for more; torch, TBB and ONNX Runtime
    are faster so. Stopping the process lets each keep its own way while it has the processor and
    costs the others nothing.
    """

    def __init__(self, name: str, threads: int, log: Path, pinned: bool = True) -> None:
        self.name, self.threads, self.log = name, threads, log
        self.idle_seconds = 0.0  # processor time used while not asked: 0 unless something is wrong
        cpus = ",".join(map(str, processors(threads))) if pinned else ""
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.worker", name, str(threads), cpus],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=ROOT,
                env=environment(name, threads) | fresh_cache(log.parent),
                text=True,
                start_new_session=True,  # compilers that it starts are stopped and ended with it
            )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self._used = 0.0
        self._stopped = False

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(self.process.pid, number)
            else:
                self.process.send_signal(number)

    def send(self, **request: Any) -> None:
        """Let it run and give it work; `receive` must follow."""
        if self._stopped:
            self.idle_seconds += processor_seconds(self.process.pid) - self._used
            self._signal(signal.SIGCONT)
            self._stopped = False
        assert self.process.stdin
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except (BrokenPipeError, ValueError):
            raise WorkerError(self._reason()) from None

    def receive(self, limit: float) -> dict[str, Any]:
        """Its reply, within `limit` seconds; then it is stopped."""
        try:
            line = self._lines.get(timeout=limit)
        except queue.Empty:
            self.close()
            raise WorkerError(f"no answer within {limit:.0f} s") from None
        if not line:
            raise WorkerError(self._reason())
        if hasattr(signal, "SIGSTOP"):
            self._signal(signal.SIGSTOP)
            self._stopped = True
        self._used = processor_seconds(self.process.pid)
        reply: dict[str, Any] = json.loads(line)
        if "unsupported" in reply:
            raise UnsupportedError(reply["unsupported"])
        if "failed" in reply:
            raise WorkerError(reply["failed"])
        return reply

    def ask(self, limit: float = 600, **request: Any) -> dict[str, Any]:
        """Send and receive."""
        self.send(**request)
        return self.receive(limit)

    def _reason(self) -> str:
        code = self.process.wait(5)
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return f"the process ended with code {code}: {lines[-1][:200] if lines else 'no message'}"

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self.process.poll() is None

    def close(self) -> None:
        """End it, stopped or not."""
        self._signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                with contextlib.suppress(BrokenPipeError, ValueError):
                    pipe.close()


class Quiet:
    """How many cores other processes kept busy meanwhile: a benchmark wants 0.

    Counts every busy moment of every processor, the time a hypervisor took away included, less what
    this process and its workers used.
    """

    def __init__(self, pids: list[int]) -> None:
        self.pids = [os.getpid(), *pids]
        self.before, self.start = self._foreign(), perf_counter()

    def _foreign(self) -> float:
        try:
            fields = Path("/proc/stat").read_text().split("\n")[0].split()[1:]
        except OSError:
            return 0.0
        user, nice, system, _idle, _wait, irq, softirq, steal = map(int, fields[:8])
        busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
        return busy - sum(processor_seconds(pid) for pid in self.pids)

    def others(self) -> float:
        """Cores, on average since the beginning."""
        elapsed = max(perf_counter() - self.start, 1e-9)
        return max(0.0, (self._foreign() - self.before) / elapsed)
