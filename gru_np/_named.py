"""Settings in and out: objects that are described by a class name and constructor arguments.

Losses, metrics, optimisers, schedules and initialisers are asked for by name ("adam"), made with
settings (`Adam(learning_rate=0.01)`), and written to a model's file as a description, a dict of
"class_name" and "config". A description can name only the classes of a closed table: nothing in a
file is ever imported or executed.
"""

import difflib
import inspect
import math
from collections.abc import Mapping
from typing import Any, Self, TypeVar

import numpy as np

from gru_np._schema import require_settings

T = TypeVar("T", bound="Configured")


class Configured:
    """An object that keeps each constructor argument as an attribute of the same name."""

    def get_config(self) -> dict[str, Any]:
        """Give the constructor arguments, ready for JSON."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Make the object that `get_config` described."""
        require_settings(cls, config)
        known = inspect.signature(cls).parameters
        for name in config:
            if name not in known:
                raise ValueError(
                    f"{cls.__name__}: settings must be among {', '.join(known) or 'none'}, "
                    f"got {name!r}"
                )
        return cls(**config)

    def __repr__(self) -> str:
        shown = (
            f"{name}={getattr(self, name)!r}"
            for name, parameter in inspect.signature(type(self)).parameters.items()
            if getattr(self, name) != parameter.default
        )
        return f"{type(self).__name__}({', '.join(shown)})"


def describe(thing: Configured) -> dict[str, Any]:
    """Describe an object by class name and settings, ready for JSON."""
    return {"class_name": type(thing).__name__, "config": thing.get_config()}


def require_known(what: str, thing: T, known: Mapping[str, type[T]]) -> T:
    """Give the object if its class is in the table, so that a file can hold it, or raise."""
    if type(thing) not in known.values():
        raise TypeError(
            f"a file can hold only a {what} of gru_np's own, got {thing!r}; "
            f"known are {', '.join(sorted({cls.__name__ for cls in known.values()}))}"
        )
    return thing


def resolve(what: str, identifier: Any, known: Mapping[str, type[T]], base: type[T]) -> T:
    """Give the object meant by a name, a description, a class or the object itself, or raise."""
    if isinstance(identifier, base):
        return identifier
    if isinstance(identifier, type) and issubclass(identifier, base):
        return identifier()
    if isinstance(identifier, Mapping) and {"class_name", "config"} <= identifier.keys():
        cls = _look_up(what, identifier["class_name"], known)
        return cls.from_config(identifier["config"])
    return _look_up(what, identifier, known)()


def _look_up(what: str, name: Any, known: Mapping[str, type[T]]) -> type[T]:
    if isinstance(name, str):
        for spelling in (name, name.lower()):
            if spelling in known:
                return known[spelling]
        near = difflib.get_close_matches(name, known, n=1)
        names = ", ".join(sorted({n for n in known if n.islower()}))
        raise ValueError(
            f"unknown {what} {name!r}; "
            + (f"did you mean {near[0]!r}?" if near else f"known are {names}")
        )
    raise TypeError(f"{what} must be a name or an object of gru_np, got {name!r}")


def require_number(
    who: str, what: str, value: Any, low: float = 0.0, high: float = math.inf, open_: str = ""
) -> float:
    """Give the value as a finite float between the bounds, or raise; `open_` "(" or ")" or both.

    A bracket in `open_` excludes that bound itself.
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise TypeError(f"{who}: {what} must be a number, got {value!r}")
    number = float(value)
    above = number > low if "(" in open_ else number >= low
    below = number < high if ")" in open_ else number <= high
    if not (above and below and math.isfinite(number)):
        if high == math.inf:
            bounds = f"finite and {'above' if '(' in open_ else 'at least'} {low:g}"
        else:
            bounds = f"in {'(' if '(' in open_ else '['}{low:g}, {high:g}"
            bounds += ")" if ")" in open_ else "]"
        raise ValueError(f"{who}: {what} must be {bounds}, got {value}")
    return number
