"""Steps, fits, loads and predictions without end: memory and open files do not grow."""

import gc
import os
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("GRU_NP_KERNELS", "0")

import numpy as np
from counting import data, main, make, require, settings

from gru_np import Sequential

KIND = "language model"
ALLOWED = 4 * 2**20  # bytes: allocators settle; what leaks an array a call passes this soon


def run(cases: int, rng: np.random.Generator, counts: Counter) -> None:
    """Run each action a while, look at the memory, then run it `cases` times more."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.safetensors")
        for name, (action, weight) in _actions(path).items():
            repeats = max(1, int(cases * weight))
            _repeat(action, max(20, repeats // 4))
            before, files = _resident(), _open_files()
            _repeat(action, repeats)
            grown = _resident() - before
            require(grown < ALLOWED, f"{repeats} times {name}: {grown:,} bytes more than before")
            require(_open_files() <= files, f"{name} leaves files open")
            counts[name] += repeats


def _actions(path: Path) -> dict[str, tuple[Callable[[], object], float]]:
    """Return what is repeated, and how often for each case."""
    model = make(KIND)
    x, y = data(KIND)
    model.fit(x, y, **settings(KIND))
    model.save(path)
    state = [None]

    def step() -> None:
        _, state[0] = model.step(x[:2, 0], state[0])

    return {
        "steps": (step, 40.0),
        "fits": (lambda: model.fit(x[:4], y[:4], **settings(KIND)), 1.0),
        "predictions": (lambda: model.predict(x), 2.0),
        "saves": (lambda: model.save(path), 0.25),
        "loads": (lambda: Sequential.load(path), 1.0),
        "new models": (lambda: make(KIND).fit(x[:4], y[:4], **settings(KIND)), 0.5),
    }


def _repeat(action: Callable[[], object], times: int) -> None:
    for _ in range(times):
        action()
    gc.collect()


def _resident() -> int:
    """Return the bytes of memory this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


if __name__ == "__main__":
    if not os.path.exists("/proc/self/statm"):
        raise SystemExit("growth: /proc is needed")
    main("growth", __doc__, run, short=200, long=2700)
