"""What the experiments of this folder share: options, counts, and small models to try things on.

An experiment draws its cases from a seed, counts what it did and exits with 1 if a promise was
broken: `python tests/stress/NAME.py --help`. `tests/test_stress.py` runs the short form of each.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # from a clone, installed or not

from gru_np import GRU, Bidirectional, Dense, Dropout, Embedding, Sequential

Run = Callable[[int, np.random.Generator, Counter], None]


class BrokenPromiseError(AssertionError):
    """A promise that did not hold, in a sentence that says how to repeat it."""


def main(name: str, doc: str, run: Run, short: int, long: int) -> None:
    """Read the options, run so many cases, print the counts; exit with 1 at a broken promise."""
    parser = argparse.ArgumentParser(prog=f"python tests/stress/{name}.py", description=doc)
    parser.add_argument("--short", action="store_true", help=f"{short} cases, in seconds")
    parser.add_argument("--cases", type=int, help=f"how many cases (default {long})")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other cases")
    options = parser.parse_args()
    cases = options.cases or (short if options.short else long)
    counts: Counter = Counter()
    try:
        run(cases, np.random.default_rng(options.seed), counts)
    except BrokenPromiseError as broken:
        sys.exit(f"{name}: {broken} (seed {options.seed}, after {spell(counts)})")
    print(f"{cases} cases: {spell(counts)}")


def spell(counts: Counter) -> str:
    """Write the counts in the order in which they were first met."""
    return ", ".join(f"{count:,} {what}" for what, count in counts.items()) or "nothing done"


def require(condition: object, sentence: str) -> None:
    """Raise `BrokenPromiseError` unless the condition holds."""
    if not condition:
        raise BrokenPromiseError(sentence)


# Small models whose training uses everything that a resumed run must know again.

KINDS = ("language model", "regression", "classifier", "stateful")
T, I, V = 6, 3, 9  # noqa: E741


def make(kind: str, seed: int = 5) -> Sequential:
    """Return an untrained model of one kind, compiled."""
    layers = {
        "language model": [Embedding(V, 4), GRU(5, return_sequences=True), Dense(V, "softmax")],
        "regression": [GRU(5, dropout=0.2, recurrent_dropout=0.1), Dense(2)],
        "classifier": [Bidirectional(GRU(4)), Dropout(0.3), Dense(3, "softmax")],
        "stateful": [GRU(5, return_sequences=True, stateful=True), Dense(2)],
    }[kind]
    model = Sequential(layers, seed=seed)
    probabilities = "sparse_categorical_crossentropy"
    loss = "mse" if kind in ("regression", "stateful") else probabilities
    model.compile(loss=loss, optimizer="adam")
    return model


def data(kind: str, rows: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs and targets for a model of one kind, always the same ones."""
    rng = np.random.default_rng(11)
    if kind == "language model":
        ids = rng.integers(V, size=(rows, T + 1))
        return ids[:, :-1], ids[:, 1:]
    x = rng.standard_normal((rows, T, I))
    if kind == "classifier":
        return x, rng.integers(3, size=rows)
    return x, rng.standard_normal((rows, T, 2) if kind == "stateful" else (rows, 2))


def settings(kind: str) -> dict:
    """Return what `fit` is called with: batches of four rows, in order where states are carried."""
    return {"batch_size": 4, "verbose": 0, "shuffle": kind != "stateful"}


def bits(model: Sequential) -> bytes:
    """Return weights and optimiser as bytes: the same bytes if, and only if, the same bits."""
    state = model.optimizer.state
    arrays = [*model.params.values(), *(state[name] for name in sorted(state))]
    return b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
