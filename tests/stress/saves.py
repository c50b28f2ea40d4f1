"""Kill and interrupt runs that save after every batch; three writers and a reader on one file.

Whatever happens, the file that is there is whole, and a run resumed from it ends with the bits of
a run that nothing disturbed.
"""

import os
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

os.environ.setdefault("GRU_NP_KERNELS", "0")  # forked children compile nothing

import numpy as np
from counting import KINDS, BrokenPromiseError, bits, data, main, make, require, settings

from gru_np import Sequential, checkpoint
from gru_np.callbacks import ModelCheckpoint, StopOnSignal

EPOCHS = 10
ENDINGS = ("SIGKILL", "SIGTERM", "SIGINT")


def run(cases: int, rng: np.random.Generator, counts: Counter) -> None:
    """Half of the cases end a run by a signal, the others are reads beside three writers."""
    with tempfile.TemporaryDirectory() as folder:
        whole = {kind: bits(_trained(kind, Path(folder, "whole.safetensors"))) for kind in KINDS}
        for case in range(cases):
            kind, ending = KINDS[case % len(KINDS)], str(rng.choice(ENDINGS))
            path = Path(folder, f"{case}.safetensors")
            if _ended_run(path, kind, ending, rng.uniform(0, 0.15)):
                resumed = bits(_trained(kind, path, resume=path))
                require(resumed == whole[kind], f"{kind}: {ending} changed the end of a run")
                counts["runs resumed after a signal"] += 1
            else:
                counts["runs ended before their first save"] += 1
            counts[ending] += 1
        _reads_beside_writers(Path(folder, "shared.safetensors"), 8 * cases, counts)
        left = [name for name in os.listdir(folder) if name.endswith(".tmp")]
        counts["temporary files that outlived a kill"] += len(left)


def _trained(kind: str, path: Path, resume: Path | None = None) -> Sequential:
    """Return a model after the whole run, which saves so often that signals fall into saves."""
    callbacks = [ModelCheckpoint(path, save_freq=1), StopOnSignal(path)]
    model = make(kind) if resume is None else Sequential.load(resume)
    model.fit(*data(kind), epochs=EPOCHS, callbacks=callbacks, resume=resume, **settings(kind))
    return model


def _ended_run(path: Path, kind: str, ending: str, after: float) -> bool:
    """Train in a child that is sent a signal; whether it had saved anything by then."""
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(ready)
            os.write(tell, b".")
            _trained(kind, path)
        finally:
            os._exit(0)
    os.close(tell)
    os.read(ready, 1)
    os.close(ready)
    time.sleep(after)
    os.kill(child, getattr(signal, ending))
    os.waitpid(child, 0)
    return path.exists()


def _reads_beside_writers(path: Path, reads: int, counts: Counter) -> None:
    """Read a file again and again while three processes replace it as fast as they can."""
    W = np.arange(20_000.0)
    checkpoint.save(path, {"count": 0}, {"W": W})
    writers = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            try:
                for count in range(10**9):
                    checkpoint.save(path, {"count": count}, {"W": W + count})
            finally:
                os._exit(1)
        writers.append(child)
    try:
        for _ in range(reads):
            config, arrays = checkpoint.load(path)
            require(
                np.array_equal(arrays["W"], W + config["count"]),
                f"a reader saw half of save {config['count']}",
            )
            counts["whole reads beside three writers"] += 1
        require(
            all(os.waitpid(child, os.WNOHANG) == (0, 0) for child in writers),
            "a writer met an error",
        )
    finally:
        for child in writers:
            try:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
            except (ProcessLookupError, ChildProcessError) as error:
                raise BrokenPromiseError("a writer is gone") from error


if __name__ == "__main__":
    if os.name == "nt":
        sys.exit("saves: forks and signals of POSIX are needed")
    main("saves", __doc__, run, short=24, long=640)
