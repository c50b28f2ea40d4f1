"""Reading a series from a CSV file, with one clear sentence for everything that may be wrong."""

import csv
import gzip
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gru_np._aliases import Array
from gru_np.series.clock import column_times, parse_times
from gru_np.series.table import Series, is_time_name, require_column

MISSING = frozenset(
    ("", "na", "n/a", "nan", "null", "none", "-", "--", "?", ".", "#n/a", "missing")
)


def read_csv(
    path: str | os.PathLike[str],
    columns: Sequence[str] | None = None,
    time: str | Sequence[str] | None = None,
    gaps: str = "auto",
    missing: Sequence[Any] = (),
) -> Series:
    r"""Read a CSV file with a header: a column of times, and columns of numbers.

    Parameters
    ----------
    path : str or path
        UTF-8, plain or gzipped; separated by commas, semicolons, tabs or bars, whichever the
        header has most of. With semicolons a decimal comma is understood.
    columns : sequence of str, optional
        The columns to read; only these must hold numbers. All that do if not given.
    time : str or sequence of str, optional
        The column of times, or several to be joined. If not given: the first one named like a time
        ("date", "time", "month", "year", ...), else the first one whose entries are dates; without
        any, rows count as steps 0, 1, 2, ...
    gaps : {"auto", "insert", "rows"}
        As for `Series`.
    missing : sequence, optional
        What stands for a missing value beside the usual ("", "NA", "NaN", "null", "-", "?", ...):
        -200, say.

    Returns
    -------
    Series

    Raises
    ------
    ValueError
        One sentence that names the file and, where there is one, the line.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from gru_np import series
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "a.csv")
    ...     _ = path.write_text("day,level,note\n2024-05-01,3.5,cold\n2024-05-02,NA,\n")
    ...     series.read_csv(path)["level"]
    array([3.5, nan])
    """
    name = os.fspath(path)
    try:
        return _read(path, columns, time, gaps, missing)
    except ValueError as error:
        message = str(error).removeprefix("Series: ")
        raise ValueError(message if message.startswith(name) else f"{name}: {message}") from None


def _read(
    path: Any, columns: Sequence[str] | None, time: Any, gaps: str, missing: Sequence[Any]
) -> Series:
    header, lines, numbers, comma = _split(_text(path))
    header = [cell.strip() for cell in header]
    wanted = {str(name) for name in columns or ()}
    data = [cell for cell in header if _is_number(cell, comma) or _is_date(cell)]
    if not wanted & set(header) and len(data) >= len(header) / 2:
        shown = ", ".join(header[:4]) + (", ..." if len(header) > 4 else "")
        raise ValueError(
            f"the first line must be a header with the names of the columns, got values ({shown}); "
            "add one"
        )
    for column in columns or ():
        require_column(column, header, "this file")
    if not lines:
        raise ValueError("there is a header and nothing below it")
    if len(lines) == 1:
        raise ValueError("there is a single row of data; a series needs many")
    for cells, number in zip(lines, numbers, strict=True):
        if len(cells) != len(header):
            raise ValueError(f"line {number} has {len(cells)} cells, the header has {len(header)}")
    table = {key: [cells[i] for cells in lines] for i, key in enumerate(header)}
    if len(table) < len(header):
        twice = next(key for key in header if header.count(key) > 1)
        if twice in wanted:
            raise ValueError(f"the header has two columns {twice!r}")
    parts = [time] if isinstance(time, str) else list(time or ())
    for part in parts:
        require_column(part, header, "this file")
    if not parts:
        parts = _find_times(table)
    try:
        times = column_times(parts, [_integers(table[part]) for part in parts]) if parts else None
    except ValueError as error:
        raise ValueError(f"column {' + '.join(parts)!r}: {error}") from None

    is_missing = MISSING | {str(value).lower() for value in missing}
    chosen = list(columns or ())
    if columns is None:
        chosen = [
            key for key in header
            if key not in parts and _holds_numbers(table[key], is_missing, comma)
        ]  # fmt: skip
        if not chosen:
            raise ValueError(f"no column holds numbers; there are {', '.join(header)}")
    values = [_parse(key, table[key], numbers, is_missing, comma) for key in chosen]
    return Series(np.stack(values, axis=1), chosen, times, gaps)


def _text(path: Any) -> str:
    """Give the text of a file, gzipped or not."""
    name = os.fspath(path)
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{name}: there is no such file") from None
    except IsADirectoryError:
        raise IsADirectoryError(f"{name}: this is a directory; name a CSV file") from None
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError):
            raise ValueError("the file is gzipped and damaged") from None
    if b"\x00" in data[:4096]:
        raise ValueError("this is no text; a CSV file is expected")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")  # numbers are the same in both


def _split(text: str) -> tuple[list[str], list[list[str]], list[int], bool]:
    """Give header, rows, their line numbers, and whether a comma is the decimal point."""
    lines = text.splitlines()
    first = next((line for line in lines if line.strip()), None)
    if first is None:
        raise ValueError("the file is empty")
    delimiter = max(",;\t|", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    rows, numbers = [], []
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append(cells)
                numbers.append(reader.line_num)
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from None
    return rows[0], rows[1:], numbers[1:], delimiter == ";"


def _find_times(table: dict[str, list[str]]) -> list[str]:
    """Find the column of times by name, else by its first entries; several if they are split."""
    named = [key for key in table if is_time_name(key)]
    lower = {key.strip().lower(): key for key in table}
    if {"year", "month"} <= lower.keys():
        return [lower[part] for part in ("year", "month", "day", "hour") if part in lower]
    if [key.lower() for key in named[:2]] == ["date", "time"]:
        return named[:2]
    if named:
        return named[:1]
    for key, cells in table.items():
        if _is_number(cells[0], True):
            continue
        try:
            parse_times(cells[:20])
        except ValueError:
            continue
        return [key]
    return []


def _integers(cells: list[str]) -> Any:
    """Give a column of whole numbers as such: years, counters, seconds since 1970."""
    return np.array([int(c) for c in cells]) if all(c.strip().isdigit() for c in cells) else cells


def _number(cell: str, comma: bool) -> float:
    text = cell.strip()
    if comma and "," in text:
        text = text.replace(".", "").replace(",", ".")
    if "_" in text:  # Python would take 1_000
        raise ValueError
    return float(text)


def _is_number(cell: str, comma: bool) -> bool:
    try:
        _number(cell, comma)
    except ValueError:
        return False
    return True


def _is_date(cell: str) -> bool:
    try:
        return bool(cell.strip()) and parse_times([cell]).dtype.kind == "M"
    except ValueError:
        return False


def _holds_numbers(cells: list[str], missing: frozenset[str], comma: bool) -> bool:
    present = [cell for cell in cells if cell.strip().lower() not in missing]
    return bool(present) and all(_is_number(cell, comma) for cell in present)


def _parse(
    key: str, cells: list[str], numbers: list[int], missing: frozenset[str], comma: bool
) -> Array:
    """Give a column as float64, NaN where it is missing."""
    values = np.full(len(cells), np.nan)
    absent = 0
    for row, cell in enumerate(cells):
        if cell.strip().lower() in missing:
            absent += 1
            continue
        try:
            values[row] = _number(cell, comma)
        except ValueError:
            raise ValueError(
                f"line {numbers[row]}, column {key!r}: expected a number, got {cell.strip()!r}"
            ) from None
    if absent == len(cells):
        raise ValueError(f"column {key!r} holds no number at all: every value is missing")
    return values
