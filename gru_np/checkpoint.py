"""(config, arrays) to one `.safetensors` file and back: safe to load, safe to interrupt.

The arrays are the tensors of the file, so any safetensors reader reads them. Its metadata holds

    header_sha256   of all bytes before the payload, these 64 digits taken as zeros
    gru_np          JSON: {"format": 1, "payload_sha256": "...", "config": {...}}

so that the two digests cover every bit. They find damage; they do not say who wrote the file.

A file is never trusted: nothing in it is executed, unpickled, imported or opened, every number is
checked against the size of the file before memory is taken for it, and reading takes at most
4 x the size of the file + 64 MiB. This module knows no layers and no models: what the config means,
and which arrays it calls for, its caller says.
"""

import hashlib
import math
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from json import dumps, loads
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from gru_np import _safetensors
from gru_np._aliases import Array
from gru_np._replace import find_place, kind, replace_file
from gru_np._safetensors import Header, short

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]
Expected = Callable[[dict[str, Any]], Mapping[str, tuple[tuple[int, ...], DTypeLike]]]

FORMAT = 1
_NO_DIGEST = "0" * 64


class CheckpointError(ValueError):
    """A file is not a checkpoint that can be loaded: which file, what was expected, what was found.

    Examples
    --------
    >>> from gru_np import checkpoint
    >>> checkpoint.load("no such file")
    Traceback (most recent call last):
        ...
    gru_np.checkpoint.CheckpointError: no such file: cannot be read: No such file or directory
    """


# ------------------------------------------------------------------------------------- saving


def save(path: Path, config: dict[str, Any], arrays: Mapping[str, Array]) -> None:
    """Write a checkpoint, so that `path` holds either the whole of it or what it held before.

    The file is written under another name in the same folder, flushed to the disk and renamed, and
    the folder is flushed. Temporary files of writers that were killed are removed. If `path` is a
    symbolic link, the file it points to is replaced and the link stays. Permissions of an existing
    file are kept; a file that is write-protected is not replaced.

    Parameters
    ----------
    path : str, bytes or path-like
        Where to. The folder must exist.
    config : dict
        What JSON can hold: None, bool, int, float, str, list and dict with str keys, at most 30
        deep. Integers of up to 4300 digits, floats (NaN and infinities too) and the order of keys
        are kept exactly. A tuple comes back as a list, a NumPy scalar as the Python number.
    arrays : dict of str to array
        Bool, integers, float16, float32 or float64, of any shape, strides and byte order. Saved
        in C order and little-endian. Must not change while `save` runs.

    Raises
    ------
    TypeError, ValueError
        The config or an array is not of the kinds above. Nothing is written.
    CheckpointError
        `path` is a directory, a device or another thing that is not a regular file.
    OSError
        The system refused (no such folder, disk full, ...), with its `errno` and the path. The
        temporary file is gone and what `path` held is still there. Only if the very last step
        failed, flushing the folder, is the new file in its place: the message says which.

    Notes
    -----
    Equal configs (with their keys in equal order) and equal arrays give equal bytes. Two processes
    may save to one path: each file is whole, the last one stays.

    Examples
    --------
    >>> import numpy as np, os, tempfile
    >>> from gru_np import checkpoint
    >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
    >>> checkpoint.save(path, {"units": 4, "loss": [1.5, float("nan")]}, {"b": np.arange(12.0)})
    >>> config, arrays = checkpoint.load(path)
    >>> config
    {'units': 4, 'loss': [1.5, nan]}
    >>> arrays["b"][-1]
    np.float64(11.0)
    """
    name = os.fsdecode(path)
    blocks = _encode(config, arrays)
    try:
        replace_file(name, blocks)
    except ValueError as error:
        raise CheckpointError(f"{name}: {error}") from None


def require_savable(path: Path, config: dict[str, Any], arrays: Mapping[str, Array]) -> None:
    """Raise what `save` would, as far as it can be known without writing."""
    for name, array in arrays.items():
        _savable(name, array)
    _plain(config)
    find_place(os.fsdecode(path))


def require_loadable(
    config: dict[str, Any], arrays: Mapping[str, Array], expected: Expected
) -> dict[str, Any]:
    """Raise what `load` would for a file of these; give the config as it would be read."""
    config = loads(_dump(_plain(config)), object_hook=_from_plain)
    found = {name: (array.shape, array.dtype) for name, array in arrays.items()}
    _compare(found, expected, config)
    return config


def _encode(config: dict[str, Any], arrays: Mapping[str, Array]) -> list[memoryview]:
    """Return the blocks of bytes that make up the file: the header, then one for each array."""
    if not isinstance(config, dict):
        raise TypeError(f"checkpoint: config must be a dict, got {type(config).__name__}")
    tensors = [(name, _savable(name, array)) for name, array in arrays.items()]
    # Wide elements first, so that every array lies on a multiple of its element's size.
    tensors.sort(key=lambda tensor: (-tensor[1].itemsize, tensor[0]))
    digest = hashlib.sha256()
    table: dict[str, Any] = {}
    payload: list[memoryview] = []
    end = 0
    for name, array in tensors:
        begin, end = end, end + array.nbytes
        code = _safetensors.CODES[array.dtype]
        table[name] = {"dtype": code, "shape": array.shape, "data_offsets": [begin, end]}
        payload.append(array.reshape(-1).view(np.uint8).data)
        digest.update(payload[-1])

    content = {"format": FORMAT, "payload_sha256": digest.hexdigest(), "config": _plain(config)}
    inner = _dump(content)
    header = _dump({"__metadata__": {"header_sha256": _NO_DIGEST, "gru_np": inner}, **table})
    # What `_safetensors.read_header` and `_read_content` will allow themselves, and what they will
    # need. A crowd of short words may need more; then spaces make the file as large as it takes.
    allowed = 4 * (8 + len(header) + end) + _safetensors.SPARE_MEMORY
    needed = 2 * len(header) + _safetensors.weigh(header)[0] + _safetensors.weigh(inner)[0]
    length = len(header) + max(0, needed - allowed + 2) // 3
    length += -length % 8
    if length > _safetensors.MAX_HEADER:
        raise ValueError(
            f"checkpoint: config and names must fit into {_safetensors.MAX_HEADER} bytes, "
            f"got {length}"
        )
    start = length.to_bytes(8, "little") + header.encode().ljust(length)
    header_digest = hashlib.sha256(start).hexdigest()
    return [memoryview(_with_digest(start, _NO_DIGEST, header_digest)), *payload]


def _with_digest(start: bytes | bytearray, old: str, new: str) -> bytes | bytearray:
    return start.replace(old.encode(), new.encode(), 1)


def _savable(name: Any, array: Any) -> Array:
    """Return the array as it is written: C order, little-endian, of a type in `DTYPES`."""
    if not isinstance(name, str):
        raise TypeError(f"checkpoint: names of arrays must be str, got {short(name)}")
    if reason := _safetensors.bad_name(name):
        raise ValueError(f"checkpoint: the name of an array {reason}, got {short(name)}")
    if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
        got = type(array).__name__
        raise TypeError(f"checkpoint: {name} must be a NumPy array without a mask, got {got}")
    dtype = array.dtype.newbyteorder("<")
    if dtype not in _safetensors.CODES:
        raise TypeError(
            f"checkpoint: {name} must be bool, integer, or float of 16 to 64 bits, "
            f"got {array.dtype}"
        )
    if not array.size and math.prod(max(n, 1) for n in array.shape) > _safetensors.MAX_EMPTY:
        raise ValueError(
            f"checkpoint: {name} must not have a huge dimension beside a zero, got {array.shape}"
        )
    return np.asarray(array, dtype, order="C")


def _dump(value: Any) -> str:
    return dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


# JSON has no NaN and no infinity: they are {"$float": "nan"}. A dict of the caller's that looks
# like one of ours, {"$float": ...}, gets one more $ on its way in and loses it on its way out.
_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_FLOAT_KEY = re.compile(r"\$+float")


def _plain(value: Any, where: str = "config", depth: int = 2) -> Any:
    """Return the value as strict JSON can hold it."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": str(float(value))}
    if not isinstance(value, list | tuple | dict):
        raise TypeError(f"checkpoint: {where} must be a JSON value, got {type(value).__name__}")
    if depth == _safetensors.MAX_DEPTH:  # the last level is kept for {"$float": ...}
        deepest = _safetensors.MAX_DEPTH - 2
        raise ValueError(f"checkpoint: config must be at most {deepest} deep, got more at {where}")
    if not isinstance(value, dict):
        return [_plain(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
    plain = {}
    for key, item in value.items():
        if not isinstance(key, str):
            raise TypeError(f"checkpoint: keys of {where} must be str, got {short(key)}")
        name = "$" + key if len(value) == 1 and _FLOAT_KEY.fullmatch(key) else key
        # The shortcut halves the time that a large vocabulary takes.
        plain[name] = item if type(item) is int else _plain(item, f"{where}[{key!r}]", depth + 1)
    return plain


def _from_plain(value: dict[str, Any]) -> Any:
    """Undo `_plain` for one dict whose values are done already."""
    if len(value) == 1:
        [(key, item)] = value.items()
        if key == "$float":
            if not isinstance(item, str) or item not in _FLOATS:
                raise ValueError(f"expected one of {list(_FLOATS)} as $float, found {short(item)}")
            return _FLOATS[item]
        if _FLOAT_KEY.fullmatch(key):
            return {key[1:]: item}
    return value


# ------------------------------------------------------------------------------------ loading


def load(
    path: Path,
    expected: Expected | None = None,
    max_bytes: int = 2**31,
    finite: Iterable[str] = (),
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Read a checkpoint, trusting nothing in it.

    Parameters
    ----------
    path : str, bytes or path-like
        A regular file, or a symbolic link to one, that `save` wrote.
    expected : callable, optional
        From the config to `{name: (shape, dtype)}`, exactly the arrays the file must hold. Called
        before memory is taken for arrays. Its ValueError, TypeError, LookupError, AttributeError
        or ArithmeticError, as a config nobody has checked provokes them, becomes a
        CheckpointError.
    max_bytes : int
        A larger file is refused.
    finite : iterable of str
        Beginnings of names, such as `["params/"]`: these arrays must hold no NaN and no infinity.
        None by default: this module cannot tell weights from an optimiser's moments, where an
        infinity may be rightful, and a model that diverged may have been saved on purpose.

    Returns
    -------
    config : dict
    arrays : dict of str to array
        Arrays own their memory, in C order, native byte order and writable.

    Raises
    ------
    CheckpointError
        For every file that cannot be read, is damaged, of another format or not as expected, in
        one sentence: the file, what was expected, what was found.

    Examples
    --------
    >>> import numpy as np, os, tempfile
    >>> from gru_np import checkpoint
    >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
    >>> checkpoint.save(path, {"units": 4}, {"W": np.ones((12, 4))})
    >>> shapes = lambda config: {"W": ((3 * config["units"], config["units"]), "float64")}
    >>> config, arrays = checkpoint.load(path, shapes)
    >>> arrays["W"].shape
    (12, 4)
    """
    prefixes = (finite,) if isinstance(finite, str) else tuple(finite)
    with _opened(path, max_bytes) as (file, header):
        content = _read_content(header)
        if expected is not None:
            found = {tensor.name: (tensor.shape, tensor.dtype) for tensor in header.tensors}
            _compare(found, expected, content["config"])
        digest = hashlib.sha256()
        arrays = {
            tensor.name: _safetensors.read_array(file, tensor, digest) for tensor in header.tensors
        }
        if digest.hexdigest() != content["payload_sha256"]:
            raise ValueError(
                f"the arrays are damaged: expected SHA-256 {content['payload_sha256']}, "
                f"found {digest.hexdigest()}"
            )
        for name, array in arrays.items():
            if name.startswith(prefixes) and array.dtype.kind == "f":
                _require_finite(name, array)
        return content["config"], arrays


def read_config(path: Path, max_bytes: int = 2**31) -> dict[str, Any]:
    """Read the config of a checkpoint alone.

    Checks everything that `load` checks, but the content of the arrays.

    Parameters
    ----------
    path : str, bytes or path-like
    max_bytes : int
        A larger file is refused.

    Returns
    -------
    config : dict

    Raises
    ------
    CheckpointError
        As `load`.

    Examples
    --------
    >>> import os, tempfile
    >>> from gru_np import checkpoint
    >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
    >>> checkpoint.save(path, {"units": 4}, {})
    >>> checkpoint.read_config(path)
    {'units': 4}
    """
    with _opened(path, max_bytes) as (_, header):
        config: dict[str, Any] = _read_content(header)["config"]
        return config


def read_tensors(path: Path, max_bytes: int = 2**31) -> tuple[dict[str, str], dict[str, Array]]:
    """Read any safetensors file, whoever wrote it, as strictly as a checkpoint.

    Parameters
    ----------
    path : str, bytes or path-like
    max_bytes : int
        A larger file is refused.

    Returns
    -------
    metadata : dict of str to str
    arrays : dict of str to array
        As `load` returns them, in the order of the file; bfloat16 comes as float32, exactly.
        Complex numbers and floats of 8 bits are refused.

    Raises
    ------
    CheckpointError
        As `load`.

    Examples
    --------
    >>> import numpy as np, os, tempfile
    >>> from gru_np import checkpoint
    >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
    >>> checkpoint.save(path, {}, {"weight": np.ones((2, 3))})
    >>> metadata, arrays = checkpoint.read_tensors(path)
    >>> sorted(metadata), arrays["weight"].shape
    (['gru_np', 'header_sha256'], (2, 3))
    """
    with _opened(path, max_bytes) as (file, header):
        arrays = {tensor.name: _safetensors.read_array(file, tensor) for tensor in header.tensors}
        return header.metadata, arrays


@contextmanager
def _opened(path: Path, max_bytes: int) -> Iterator[tuple[int, Header]]:
    """Open a file once, look at it once, read its header; every fault is a CheckpointError."""
    name = os.fsdecode(path)
    # Non-blocking: opening a FIFO would wait for a writer, for ever.
    options = ("O_BINARY", "O_NONBLOCK", "O_NOCTTY")
    flags = os.O_RDONLY | sum(getattr(os, option, 0) for option in options)
    descriptor = -1
    try:
        descriptor = os.open(name, flags)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"expected a regular file, found {kind(status)}")
        if status.st_size > max_bytes:
            raise ValueError(
                f"expected at most {max_bytes} bytes, found {status.st_size}; "
                "max_bytes sets the limit"
            )
        yield descriptor, _safetensors.read_header(descriptor, status.st_size)
    except OSError as error:
        raise CheckpointError(f"{name}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise CheckpointError(f"{name}: {error}") from error.__cause__
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _read_content(header: Header) -> dict[str, Any]:
    """Check the header's digest, and parse the JSON that makes the file a checkpoint."""
    for key in ("gru_np", "header_sha256"):
        if key not in header.metadata:
            raise ValueError(
                f"expected a checkpoint of gru_np, found a safetensors file without {key} "
                "in its metadata"
            )
    text, digest = header.metadata["gru_np"], header.metadata["header_sha256"]
    blank = _with_digest(header.start, digest, _NO_DIGEST)
    found = hashlib.sha256(blank).hexdigest()
    if digest != found:
        raise ValueError(
            f"the header is damaged: expected SHA-256 {short(digest)}, found {short(found)}"
        )
    try:
        content, _ = _safetensors.parse(text, header.budget, _from_plain)
    except ValueError as error:
        raise ValueError(f"the config is not valid: {error}") from error
    version = content.get("format")
    if type(version) is not int or version != FORMAT:
        newer = type(version) is int and version > FORMAT
        hint = ": a later version of gru_np wrote it" if newer else ""
        raise ValueError(f"expected checkpoint format {FORMAT}, found {short(version)}{hint}")
    keys = ["config", "format", "payload_sha256"]
    if sorted(content) != keys:
        raise ValueError(f"expected {keys} in the metadata, found {short(sorted(content))}")
    if not isinstance(content["config"], dict) or not isinstance(content["payload_sha256"], str):
        raise ValueError(
            "expected the config to be a dict and payload_sha256 a string, "
            f"found {short(content['config'])} and {short(content['payload_sha256'])}"
        )
    return content


def _compare(
    found: Mapping[str, tuple[tuple[int, ...], Any]], expected: Expected, config: dict[str, Any]
) -> None:
    """Require exactly the expected names, shapes and dtypes; list all differences."""
    try:
        wanted = {
            name: (tuple(shape), np.dtype(dtype))
            for name, (shape, dtype) in expected(config).items()
        }
    except CheckpointError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"the config is not that of a model ({reason})") from error
    differences = [f"{name} is missing" for name in wanted if name not in found]
    differences += [f"{name} is unexpected" for name in found if name not in wanted]
    differences += [
        f"{name} is {dtype} {shape} instead of {wanted[name][1]} {wanted[name][0]}"
        for name, (shape, dtype) in found.items()
        if name in wanted and wanted[name] != (shape, dtype)
    ]
    if differences:
        more = f"; and {len(differences) - 50} more" if len(differences) > 50 else ""
        raise ValueError(
            f"expected the arrays that its config calls for, found that "
            f"{'; '.join(differences[:50])}{more}"
        )


def _require_finite(name: str, array: Array) -> None:
    finite = np.isfinite(array)
    if not finite.all():
        index = np.unravel_index(np.argmin(finite), array.shape)
        place = f"{name}[{', '.join(map(str, index))}]" if index else name
        count = finite.size - np.count_nonzero(finite)
        raise ValueError(
            f"{place}: expected a finite number, found {array[index]} "
            f"(in all {count} of {finite.size} are not finite)"
        )
