"""Ctrl-C at any moment of fit, predict, step, save and load: nothing is half done afterwards.

A timer raises KeyboardInterrupt between two bytecodes, wherever the call happens to be. The weights
stay finite, predictions keep their bits where only was looked, and the model trains on as before.
"""

import os
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

os.environ.setdefault("GRU_NP_KERNELS", "0")

import numpy as np
from counting import KINDS, bits, data, main, make, require, settings

from gru_np import Sequential

LOOKS = ("predict", "evaluate", "step", "save", "load")


def run(cases: int, rng: np.random.Generator, counts: Counter) -> None:
    """Interrupt every call of every kind of model again and again."""
    signal.signal(signal.SIGALRM, _interrupt)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.safetensors")
        for case in range(cases):
            kind = KINDS[case % len(KINDS)]
            model = make(kind)
            x, y = data(kind)
            model.fit(x, y, **settings(kind))
            model.save(path)
            calls = _calls(model, kind, path)
            name = str(rng.choice([*LOOKS, "fit"]))
            begin = time.perf_counter()
            calls[name]()
            seconds = time.perf_counter() - begin
            before, handlers = bits(model), signal.getsignal(signal.SIGINT)
            if _interrupted(calls[name], 1e-6 + seconds * rng.random()):
                counts[f"interrupts of {name}"] += 1
            else:
                counts["calls that were over before"] += 1
            require(signal.getsignal(signal.SIGINT) == handlers, f"{name} left its handler behind")
            if name in LOOKS:
                require(bits(model) == before, f"{name}, interrupted, changed the model")
            require(bits(Sequential.load(path)) is not None, "the file on disk is not whole")
            model.fit(x, y, **settings(kind))
            require(all(np.isfinite(w).all() for w in model.get_weights()), "weights not finite")


def _calls(model: Sequential, kind: str, path: Path) -> dict:
    x, y = data(kind)
    return {
        "predict": lambda: model.predict(x, batch_size=4),
        "evaluate": lambda: model.evaluate(x, y, batch_size=4),
        "step": lambda: [model.step(x[:, 0]) for _ in range(50)] if kind != "classifier" else None,
        "save": lambda: model.save(path),
        "load": lambda: Sequential.load(path),
        "fit": lambda: model.fit(x, y, epochs=20, **settings(kind)),
    }


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _interrupted(call, after: float) -> bool:
    """Make a call that is interrupted after so many seconds, if it takes as long."""
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, after)
            call()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        return True
    return False


if __name__ == "__main__":
    if os.name == "nt":
        sys.exit("ctrl_c: a timer of POSIX is needed")
    main("ctrl_c", __doc__, run, short=120, long=2000)
