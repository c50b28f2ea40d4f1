"""What a run consists of."""

from dataclasses import dataclass, field
from typing import Any

from . import problems
from .contestants import CONTESTANTS

TIMED = ["forward", "training", "language_model", "generation"]
SECTIONS = [*TIMED, "cold", "memory", "size"]
SHORT = {"lm": "language_model"}
SLOW_TO_START = {"torch.compile", "flax", "keras-tensorflow", "keras-jax"}  # not in a quick run
CASES = dict[str, list[Any]]  # by section


@dataclass
class Plan:
    """What to run; the defaults are a full run."""

    sections: list[str] = field(default_factory=lambda: list(SECTIONS))
    threads: list[int] = field(default_factory=lambda: [1, 2])
    contestants: list[str] = field(default_factory=lambda: list(CONTESTANTS))
    cases: CASES = field(default_factory=dict)
    quick: bool = False
    repeats: int = 20
    repetition: float = 0.02  # seconds a repetition should last: more calls if one is shorter
    warm: float = 0.3  # seconds
    unroll_limit: float = 30.0  # seconds for contestants that compile every step of time
    limit: float = 300.0  # seconds for any other request
    cold_repeats: int = 10
    memory: list[tuple[str, Any]] = field(default_factory=list)

    def left_out(self, name: str) -> str:
        """Say why a contestant is not in the plan."""
        slow = self.quick and name in SLOW_TO_START
        return "slow to start, so not in a quick run" if slow else "not chosen"

    def take_shapes(self, labels: list[str]) -> None:
        """Measure these cases alone: those of the plan, and any other by its sizes."""
        chosen: CASES = {section: [] for section in TIMED}
        for label in labels:
            case = problems.case_of(label)
            planned = [s for s in TIMED if case in self.cases.get(s, [])]
            for section in planned or _sections_of(case):
                chosen[section].append(case)
        self.cases = chosen


def _sections_of(case: Any) -> list[str]:
    """Say where a case of one's own is measured: a model of one row can write characters, too."""
    if isinstance(case, problems.Shape):
        return ["forward", "training"]
    return ["language_model", "generation"] if case.B == 1 else ["language_model"]


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
        quick=True,
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
