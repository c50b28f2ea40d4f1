"""What is measured: shapes, and the same random numbers for everyone from the same seed.

Notation: B batch, T time, I input, H hidden, V vocabulary, E embedding. Everything is float32.
"""

from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass
from typing import Any

import numpy as np

FLOAT = 4  # bytes


@dataclass(frozen=True)
class Shape:
    """One GRU layer over a batch of sequences."""

    B: int
    T: int
    I: int  # noqa: E741 - the paper's name for the input size
    H: int

    @classmethod
    def of(cls, label: str) -> "Shape":
        """Make the shape of a label."""
        sizes = _sizes(label)
        if len(sizes) != 4:
            raise ValueError(
                f"{label!r}: expected B,T,I,H, four whole numbers from 1, such as 32,100,64,256"
            )
        return cls(*sizes)

    @property
    def label(self) -> str:
        """The shape as it stands in tables and after `--shapes`: B,T,I,H."""
        return ",".join(map(str, astuple(self)))

    def operations(self, training: bool) -> int:
        """Floating-point operations of the matrix products.

        Forward: W_ih x and W_hh h, 2 (3H) (I + H) for each row and step. Backward twice that: each
        product leaves one for its input's gradient and one for its weights'. The elementwise part,
        some 30 operations times T B H, is not counted, so shares of the peak are lower bounds.
        """
        return 6 * self.T * self.B * self.H * (self.I + self.H) * (3 if training else 1)

    def bytes_moved(self) -> int:
        """Bytes a forward pass must move: W_hh at every step, all the rest once.

        A step needs all of W_hh and can begin only when the step before is done; the products with
        W_ih wait for nothing and can be done for all steps at once.
        """
        B, T, I, H = astuple(self)  # noqa: E741
        return FLOAT * (T * 3 * H * H + 3 * H * I + T * B * (I + H))


@dataclass(frozen=True)
class LanguageModel:
    """Embedding (V, E), GRU layers of H units, Dense (H, V), over B sequences of T tokens."""

    V: int
    E: int
    H: int
    layers: int
    B: int
    T: int

    @property
    def label(self) -> str:
        """As it stands in tables and after `--shapes`: V,E,H,layers,B,T."""
        return ",".join(map(str, astuple(self)))

    @property
    def tokens(self) -> int:
        """Tokens one training step sees."""
        return self.B * self.T

    def inputs(self) -> Iterator[int]:
        """Input size of each GRU layer."""
        yield self.E
        yield from [self.H] * (self.layers - 1)


SHAPES = [
    Shape(1, 1, 64, 64),
    Shape(1, 1, 128, 256),
    Shape(1, 100, 64, 128),
    Shape(1, 100, 256, 512),
    Shape(8, 50, 128, 128),
    Shape(32, 100, 64, 256),
    Shape(64, 35, 200, 200),
    Shape(20, 35, 650, 650),
    Shape(32, 128, 512, 512),
    Shape(128, 64, 128, 128),
    Shape(16, 1000, 40, 128),
]
QUICK_SHAPES = [Shape(1, 1, 64, 64), Shape(8, 50, 128, 128), Shape(64, 35, 200, 200)]

LANGUAGE_MODELS = [
    LanguageModel(65, 64, 256, 1, 64, 128),
    LanguageModel(10000, 200, 200, 1, 20, 35),
    LanguageModel(10000, 650, 650, 2, 20, 35),
    LanguageModel(100, 32, 16, 1, 4, 2),
]
QUICK_LANGUAGE_MODELS = [LANGUAGE_MODELS[3], LanguageModel(65, 64, 128, 1, 16, 32)]

GENERATION = LanguageModel(65, 64, 256, 1, 1, 200)  # T characters, one at a time
QUICK_GENERATION = LanguageModel(65, 64, 128, 1, 1, 50)

MEMORY_SHAPE = Shape(32, 128, 512, 512)
MEMORY_MODEL = LANGUAGE_MODELS[2]

COLD = LanguageModel(65, 64, 256, 1, 1, 100)  # one sequence of T characters, from a fresh process

# Adam, for everyone. Keras adds epsilon before the bias correction and PyTorch after it; small as
# it is here, both are the same.
LEARNING_RATE, BETA_1, BETA_2, EPSILON = 1e-3, 0.9, 0.999, 1e-12

Arrays = dict[str, Any]


def _uniform(rng: np.random.Generator, bound: float, *shape: int) -> Any:
    return rng.uniform(-bound, bound, shape).astype(np.float32)


def _gru_parameters(rng: np.random.Generator, I: int, H: int, suffix: str = "") -> Arrays:  # noqa: E741
    bound = H**-0.5
    return {
        "W_ih" + suffix: _uniform(rng, bound, 3 * H, I),
        "W_hh" + suffix: _uniform(rng, bound, 3 * H, H),
        "b_ih" + suffix: _uniform(rng, bound, 3 * H),
        "b_hh" + suffix: _uniform(rng, bound, 3 * H),
    }


def gru_problem(shape: Shape) -> Arrays:
    """Input x (T, B, I), state h0 (B, H), parameters, and the gradient dh (T, B, H) by h[1:]."""
    rng = np.random.default_rng([1, *astuple(shape)])
    B, T, I, H = astuple(shape)  # noqa: E741
    return {
        "x": rng.standard_normal((T, B, I), np.float32),
        "h0": _uniform(rng, 0.9, B, H),
        "dh": rng.standard_normal((T, B, H), np.float32),
        **_gru_parameters(rng, I, H),
    }


def model_problem(model: LanguageModel) -> Arrays:
    """Parameters of the whole model and four batches of ids (4, B, T + 1): read t, predict t + 1.

    Words follow Zipf's law, p(rank) proportional to 1 / (rank + 2.7), so that rows of the embedding
    meet as often as they do in text.
    """
    rng = np.random.default_rng([2, *astuple(model)])
    V, E, H = model.V, model.E, model.H
    p = 1 / (np.arange(V) + 3.7)
    problem = {
        "ids": rng.choice(V, (4, model.B, model.T + 1), p=p / p.sum()).astype(np.int32),
        "embedding": _uniform(rng, 0.5, V, E),
    }
    for k, I in enumerate(model.inputs()):  # noqa: E741
        problem |= _gru_parameters(rng, I, H, str(k))
    return problem | {"W": _uniform(rng, H**-0.5, V, H), "b": _uniform(rng, H**-0.5, V)}


def case_of(label: str) -> Shape | LanguageModel:
    """Make the case of a label: four sizes of a layer, or six of a language model."""
    sizes = _sizes(label)
    if len(sizes) not in (4, 6):
        raise ValueError(
            f"{label!r}: expected B,T,I,H, four whole numbers from 1, such as 32,100,64,256, or "
            "V,E,H,layers,B,T, six of them, such as 65,64,256,1,64,128"
        )
    return Shape(*sizes) if len(sizes) == 4 else LanguageModel(*sizes)


def _sizes(label: str) -> list[int]:
    """Return the whole numbers from 1 that a label consists of; none if it has anything else."""
    parts = label.split(",")
    sizes = [int(part) for part in parts if part.isascii() and part.isdecimal() and int(part)]
    return sizes if len(sizes) == len(parts) else []


def case_from(record: dict[str, Any]) -> Shape | LanguageModel:
    """Make the case that `to_record` described."""
    return (LanguageModel if "V" in record else Shape)(**record)


def to_record(case: Shape | LanguageModel) -> dict[str, int]:
    """Sizes by name, for JSON."""
    return asdict(case)
