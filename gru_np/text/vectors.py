"""Word vectors that others trained: the text files of word2vec, GloVe and FastText.

One line a word: the word, a space, E numbers. word2vec and FastText begin with a line that promises
how many words and numbers there are; GloVe does not. A promise is compared with what is there and
never believed: memory is taken for lines that were read.

Notation: V vocabulary, E size of a vector, n words of the file that were kept.
"""

import codecs
import gzip
import os
import zlib
from collections.abc import Iterable, Iterator
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gru_np._checks import require_count
from gru_np._files import open_input

LONGEST_LINE = 2**20  # bytes: a word and 60,000 numbers; a file without line ends stops here


class WordVectors(NamedTuple):
    """What `load_vectors` found.

    Attributes
    ----------
    weights : (V, E) or (n, E) float32
        Row i is the vector of token i of the tokenizer; without a tokenizer, of word i.
    words : tuple of str
        The n words that were kept, in the order of the file.
    found : (V,) or (n,) bool
        Which tokens have a vector in the file. The other rows are drawn, those of id 0 and of ids
        without a word zero.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.text import WordVectors
    >>> WordVectors(np.zeros((2, 3), np.float32), ("a",), np.array([False, True]))
    WordVectors: 2 tokens of size 3, 1 of them from the file
    """

    weights: NDArray[np.float32]
    words: tuple[str, ...]
    found: NDArray[np.bool_]

    def __repr__(self) -> str:
        V, E = self.weights.shape
        found = int(self.found.sum())
        return f"WordVectors: {V:,} tokens of size {E}, {found:,} of them from the file"


def load_vectors(
    path: str | os.PathLike[str], tokenizer: Any = None, limit: int | None = None, seed: int = 0
) -> WordVectors:
    r"""Read pre-trained word vectors, as the first weights of an `Embedding`.

    Parameters
    ----------
    path : str or path
        A text file of word2vec, GloVe or FastText (".vec"); packed with gzip if it ends in ".gz".
    tokenizer : Tokenizer, WordTokenizer or CharTokenizer, optional
        Keep the vectors of its tokens, in the order of its ids; a token that is not in the file
        takes the vector of its lower-case form. None keeps every word.
    limit : int, optional
        Read at most so many words: files are sorted by frequency.
    seed : int
        Decides the rows of tokens that the file does not have: normal, with the mean and standard
        deviation of each column of those it has.

    Returns
    -------
    WordVectors
        For `Embedding(*vectors.weights.shape, weights=vectors.weights)`.

    Raises
    ------
    FileNotFoundError, OSError
        If the file cannot be read.
    ValueError
        If a line is not a word and E numbers, the first line promises other numbers of words or
        of numbers than there are, or no token of the tokenizer has a vector. The message names the
        line.

    Notes
    -----
    A word may hold spaces, as in GloVe's 840B file; of a word that comes twice the first counts.
    Spaces around the tokens of a `WordTokenizer` do not matter.

    Examples
    --------
    >>> import os, tempfile
    >>> from gru_np import Embedding, Tokenizer, text
    >>> path = os.path.join(tempfile.mkdtemp(), "glove.txt")
    >>> with open(path, "w") as file:
    ...     _ = file.write("the 0.5 -1.0\ncat 0.25 2.0\n")
    >>> tokenizer = Tokenizer()
    >>> tokenizer.fit_on_texts(["the cat sat"])
    >>> vectors = text.load_vectors(path, tokenizer)
    >>> vectors
    WordVectors: 4 tokens of size 2, 2 of them from the file
    >>> vectors.weights[tokenizer.word_index["cat"]].tolist()
    [0.25, 2.0]
    >>> table = Embedding(*vectors.weights.shape, weights=vectors.weights, mask_zero=True)
    """
    name = os.fspath(path)
    if limit is not None:
        limit = require_count("load_vectors", "limit", limit)
    tokens = None if tokenizer is None else _tokens(tokenizer)
    wanted = None if tokens is None else {form for token in tokens for form in _forms(token)}
    rows: dict[str, NDArray[np.float32]] = {}
    try:
        with open_input(name) as raw, _unpacked(name, raw) as file:
            for number, word, numbers in _lines(name, file, limit):
                if (wanted is None or word in wanted) and word not in rows:
                    rows[word] = _vector(name, number, numbers)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{name}: damaged gzip file: {error}") from None
    if tokens is None:
        found = np.ones(len(rows), bool)
        return WordVectors(np.stack([*rows.values()]), tuple(rows), found)
    if not rows:
        raise ValueError(f"{name}: has a vector for none of the {len(tokens)} tokens")
    return WordVectors(*_arranged(tokens, rows, seed))


def _arranged(
    tokens: list[str], rows: dict[str, NDArray[np.float32]], seed: int
) -> tuple[NDArray[np.float32], tuple[str, ...], NDArray[np.bool_]]:
    """Give weights (V, E), words and found (V,) in the order of the tokens."""
    there = np.stack([*rows.values()])
    rng = np.random.default_rng(seed)
    shape = (len(tokens), there.shape[1])
    weights = rng.normal(there.mean(axis=0), there.std(axis=0), shape).astype(np.float32)
    found = np.zeros(len(tokens), bool)
    for i, token in enumerate(tokens):
        form = next((form for form in _forms(token) if form in rows), None)
        if form is not None:
            weights[i], found[i] = rows[form], True
        elif not token:  # an id without a word, such as padding
            weights[i] = 0
    return weights, tuple(rows), found


def _tokens(tokenizer: Any) -> list[str]:
    tokens = getattr(tokenizer, "tokens", None)
    if tokens is None:
        raise TypeError(
            "load_vectors: tokenizer must be a Tokenizer, WordTokenizer or CharTokenizer, got "
            f"{type(tokenizer).__name__}"
        )
    return list(tokens)


def _forms(token: str) -> tuple[str, ...]:
    """What a token may be called in the file, best first."""
    plain = token.strip(" ") or token
    return (plain, plain.lower()) if plain else ()


# ------------------------------------------------------------------------------ the file


def _unpacked(name: str, raw: IO[bytes]) -> IO[bytes]:
    return gzip.open(raw) if name.endswith(".gz") else raw  # type: ignore[return-value]


def _lines(name: str, file: IO[bytes], limit: int | None) -> Iterator[tuple[int, str, list[bytes]]]:
    """Yield line number, word and E numbers, yet to be read; check what the first line promises."""
    promised, E, count = None, 0, 0
    for number, line in enumerate(_short_lines(name, file), start=1):
        fields = line.removeprefix(codecs.BOM_UTF8 if number == 1 else b"").split(b" ")
        if number == 1 and len(fields) == 2 and all(field.isdigit() for field in fields):
            # Counts of that many digits are no counts, and int() would take its time.
            promised = tuple(int(field[:18]) for field in fields)
            continue
        if number == 1 and len(fields) == 2 and all(map(_is_number, fields)):
            raise ValueError(
                f"{name}, line 1: expected the counts of words and numbers, or a word and its "
                f"vector, got {b' '.join(fields).decode()!r}"
            )
        if not E:
            E = len(fields) - 1 if promised is None else promised[1]
        if len(fields) <= max(E, 1) or not E:
            raise ValueError(
                f"{name}, line {number}: expected a word and {E or 'some'} numbers, got "
                f"{len(fields) - 1} numbers"
            )
        if promised is not None and len(fields) > E + 1 and all(map(_is_number, fields[1:])):
            raise ValueError(
                f"{name}, line {number}: the first line promises vectors of {E} numbers, got "
                f"{len(fields) - 1} numbers"
            )
        # From the right: a word may hold spaces.
        yield number, b" ".join(fields[:-E]).decode("utf-8", "replace"), fields[-E:]
        count += 1
        if count == limit:
            return
    if not count:
        raise ValueError(f"{name}: holds no word vectors")
    if promised is not None and promised[0] != count:
        raise ValueError(
            f"{name}: its first line promises {promised[0]} words, found {count}; it is cut short "
            "or damaged, read what is there with limit="
        )


def _short_lines(name: str, file: IO[bytes]) -> Iterator[bytes]:
    number = 0
    while line := file.readline(LONGEST_LINE):
        number += 1
        if len(line) == LONGEST_LINE:
            raise ValueError(f"{name}, line {number}: too long for a word and its vector")
        if b"\0" in line:
            raise ValueError(
                f"{name}, line {number}: holds a NUL byte; the binary format of word2vec cannot be "
                "read, save it as text"
            )
        if line := line.rstrip(b" \t\r\n").replace(b"\t", b" "):
            yield line


def _vector(name: str, number: int, numbers: Iterable[bytes]) -> NDArray[np.float32]:
    try:
        with np.errstate(over="ignore"):
            vector = np.array([_number(one) for one in numbers]).astype(np.float32)
    except ValueError as error:
        raise ValueError(f"{name}, line {number}: {error}") from None
    if not np.isfinite(vector).all():
        raise ValueError(f"{name}, line {number}: holds NaN or a number beyond float32")
    return vector


def _number(field: bytes) -> float:
    if b"_" in field:  # Python would take 1_000
        raise ValueError(f"could not convert string to float: {field!r}")
    return float(field)


def _is_number(field: bytes) -> bool:
    try:
        _number(field)
    except ValueError:
        return False
    return True
