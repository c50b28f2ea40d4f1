"""What a contestant is, and the conversions that several of them need."""

from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..problems import Arrays, LanguageModel, Shape
from ..reference import STEPS
from . import UnsupportedError as UnsupportedError


class Task(NamedTuple):
    """Something to time, all its inputs ready."""

    run: Callable[[], Any]  # once; returns when the result is there
    answer: Callable[[], Arrays]  # once, as arrays named like `reference.answers`
    way: str = ""  # which of several ways was the fastest here, if there were several


class Contestant:
    """One library. Each method prepares a task in the form that suits the library best.

    Arrays come as `problems` makes them; layout changes, uploads, sessions and compilation happen
    here, before any timing. What a user would hand over anew each time (ids of a training batch) is
    handed over, as NumPy arrays, inside `run`.
    """

    SETTINGS: ClassVar[str] = "as it comes"  # what the defaults of the constructor are, in words
    TRIED: ClassVar[dict[str, dict[str, Any]]] = {}  # others, by name: arguments of the constructor

    def start(self, threads: int) -> None:
        """Import the library and set its threads."""

    def forward(self, shape: Shape, problem: Arrays) -> Task:
        """Inference: all states of one GRU layer from x and h0."""
        raise UnsupportedError("no inference of a single layer")

    def training(self, shape: Shape, problem: Arrays) -> Task:
        """All states, then the gradients by x and all parameters from dh by all states."""
        raise UnsupportedError("does not train")

    def language_model(self, model: LanguageModel, problem: Arrays) -> Task:
        """One step: forward, mean cross-entropy, backward, Adam; returns the loss as a float."""
        raise UnsupportedError("does not train")

    def generation(self, model: LanguageModel, problem: Arrays) -> Task:
        """`model.T` greedy characters from id 0, one at a time, each known before the next."""
        raise UnsupportedError("not written for this library")

    def cold_start(self, model: LanguageModel, problem: Arrays, folder: Path) -> str:
        """Save the model; return the program that loads it and prints its prediction.

        The prediction is the most probable id after the last of the ids problem["ids"][0, 0, :T].
        """
        raise UnsupportedError("not written for this library")


def fastest(ways: dict[str, Task]) -> Task:
    """Choose the way that takes the least time, best of several in turns."""
    seconds = dict.fromkeys(ways, float("inf"))
    for turn in range(6):
        for way, task in ways.items():
            start = perf_counter()
            task.run()
            if turn:  # the first may compile
                seconds[way] = min(seconds[way], perf_counter() - start)
    way = min(seconds, key=seconds.__getitem__)
    return ways[way]._replace(way=way)


def blocks_zrn(rows: Any) -> Any:
    """Exchange the first two of three blocks of rows: r, z, n to z, r, n and back."""
    r, z, n = np.split(rows, 3)
    return np.ascontiguousarray(np.concatenate([z, r, n]))


def layer_parameters(problem: Arrays, layer: int | None = None) -> tuple[Any, Any, Any, Any]:
    """W_ih, W_hh, b_ih, b_hh of the only GRU layer, or of layer number `layer` of a model."""
    suffix = "" if layer is None else str(layer)
    W_ih, W_hh, b_ih, b_hh = (problem[k + suffix] for k in ["W_ih", "W_hh", "b_ih", "b_hh"])
    return W_ih, W_hh, b_ih, b_hh


def gradients(dx: Any, dW_ih: Any, dW_hh: Any, db_ih: Any, db_hh: Any) -> Arrays:
    """Name them as the reference does."""
    return {"dx": dx, "dW_ih": dW_ih, "dW_hh": dW_hh, "db_ih": db_ih, "db_hh": db_hh}


def training_task(
    step: Callable[[Any, Any], float], parameters: Callable[[], Arrays], problem: Arrays
) -> Task:
    """Make a task of step(x, y) -> loss, both (B, T), and parameters() in the problem's names."""
    batches = [
        (np.ascontiguousarray(ids[:, :-1]), np.ascontiguousarray(ids[:, 1:]))
        for ids in problem["ids"]
    ]
    following = cycle(batches)

    def answer() -> Arrays:
        losses = np.array([step(*next(following)) for _ in range(STEPS)])
        now = parameters()
        return {"loss": losses} | {"moved " + k: now[k] - problem[k] for k in now}

    return Task(lambda: step(*next(following)), answer)


def generation_task(
    generate: Callable[[], Any],
    forced: Callable[[list[int]], Any],
    model: LanguageModel,
    problem: Arrays,
) -> Task:
    """Make a task of generate() -> T ids and forced(ids) -> logits (T, V) after each of the ids."""

    def answer() -> Arrays:
        ids = [int(i) for i in problem["ids"][0, 0, : model.T]]
        return {
            "log_probabilities": np.asarray(forced(ids)),
            "greedy": np.asarray(generate()).reshape(-1),
        }

    return Task(generate, answer)


def stepwise_generation(
    step: Callable[[int, Any], tuple[Any, Any]], model: LanguageModel, problem: Arrays
) -> Task:
    """Make a task of step(id, state) -> (logits (V,), state); the state begins as None."""

    def generate() -> list[int]:
        token, state, out = 0, None, []
        for _ in range(model.T):
            logits, state = step(token, state)
            token = int(logits.argmax())
            out.append(token)
        return out

    def forced(ids: list[int]) -> Any:
        state, out = None, []
        for token in ids:
            logits, state = step(token, state)
            out.append(np.array(logits))
        return np.array(out)

    return generation_task(generate, forced, model, problem)
