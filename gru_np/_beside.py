"""What a model has beside its weights: its tokenizer, the names of its classes, how it is padded.

Each is an attribute of `Sequential` that is looked at when it is set, and stands in every form in
which gru_np writes a model.
"""

from typing import Any

import numpy as np


def require_tokenizer(value: Any) -> Any:
    """Give the tokenizer if a file can hold it, or None."""
    if value is None:
        return None
    if not callable(getattr(value, "get_config", None)):
        raise TypeError(
            "Sequential: tokenizer must be a CharTokenizer, WordTokenizer or Tokenizer of gru_np, "
            f"got {type(value).__name__}"
        )
    if getattr(value, "analyzer", None) is not None:
        raise ValueError(
            "Sequential: tokenizer has an analyzer, a function, which no file can hold; keep the "
            "tokenizer beside the model and pass it where one is asked for"
        )
    return value


def require_labels(value: Any) -> list[str] | None:
    """Give the names of the classes as a list, or None."""
    if value is None:
        return None
    named = not isinstance(value, str | bytes | dict | set | frozenset)
    labels = list(value) if named else []
    if not labels or not all(isinstance(label, str) for label in labels):
        raise TypeError(
            f"Sequential: labels must be a list of str, the name of each class, got {value!r}"
        )
    if len(set(labels)) != len(labels):
        raise ValueError(f"Sequential: labels must differ from each other, got {labels}")
    return [str(label) for label in labels]


def require_padding(value: Any) -> dict[str, Any] | None:
    """Give what `pad_sequences` is to be called with as a dict, or None."""
    if value is None:
        return None
    sides = ("pre", "post")
    known = {"maxlen": "an int from 1", "padding": sides, "truncating": sides, "value": "a number"}
    if not isinstance(value, dict) or not set(value) <= set(known):
        raise TypeError(
            f"Sequential: padding must be a dict of arguments of pad_sequences, "
            f"{', '.join(known)}, got {value!r}"
        )
    for name, given in value.items():
        whole = isinstance(given, int | np.integer) and not isinstance(given, bool)
        right = {
            "maxlen": given is None or (whole and given >= 1),
            "value": whole or isinstance(given, float | np.floating),
        }
        if not right.get(name, given in sides if isinstance(given, str) else False):
            raise ValueError(f"Sequential: padding[{name!r}] must be {known[name]}, got {given!r}")
    return dict(value)


def to_config(model: Any) -> dict[str, Any]:
    """Describe what a model has of these, ready for JSON."""
    tokenizer = require_tokenizer(model.tokenizer)
    config = {"labels": require_labels(model.labels), "padding": require_padding(model.padding)}
    if tokenizer is not None:
        name = type(tokenizer).__name__
        config["tokenizer"] = {"class_name": name, "config": tokenizer.get_config()}
    return {name: value for name, value in config.items() if value is not None}


def take(model: Any, extras: dict[str, Any], config: dict[str, Any]) -> None:
    """Give a model what `to_config` described; earlier files have the tokenizer in extras."""
    unknown = config.keys() - {"tokenizer", "labels", "padding"}
    if unknown:
        raise ValueError(f"unknown {', '.join(sorted(unknown))} beside tokenizer and labels")
    model.extras, config = dict(extras), dict(config)
    earlier = model.extras.get("tokenizer")
    if isinstance(earlier, dict) and earlier.keys() == {"class_name", "config"}:
        config.setdefault("tokenizer", model.extras.pop("tokenizer"))
    if "tokenizer" in config:
        from gru_np.text.vocabulary import tokenizer_from_config  # late: `text` imports models

        model.tokenizer = tokenizer_from_config(config["tokenizer"])
    model.labels, model.padding = config.get("labels"), config.get("padding")
