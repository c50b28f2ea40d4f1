"""Stop runs of every kind after any batch, resume them from the file: the bits of one whole run."""

import os
import tempfile
from collections import Counter
from pathlib import Path

os.environ.setdefault("GRU_NP_KERNELS", "0")

import numpy as np
from counting import KINDS, bits, data, main, make, require, settings

from gru_np import Sequential
from gru_np.callbacks import Callback, EarlyStopping, ReduceLROnPlateau

EPOCHS = 3
SHARES = (0.0, 0.25)  # of the rows, for validation


class Stop(Callback):
    """Save and stop after a given batch of the whole run; never, if that is None."""

    def __init__(self, path: Path, after: int | None):
        super().__init__()
        self.path, self.after, self.batches = path, after, 0

    def on_train_batch_end(self, batch: int, logs: dict) -> None:
        """Count, and stop when it is time."""
        self.batches += 1
        if self.batches == self.after:
            self.model.save(self.path)
            self.model.stop_training = True


def run(cases: int, rng: np.random.Generator, counts: Counter) -> None:
    """Draw a kind, a validation share, and one to three stops on the way."""
    whole = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "stopped.safetensors")
        for case in range(cases):
            kind, share = KINDS[case % len(KINDS)], SHARES[case // len(KINDS) % 2]
            if (kind, share) not in whole:
                model = make(kind)
                _fit(model, kind, share, Stop(path, None))
                whole[kind, share] = bits(model)
            model, resume = make(kind), None
            for _ in range(rng.integers(1, 4)):
                stop = Stop(path, int(rng.integers(1, 8)))
                _fit(model, kind, share, stop, resume)
                if stop.after != stop.batches:
                    break  # the run was over before
                model, resume = Sequential.load(path), path
                counts["stops"] += 1
            _fit(model, kind, share, Stop(path, None), resume)
            require(bits(model) == whole[kind, share], f"{kind}, validation {share}: other bits")
            counts["runs with the bits of a whole one"] += 1


def _fit(model: Sequential, kind: str, share: float, stop: Stop, resume: Path | None = None):
    rules = [EarlyStopping("loss", patience=99), ReduceLROnPlateau("loss", patience=1)]
    model.fit(
        *data(kind), epochs=EPOCHS, validation_split=share, callbacks=[*rules, stop],
        resume=resume, **settings(kind),
    )  # fmt: skip


if __name__ == "__main__":
    main("resumes", __doc__, run, short=40, long=400)
