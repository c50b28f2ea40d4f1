"""The one door for users' arrays: into models, layers, losses, metrics, series, speech and text.

What comes out is a plain NumPy array: no subclass, in the machine's byte order, aligned, and of the
kinds of numbers that were asked for. Its strides are whatever they were, and it may be read-only.
What NumPy would take for an array though its owner meant something else is refused: a tuple of
arrays (a layer's several outputs), masked entries, which would count as numbers again, missing
values, and objects that only look like sequences, which NumPy would ask for items without end.
"""

import numbers
from typing import Any, NoReturn

import numpy as np

from gru_np._aliases import Array
from gru_np._checks import require_rank, spell

FLOAT, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
REAL, NUMBERS = "biuf", "biufc"  # NumPy's letters for bool, signed, unsigned, float and complex
PROTOCOLS = ("__array__", "__array_interface__", "__array_struct__")
RAGGED = "got rows of different lengths; use gru_np.pad_sequences"


def as_floats(who: str, x: Any, what: str = "x", real: bool = False) -> Array:
    """Give x as a float or complex array, integers as the nearest float, or raise."""
    if type(x) is np.ndarray and (x.dtype is FLOAT or x.dtype is DOUBLE) and x.flags.aligned:
        return x
    x = as_array(who, x, what, REAL if real else NUMBERS)
    if x.dtype.kind in "iub":
        return x.astype(FLOAT if x.dtype.itemsize <= 2 else DOUBLE)
    return x


def as_integers(
    who: str, x: Any, what: str = "x", wanted: str = "integers", advice: str = ""
) -> Array:
    """Give x as an array of integers, or raise; bools and whole floats are none."""
    return as_array(who, x, what, "iu", wanted, advice)


def as_weights(who: str, weight: Any, what: str = "sample_weight") -> Array:
    """Give weights as a float64 array, or raise."""
    return as_array(who, weight, what, REAL).astype(DOUBLE, copy=False)


def as_mask(who: str, mask: Any, shape: tuple[int, ...], advice: str = "") -> Array:
    """Give the mask as a bool array of this shape, or raise."""
    mask = as_array(who, mask, "mask")
    if mask.dtype != bool:
        raise TypeError(f"{who}: mask must be bool (True = real), got {mask.dtype}; use x != 0")
    require_rank(who, "mask", mask, shape, advice)
    return mask


def as_array(
    who: str,
    x: Any,
    what: str = "x",
    kinds: str = NUMBERS,
    wanted: str = "numbers",
    advice: str = "",
    finite: bool = False,
) -> Array:
    """Give x as an array of these kinds, or raise.

    `kinds` are letters of `numpy.dtype.kind`, `wanted` names them and `advice` says what to do with
    others. With `finite` NaN and infinity are refused too, by the row where they stand.
    """
    if type(x) is not np.ndarray:
        x = _array_of(who, x, what)
    if x.dtype.kind == "O":
        x = _numbers_of(who, x, what, kinds, wanted)
    if x.dtype.kind not in kinds or (x.dtype.kind == "c" and x.dtype.itemsize > 16):
        real = "real " if x.dtype.kind == "c" and wanted == "numbers" else ""
        raise TypeError(
            f"{who}: {what} must be {real}{wanted}, got an array of {x.dtype}"
            + (f"; {advice}" if advice else "")
        )
    if not x.dtype.isnative:
        x = x.astype(x.dtype.newbyteorder("="))
    elif not x.flags.aligned:
        x = x.copy()
    if finite:
        require_finite(who, x, what)
    return x


def require_text(who: str, text: Any, what: str = "text") -> str:
    """Give the text, or raise if it is none."""
    if not isinstance(text, str):
        raise TypeError(f"{who}: {what} must be a string, got {spell_value(text)}")
    return text


def spell_value(value: Any) -> str:
    """Name a value by its type, and show it if that is short."""
    shown = repr(value)
    return type(value).__name__ + (f" {shown}" if len(shown) <= 20 else "")


def require_finite(who: str, x: Array, what: str = "x") -> None:
    """Raise if a number is NaN or infinite; say in which row."""
    where = first_nonfinite(x)
    if where is not None:
        row = f" in row {where[0]}" if where else ""
        raise ValueError(
            f"{who}: {what} must hold finite numbers only, got {x[where]}{row}"
            + (f", at {spell(where)}" if len(where) > 1 else "")
        )


def first_nonfinite(x: Array, counts: Array | None = None) -> tuple[int, ...] | None:
    """Give the indices of the first NaN or infinity, if any, of those that count."""
    if x.dtype.kind not in "fc":
        return None
    wrong = ~np.isfinite(x)
    if counts is not None:
        wrong &= counts
    return tuple(map(int, np.argwhere(wrong)[0])) if wrong.any() else None


def _array_of(who: str, x: Any, what: str) -> Array:
    """Let NumPy make an array of what is meant to be one."""
    _require_like(who, x, what)
    try:
        return np.asarray(x)
    except (TypeError, ValueError, RuntimeError, OverflowError, AttributeError) as error:
        if "inhomogeneous" in str(error) or "sequence" in str(error):
            raise ValueError(f"{who}: {what} must be a regular array, {RAGGED}") from error
        _refuse(who, what, x, error)


def _refuse(who: str, what: str, x: Any, error: Exception) -> NoReturn:
    raise TypeError(
        f"{who}: {what} must be an array, and this {type(x).__name__} does not become one: {error}"
    ) from error


PLAIN = {int, float, bool, complex, np.ndarray, np.float64, np.float32, np.int64, np.bool_}


def _require_like(who: str, x: Any, what: str, depth: int = 0) -> None:
    """Raise if x, or anything in it, is something else than an array, a list or a number."""
    if isinstance(x, list | tuple):
        kinds = set(map(type, x))
        if isinstance(x, tuple) and any(hasattr(kind, "__array__") for kind in kinds):
            several = sum(getattr(item, "ndim", 0) > 0 for item in x)
            if several:
                raise TypeError(
                    f"{who}: {what} must be one array, got a tuple of {len(x)} with {several} "
                    "arrays in it; a layer with return_state=True or merge_mode=None gives "
                    "several, of which to choose one; np.stack joins rows"
                )
        if depth > 32:
            raise ValueError(f"{who}: {what} must be a regular array, got lists 32 deep")
        if not kinds <= PLAIN:
            for item in x:
                if type(item) not in PLAIN:
                    _require_like(who, item, what, depth + 1)
    elif isinstance(x, np.ma.MaskedArray):
        if np.ma.is_masked(x):
            count = np.count_nonzero(np.ma.getmaskarray(x))
            raise ValueError(
                f"{who}: {what} must have no masked entries, got {count}; fill them with "
                "filled(), and say by a mask or by weights of zero that they do not count"
            )
    elif depth and (x is None or type(x).__name__ in ("NAType", "NaTType")):
        raise ValueError(
            f"{who}: {what} must have no missing values, got {x}; fill them or leave them out"
        )
    elif not (
        isinstance(x, numbers.Number | np.generic | range | str | bytes)
        or any(hasattr(type(x), name) for name in PROTOCOLS)
        or _has_buffer(x)
    ):
        iterable = hasattr(type(x), "__next__") or hasattr(type(x), "__getitem__")
        iterable = (iterable or hasattr(type(x), "__iter__")) and not isinstance(x, dict)
        raise TypeError(
            f"{who}: {what} must be an array, got {_name(x)}"
            + ("; join what it gives into one array first, with np.concatenate" * iterable)
        )


def _has_buffer(x: Any) -> bool:
    try:
        memoryview(x).release()
    except TypeError:
        return False
    return True


def _name(x: Any) -> str:
    return "None" if x is None else f"an object of type {type(x).__name__}"


def _numbers_of(who: str, x: Array, what: str, kinds: str, wanted: str) -> Array:
    """Give an array of Python objects, as a nullable data frame is, as one of what they are."""
    items = x.ravel().tolist()
    if not items:
        return np.zeros(x.shape, DOUBLE)
    found = set(map(type, items))
    if "U" in kinds and found == {str}:
        return np.array(items).reshape(x.shape)
    for kind in found:
        if issubclass(kind, numbers.Number | np.number | np.bool_):
            continue
        place = next(i for i, item in enumerate(items) if type(item) is kind)
        where = spell(map(int, np.unravel_index(place, x.shape))) if x.ndim else ""
        item = items[place]
        if isinstance(item, list | tuple | np.ndarray):
            raise ValueError(
                f"{who}: {what} must be a regular array, got an array of {len(items)} objects, "
                f"such as {_name(item)}; np.stack joins rows of one length, "
                "gru_np.pad_sequences those of different lengths"
            )
        if item is None or kind.__name__ in ("NAType", "NaTType"):
            if not x.ndim:
                raise TypeError(f"{who}: {what} must be an array, got {_name(item)}")
            raise ValueError(
                f"{who}: {what} must have no missing values, got {item} at {where}; fill them or "
                "leave them out"
            )
        at = f" at {where}" if where else ""
        raise TypeError(f"{who}: {what} must be {wanted}, got {_name(item)}{at}")
    try:
        if all(issubclass(kind, bool | np.bool_) for kind in found):
            return np.array(items, bool).reshape(x.shape)
        if all(issubclass(kind, numbers.Integral | np.bool_) for kind in found):
            for dtype in (np.int64, np.uint64):
                try:
                    return np.array(items, dtype).reshape(x.shape)
                except OverflowError:
                    continue
        if any(issubclass(kind, complex | np.complexfloating) for kind in found):
            return np.array(items, complex).reshape(x.shape)
        return np.array([float(item) for item in items]).reshape(x.shape)
    except (ValueError, OverflowError, TypeError) as error:
        _refuse(who, what, x, error)
