"""What a run consists of."""

from dataclasses import dataclass, field
from typing import Any

from . import problems
from .contestants import CONTESTANTS

TIMED = ["forward", "training", "language_model", "generation"]
SECTIONS = [*TIMED, "cold", "memory", "size"]
SHORT = {"lm": "language_model"}
SLOW_TO_START = {"torch.compile", "flax", "keras-tensorflow", "keras-jax"}  # not in a quick run


@dataclass
class Plan:
    """What to run; the defaults are a full run."""

    sections: list[str] = field(default_factory=lambda: list(SECTIONS))
    threads: list[int] = field(default_factory=lambda: [1, 2])
    contestants: list[str] = field(default_factory=lambda: list(CONTESTANTS))
    cases: dict[str, list[Any]] = field(default_factory=dict)  # by section
    shapes: list[str] | None = None  # labels; None: all
    repeats: int = 20
    repetition: float = 0.02  # seconds a repetition should last: more calls if one is shorter
    warm: float = 0.3  # seconds
    unroll_limit: float = 30.0  # seconds for contestants that compile every step of time
    limit: float = 300.0  # seconds for any other request
    cold_repeats: int = 10
    memory: list[tuple[str, Any]] = field(default_factory=list)


def full() -> Plan:
    """Everything."""
    return Plan(
        cases={
            "forward": problems.SHAPES,
            "training": problems.SHAPES,
            "language_model": problems.LANGUAGE_MODELS,
            "generation": [problems.GENERATION],
        },
        memory=[
            ("training", problems.MEMORY_SHAPE),
            ("language_model", problems.MEMORY_MODEL),
        ],
    )


def quick() -> Plan:
    """Plan a few small cases, in under two minutes."""
    return Plan(
        threads=[1],
        contestants=[n for n in CONTESTANTS if n not in SLOW_TO_START],
        cases={
            "forward": problems.QUICK_SHAPES,
            "training": problems.QUICK_SHAPES[1:],
            "language_model": problems.QUICK_LANGUAGE_MODELS[:1],
            "generation": [problems.QUICK_GENERATION],
        },
        repeats=5,
        repetition=0.01,
        warm=0.05,
        limit=60.0,
        cold_repeats=2,
        memory=[("training", problems.QUICK_SHAPES[2])],
    )
