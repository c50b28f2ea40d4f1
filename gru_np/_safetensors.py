"""The safetensors format, read strictly: every number is checked before it is believed.

    8 bytes     N, the length of the header, little-endian
    N bytes     the header: JSON, one line per array here, then spaces (white space when read)
                {"__metadata__": {any strings},
                 "W": {"dtype": "F32", "shape": [12, 4], "data_offsets": [0, 192]}, ...}
    the rest    the payload: the arrays one after another, little-endian, C order, no gaps

Format: the README of https://github.com/huggingface/safetensors. Refused here beyond what that
library refuses: keys that occur twice, unknown fields, white space before the header, control
characters in names, dimensions beyond 2**31 beside a zero, booleans other than 0 and 1, and headers
that would take more memory than 4 x the size of the file + 64 MiB when parsed.

Everything wrong is a ValueError whose text says what was expected and what was found;
`gru_np.checkpoint` adds the name of the file.
"""

import json
import math
import os
import re
import reprlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gru_np._aliases import Array

# Every type there is; a file that names another is refused.
DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1",
    "BOOL": "|b1",
}  # fmt: skip
CODES = {np.dtype(dtype): code for code, dtype in DTYPES.items()}
_READABLE = {**DTYPES, "BF16": "<u2"}  # NumPy has no bfloat16: it is read as float32, exactly

MAX_HEADER = 100_000_000  # bytes, what the safetensors library accepts
MAX_DEPTH = 32  # of brackets in JSON
MAX_EMPTY = 2**31  # elements a shape would hold if its zero dimensions were one
SPARE_MEMORY = 2**26  # bytes a reader may take beyond 4 x the size of the file
_CHUNK = 2**20  # bytes in one read, still in the cache when they are hashed


class Tensor(NamedTuple):
    """One array as the header describes it."""

    name: str
    code: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the array once it is in memory."""
        return np.dtype("f4" if self.code == "BF16" else _READABLE[self.code]).newbyteorder("=")


class Header(NamedTuple):
    """All that stands before the payload: as bytes, and as what they mean."""

    start: bytearray
    metadata: dict[str, str]
    tensors: list[Tensor]  # in the order of the payload
    budget: int  # bytes of memory a reader may still take


# ------------------------------------------------------------------------------------ reading


def read_into(file: int, view: memoryview, digest: Any = None) -> None:
    """Fill the view with the next bytes of an open file, and hash them."""
    while view:
        count = _read(file, view[:_CHUNK])
        if count == 0:
            raise ValueError(f"expected {len(view)} bytes more, but it shrank while it was read")
        if digest is not None:
            digest.update(view[:count])
        view = view[count:]


def _read_by_copy(file: int, view: memoryview) -> int:
    data = os.read(file, len(view))
    view[: len(data)] = data
    return len(data)


def _read_in_place(file: int, view: memoryview) -> int:
    return os.readv(file, [view])


_read = _read_in_place if hasattr(os, "readv") else _read_by_copy  # Windows has no readv


def read_header(file: int, size: int) -> Header:
    """Read and check everything before the payload of a file of `size` bytes."""
    if size < 10:
        raise ValueError(f"expected a safetensors file, found only {size} bytes")
    start = bytearray(8)
    read_into(file, memoryview(start))
    length = int.from_bytes(start, "little")
    longest = min(size - 8, MAX_HEADER)
    if not 2 <= length <= longest:
        raise ValueError(
            "expected a safetensors file, whose first 8 bytes are the length of its header, "
            f"2 to {longest} in this one, found {length}"
        )
    start.extend(bytes(length))
    with memoryview(start) as view:
        read_into(file, view[8:])
    end = len(start.rstrip(b" \t\r\n"))
    if start[8:9] != b"{" or start[end - 1 : end] != b"}":
        raise ValueError("expected a header that begins with { and ends with } and spaces")
    budget = 4 * size + SPARE_MEMORY - length
    # One character beyond U+FFFF makes all of them take 4 bytes, and 7 more when parsed (`weigh`).
    width = 1 if start[8:].isascii() else 4
    try:
        if width == 4 and budget < 11 * length:
            raise ValueError(_TOO_MUCH)
        with memoryview(start) as view:
            text = str(view[8:end], "utf-8")
        document, budget = parse(text, budget - len(text) * width)
    except ValueError as error:
        raise ValueError(f"the header is not valid: {error}") from error
    metadata = document.pop("__metadata__", {})
    if not isinstance(metadata, dict) or any(type(text) is not str for text in metadata.values()):
        raise ValueError(f"expected metadata of strings, found {short(metadata)}")
    tensors = [_tensor(name, entry) for name, entry in document.items()]
    tensors.sort(key=lambda tensor: (tensor.begin, tensor.end))
    _check_offsets(tensors, size - 8 - length)
    return Header(start, metadata, tensors, budget)


def read_array(file: int, tensor: Tensor, digest: Any = None) -> Array:
    """Read the next array of the payload into memory of its own."""
    array: Array = np.empty(tensor.shape, _READABLE[tensor.code])
    view = array.reshape(-1).view(np.uint8)
    read_into(file, view.data, digest)
    if tensor.code == "BOOL" and view.size and view.max() > 1:
        raise ValueError(f"{tensor.name}: expected booleans, 0 or 1, found {view.max()}")
    if tensor.code == "BF16":  # the upper half of a float32
        array = array.astype("<u4")
        array <<= 16
        array = array.view("<f4")
    return array.astype(tensor.dtype, copy=False)


def bad_name(name: str) -> str | None:
    """Say what is wrong with the name of an array, or None; a name is never used as a path."""
    if name == "__metadata__" or not 0 < len(name) <= 1024:
        return "must have 1 to 1024 characters and not be __metadata__"
    if any(c < " " or c == "\x7f" or "\ud800" <= c <= "\udfff" for c in name):
        return "must not hold control characters or surrogates"
    return None


def _tensor(name: str, entry: Any) -> Tensor:
    """Check one entry of the header by itself."""
    if reason := bad_name(name):
        raise ValueError(f"the name of an array {reason}, found {short(name)}")
    fields = ["data_offsets", "dtype", "shape"]
    if not isinstance(entry, dict) or sorted(entry) != fields:
        found = sorted(entry) if isinstance(entry, dict) else entry
        raise ValueError(f"{name}: expected {fields}, found {short(found)}")
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(code, str) or code not in _READABLE:
        raise ValueError(f"{name}: expected a dtype of {list(_READABLE)}, found {short(code)}")
    if not _is_sizes(shape) or len(shape) > 64:
        raise ValueError(f"{name}: expected a shape of at most 64 sizes, found {short(shape)}")
    if not _is_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"{name}: expected data_offsets [begin, end], found {short(offsets)}")
    found = offsets[1] - offsets[0]
    expected = math.prod(shape) * np.dtype(_READABLE[code]).itemsize
    if found != expected:
        raise ValueError(
            f"{name}: expected {short(expected)} bytes for {code} {short(tuple(shape))}, "
            f"found {found}"
        )
    if found == 0 and math.prod(max(size, 1) for size in shape) > MAX_EMPTY:
        raise ValueError(
            f"{name}: expected dimensions whose product is at most {MAX_EMPTY} beside a zero, "
            f"found {short(tuple(shape))}"
        )
    return Tensor(name, code, tuple(shape), *offsets)


def _check_offsets(tensors: list[Tensor], payload: int) -> None:
    """Require that the sorted arrays fill the payload without gap or overlap."""
    position = 0
    for tensor in tensors:
        if tensor.begin != position:
            raise ValueError(
                f"{tensor.name}: expected to begin at byte {position} of the payload, "
                f"found {tensor.begin}"
            )
        position = tensor.end
    if position != payload:
        raise ValueError(f"expected {position} bytes after the header, found {payload}")


def _is_sizes(value: Any) -> bool:
    """Whether this is a list of integers (not bools) that could be sizes or offsets."""
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 2**63 for n in value)


# -------------------------------------------------------------------------------- strict JSON

# A string ends at a quote, or with the text. Possessive, so that no text takes quadratic time.
_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_BLOCK = re.compile(rf'(?:{_STRING.pattern}|[^"]++){{1,1000}}+', re.DOTALL)
_TOO_MUCH = "parsing it would take more memory than a file of this size may"
_ESCAPE = re.compile(r"(?<!\\)(?:\\\\)*+\\u")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def weigh(text: str, budget: float = math.inf) -> tuple[int, int]:
    """Bound the bytes of memory that parsing a JSON text takes, and count its colons.

    Only what stands outside strings is counted, so the colons are as many as the keys. A text of
    `[[],[],...` becomes Python objects of 30 times its size; the weights here bound what CPython
    3.11 took for crowds of the smallest lists, dicts, strings and numbers. A text that would take
    more than the budget, or is nested deeper than `MAX_DEPTH`, is a ValueError.
    """
    # One escape such as \ud83d\ude00 makes every character of its string take 4 bytes, and some
    # of them 3 more while the string grows.
    wide = not text.isascii() or ("\\u" in text and _ESCAPE.search(text))
    cost = len(text) * 7 if wide else len(text) * 5 // 4
    colons = depth = 0
    for block in _BLOCK.finditer(text):  # in blocks, for the counting must not take memory either
        marks = _STRING.sub("", block[0]).encode(errors="replace")
        colons += marks.count(b":")
        cost += 160 * marks.count(b":") + 64 * marks.count(b",")
        cost += 100 * (marks.count(b"[") + marks.count(b"{"))
        if cost > budget:
            raise ValueError(_TOO_MUCH)
        for bracket in marks.translate(None, _NOT_BRACKETS):
            depth += 1 if bracket in b"[{" else -1
            if depth > MAX_DEPTH:
                raise ValueError(f"expected brackets at most {MAX_DEPTH} deep, found more")
    return cost, colons


def parse(
    text: str, budget: int, convert: Callable[[dict[str, Any]], Any] = lambda value: value
) -> tuple[dict[str, Any], int]:
    """Parse a JSON object strictly, replacing each dict in it by `convert` of it, inner ones first.

    Strictly: no key twice, no NaN or Infinity, no number beyond the range of a float, no deep
    nesting, no more memory than the budget. Returns the object and what is left of the budget.
    """
    cost, colons = weigh(text, budget)
    keys = 0

    def convert_and_count(value: dict[str, Any]) -> Any:
        nonlocal keys
        keys += len(value)
        return convert(value)

    document = json.loads(
        text,
        object_hook=convert_and_count,
        parse_float=_finite_float,
        parse_constant=_refuse_constant,
    )
    if not isinstance(document, dict):
        raise ValueError(f"expected an object in {{}}, found {short(document)}")
    if keys != colons:
        raise ValueError("a key occurs twice")
    return document, budget - cost


def _finite_float(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"expected a number in the range of a float, found {short(text)}")
    return value


def _refuse_constant(text: str) -> float:
    raise ValueError(f"expected a number, found {text}")


_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 100
_repr.maxlist = _repr.maxtuple = 12


def short(value: Any) -> str:
    """Return a repr of bounded length, whatever the value."""
    return _repr.repr(value)
