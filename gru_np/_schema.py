"""Whether a value that came out of a file is of the kind that the code it is for expects.

A kind is a type annotation, so a constructor's own signature is the schema of its settings. What
is of the right kind may still have no meaning; for that the constructors answer.
"""

import types
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

Count = Annotated[int, "from 0"]  # a number of things, or a place in a row
MOST = 2**63 - 1


def fits(value: Any, kind: Any) -> bool:
    """Answer whether a value is of a kind; 0 and 1 will do as bool, 3.0 as int, 3 as float."""
    if kind is Any:
        return True
    if isinstance(value, np.generic):
        value = value.item()
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return any(fits(value, one) for one in args)
    if origin is Literal:
        return any(type(value) is type(one) and value == one for one in args)
    if origin is Annotated:
        return type(value) is int and 0 <= value <= MOST
    if origin is dict or origin is Mapping:
        return isinstance(value, Mapping) and all(
            fits(key, args[0]) and fits(item, args[1]) for key, item in value.items()
        )
    if origin in (list, tuple, Iterable, Sequence):
        items = [one for one in args if one is not Ellipsis]
        return isinstance(value, list | tuple) and all(fits(item, items[0]) for item in value)
    if kind is None or kind is type(None):
        return value is None
    if kind is bool:
        return type(value) in (bool, int) and value in (0, 1)
    if kind is int:
        return _is_whole(value) or (type(value) is float and value.is_integer())
    if kind is float:
        return _is_whole(value) or type(value) is float
    return isinstance(value, kind if isinstance(kind, type) else object)


def _is_whole(value: Any) -> bool:
    return type(value) is int and -MOST <= value <= MOST


def require_fields(
    where: str, values: Any, kinds: Mapping[str, Any], optional: Iterable[str] | None = None
) -> None:
    """Raise unless `values` is a dict whose entries are of these kinds.

    All must be there but those in `optional`; if that is given, no others may be.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} must be a dict, got {_short(values)}")
    if optional is not None and (unknown := sorted(set(values) - set(kinds))):
        raise ValueError(f"{where} has entries that are not known: {_short(unknown)}")
    for name, kind in kinds.items():
        if name not in values:
            if name in (optional or ()):
                continue
            raise ValueError(f"{where} must have an entry {name!r}, got {_short(list(values))}")
        if not fits(values[name], kind):
            raise ValueError(
                f"{where}[{name!r}] must be {_spell(kind)}, got {_short(values[name])}"
            )


def require_settings(cls: type, config: Any) -> None:
    """Raise unless the settings in `config` are of the kinds that the constructor of `cls` names.

    A name that the constructor does not know is left to it.
    """
    kinds = _arguments(cls)
    if not isinstance(config, Mapping):
        raise ValueError(f"settings of {cls.__name__} must be a dict, got {_short(config)}")
    require_fields(
        f"settings of {cls.__name__}",
        config,
        {str(name): kinds[name] for name in config if name in kinds},
    )


@cache
def _arguments(cls: type) -> dict[str, Any]:
    """Give the kinds of all arguments of a constructor, those that go to its bases included."""
    kinds: dict[str, Any] = {}
    if issubclass(cls, tuple):  # a NamedTuple
        return get_type_hints(cls, include_extras=True)
    for base in reversed(cls.__mro__):
        if "__init__" in vars(base) and base is not object:
            hints = get_type_hints(vars(base)["__init__"], include_extras=True)
            kinds |= {name: kind for name, kind in hints.items() if name != "return"}
    return kinds


def _spell(kind: Any) -> str:
    if kind is None or kind is type(None):
        return "None"
    if kind is Count:
        return f"int from 0 to {MOST}"
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(repr, get_args(kind)))}"
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(map(_spell, get_args(kind)))
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
