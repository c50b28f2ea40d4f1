"""A folder of sound files with a table of what is said in them."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gru_np._files import read_input

TABLE = "transcripts.tsv"
HEADERS = {("path", "text"), ("file", "text"), ("path", "sentence"), ("file", "transcript")}


class Utterance(NamedTuple):
    """A sound file and what is said in it."""

    path: Path
    text: str


def read_corpus(folder: Any, table: str = TABLE) -> list[Utterance]:
    r"""Read the table of a folder: a line for each file, its name, a tab, what is said.

    Parameters
    ----------
    folder : str or path
        Where the table is, and what the names in it are relative to.
    table : str
        Name of the table, UTF-8. Blank lines are skipped, and a first line such as
        "path", tab, "text".

    Raises
    ------
    ValueError
        If there is no such table, or a line is not like that, or a file is missing; the message
        names the line.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from gru_np.speech.corpus import read_corpus
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = pathlib.Path(folder, "a.wav").write_bytes(b"")
    ...     _ = pathlib.Path(folder, "transcripts.tsv").write_text("a.wav\tgood day\n")
    ...     [(one.path.name, one.text) for one in read_corpus(folder)]
    [('a.wav', 'good day')]
    """
    folder = Path(folder)
    path = folder / table
    try:
        lines = read_input(path).decode("utf-8-sig").splitlines()
    except FileNotFoundError:
        raise ValueError(
            f"{path}: there is no such file; it should hold a line for each sound file: "
            "name, tab, transcript"
        ) from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: is not UTF-8 text") from None
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        cells = line.split("\t")
        if number == 1 and tuple(cell.strip().lower() for cell in cells[:2]) in HEADERS:
            continue
        if len(cells) < 2 or not cells[1].strip():
            raise ValueError(f"{path}, line {number}: expected name, tab, transcript; got {line!r}")
        sound = folder / cells[0].strip()
        if not sound.is_file():
            raise ValueError(f"{path}, line {number}: there is no file {sound}")
        found.append(Utterance(sound, " ".join(cells[1].split())))
    if not found:
        raise ValueError(f"{path}: holds no transcripts")
    return found


def split_corpus(
    utterances: list[Utterance], share: float, seed: int = 0
) -> tuple[list[Utterance], list[Utterance]]:
    """Hold a random share of the utterances out, at least one if the share is not 0.

    Examples
    --------
    >>> from pathlib import Path
    >>> from gru_np.speech.corpus import Utterance, split_corpus
    >>> all_of_them = [Utterance(Path(f"{i}.wav"), "x") for i in range(10)]
    >>> train, held_out = split_corpus(all_of_them, 0.2)
    >>> len(train), len(held_out)
    (8, 2)
    """
    if not 0 <= share < 1:
        raise ValueError(f"split_corpus: share must be in [0, 1), got {share}")
    count = max(round(share * len(utterances)), 1) if share else 0
    if count >= len(utterances):
        raise ValueError(
            f"split_corpus: holding {count} of {len(utterances)} utterances out leaves none"
        )
    order = np.random.default_rng(seed).permutation(len(utterances))
    held_out = set(order[:count].tolist())
    parts = ([], [])  # type: tuple[list[Utterance], list[Utterance]]
    for i, utterance in enumerate(utterances):
        parts[i in held_out].append(utterance)
    return parts
