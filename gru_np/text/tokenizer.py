"""Keras' text preprocessing: words to integers, exactly as users of Keras know it.

Index 0 is never a word: it is the padding that `pad_sequences` writes and `mask_zero` skips. The
most frequent word has index 1 (2 when there is an out-of-vocabulary token, which then has 1).

`Tokenizer(strict=True)` keeps every result the same and turns the well-known traps into errors.
Beyond Keras: `vocab_size`, and what `gru_np.text.generate` needs (`encode`, `decode`, `decoder`,
`tokens`, `special_ids`).

Source: keras/src/legacy/preprocessing/text.py, Keras 3.15 (keras-preprocessing 1.1.2 has the same
rules). Differs in that the order of `word_docs` and `index_docs` is that of first appearance, where
Keras' follows the hash seed of the process.
"""

import hashlib
import json
import operator
import warnings
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gru_np._intake import require_text, spell_value
from gru_np._schema import Count, require_fields

FILTERS = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'
MODES = ("binary", "count", "freq", "tfidf")

# What a config says, of which kind; Keras writes what its constructor was given.
SETTINGS: dict[str, Any] = {
    "num_words": int | None, "filters": str | list[str] | None, "lower": bool,
    "split": str | None, "char_level": bool, "oov_token": str | None, "document_count": Count,
}  # fmt: skip
TABLES: dict[str, Any] = dict.fromkeys(
    ("word_counts", "word_docs", "word_index", "index_docs", "index_word"), str
)
SPARSEST = 10  # indices for each word of a config, at most

Analyzer = Callable[[Any], Iterable[str]]


def text_to_word_sequence(
    input_text: str, filters: str = FILTERS, lower: bool = True, split: str = " "
) -> list[str]:
    r"""Split a text into words.

    Parameters
    ----------
    input_text : str
    filters : str
        Characters that separate words: each is replaced by `split`. The default is the ASCII
        punctuation without the apostrophe, tab and newline; not \r, curly quotes or no-break space.
    lower : bool
        Lowercase first, as `str.lower` does.
    split : str
        Where to split; not empty.

    Returns
    -------
    list of str
        The words; empty ones are dropped.

    Raises
    ------
    ValueError
        If `split` is empty.

    Examples
    --------
    >>> from gru_np.text import text_to_word_sequence
    >>> text_to_word_sequence("Don't panic: 3.14 is a_b!")
    ["don't", 'panic', '3', '14', 'is', 'a', 'b']
    """
    require_text("text_to_word_sequence", input_text, "input_text")
    if lower:
        input_text = input_text.lower()
    separated = input_text.translate({ord(character): split for character in filters})
    return [word for word in separated.split(split) if word]


def hashing_trick(
    text: Any,
    n: int,
    hash_function: Callable[[str], int] | str | None = None,
    filters: str = FILTERS,
    lower: bool = True,
    split: str = " ",
    analyzer: Analyzer | None = None,
) -> list[int]:
    """Turn words into numbers by hashing, without a vocabulary.

    index = hash(word) mod (n - 1) + 1, so 1..n-1; different words may share one

    Parameters
    ----------
    text : str
    n : int
        Size of the space, index 0 included; at least 2.
    hash_function : callable, "md5" or None
        None is Python's `hash`, which is different in every process; "md5" is stable.
    filters, lower, split
        As `text_to_word_sequence`.
    analyzer : callable, optional
        From text to words, in place of `text_to_word_sequence`.

    Returns
    -------
    list of int

    Raises
    ------
    ZeroDivisionError
        If n is 1.

    Examples
    --------
    >>> from gru_np.text import hashing_trick
    >>> hashing_trick("The cat saw the dog", 100, "md5")
    [51, 3, 21, 51, 33]
    """
    hash_of: Callable[[str], int]
    if hash_function is None:
        hash_of = hash
    elif hash_function == "md5":
        hash_of = _md5
    elif callable(hash_function):
        hash_of = hash_function
    else:
        raise ValueError(
            f'hashing_trick: hash_function must be callable, "md5" or None, got {hash_function!r}'
        )
    if analyzer is None:
        words: Iterable[str] = text_to_word_sequence(text, filters, lower, split)
    else:
        words = analyzer(text)
    return [hash_of(word) % (n - 1) + 1 for word in words]


def _md5(word: str) -> int:
    return int(hashlib.md5(word.encode(), usedforsecurity=False).hexdigest(), 16)


def one_hot(
    input_text: Any,
    n: int,
    filters: str = FILTERS,
    lower: bool = True,
    split: str = " ",
    analyzer: Analyzer | None = None,
) -> list[int]:
    """`hashing_trick` with Python's own hash (the name is Keras'; nothing here is one-hot).

    Parameters
    ----------
    input_text, n, filters, lower, split, analyzer
        As `hashing_trick`.

    Returns
    -------
    list of int
        Different in every process unless PYTHONHASHSEED is set.

    Examples
    --------
    >>> from gru_np.text import one_hot
    >>> len(one_hot("The cat saw the dog", 100))
    5
    """
    return hashing_trick(input_text, n, None, filters, lower, split, analyzer)


class Tokenizer:
    """Turn texts into sequences of word indices, with Keras' semantics to the letter.

    Parameters
    ----------
    num_words : int, optional
        Only indices below this are written: the num_words - 1 most frequent words, of which the
        out-of-vocabulary token is one. None and 0 are no limit. `word_index` holds all words
        whatever this says; `vocab_size` is the right size of an Embedding.
    filters : str
        Characters that separate words; see `text_to_word_sequence`.
    lower : bool
        Lowercase the texts (not `oov_token`).
    split : str
        Where to split.
    char_level : bool
        Every character is a token, spaces included; filters and split are unused.
    oov_token : str, optional
        Stands for words that are unknown or cut off, with index 1. Without it they are dropped, so
        that sequences get shorter.
    analyzer : callable, optional
        From a raw text to its tokens; nothing is lowercased or filtered. Not saved.
    strict : bool
        Raise a clear error for: one string where a list of texts belongs, a text that is neither a
        string nor a list of strings, encoding before fitting, an `oov_token` that is also a word of
        the texts, num_words that let nothing through, an empty `split`, an unknown matrix mode.
    **kwargs
        Keras' `nb_words` (old name of num_words, warns) and `document_count`.

    Attributes
    ----------
    word_index : dict
        Index of every word, most frequent first; ties in the order of first appearance.
    index_word : dict
        The inverse.
    word_counts : OrderedDict
        Occurrences of each word, in the order of first appearance.
    word_docs, index_docs : dict
        In how many texts each word, or index, occurs.
    document_count : int
        Texts seen.

    Raises
    ------
    TypeError
        For an unknown keyword.

    Notes
    -----
    A text may be a list of tokens, which are lowercased only. Fitting again adds to the counts and
    may renumber all words.

    Examples
    --------
    >>> from gru_np import text
    >>> tokenizer = text.Tokenizer(num_words=4, oov_token="<oov>")
    >>> tokenizer.fit_on_texts(["I like apples.", "I like oranges."])
    >>> tokenizer.word_index
    {'<oov>': 1, 'i': 2, 'like': 3, 'apples': 4, 'oranges': 5}
    >>> tokenizer.texts_to_sequences(["I like pears", "apples like me"])
    [[2, 3, 1], [1, 3, 1]]
    >>> tokenizer.vocab_size
    4
    """

    def __init__(
        self,
        num_words: int | None = None,
        filters: str = FILTERS,
        lower: bool = True,
        split: str = " ",
        char_level: bool = False,
        oov_token: str | None = None,
        analyzer: Analyzer | None = None,
        strict: bool = False,
        **kwargs: Any,
    ) -> None:
        if "nb_words" in kwargs:
            warnings.warn(
                "Tokenizer: nb_words is the old name of num_words; use num_words", stacklevel=2
            )
            num_words = kwargs.pop("nb_words")
        document_count = kwargs.pop("document_count", 0)
        if kwargs:
            raise TypeError(f"Tokenizer: unknown keyword arguments {sorted(kwargs)}")
        if strict and num_words and num_words < 2:
            raise ValueError(
                f"Tokenizer: num_words must be at least 2, got {num_words}; "
                "index 0 is never a word, so num_words - 1 words survive"
            )
        if strict and not split:
            raise ValueError("Tokenizer: split must not be empty")

        self.num_words = num_words
        self.filters = filters
        self.lower = lower
        self.split = split
        self.char_level = char_level
        self.oov_token = oov_token
        self.analyzer = analyzer
        self.strict = strict
        self.document_count: int = document_count
        self.word_counts: OrderedDict[str, int] = OrderedDict()
        self.word_docs: dict[str, int] = defaultdict(int)
        self.index_docs: dict[int, int] = defaultdict(int)
        self.word_index: dict[str, int] = {}
        self.index_word: dict[int, str] = {}

    def __repr__(self) -> str:
        return (
            f"Tokenizer(num_words={self.num_words}, oov_token={self.oov_token!r}, "
            f"char_level={self.char_level}): {len(self.word_index)} words"
        )

    # -------------------------------------------------------------------------- learning

    def fit_on_texts(self, texts: Iterable[Any]) -> None:
        """Count the words of texts and number them by frequency.

        Parameters
        ----------
        texts : iterable of str or of list of str
            A plain string would be taken for an iterable of one-character texts.

        Raises
        ------
        TypeError
            If a text is none, as a missing one is; then nothing is counted. Keras 2 raises an
            AttributeError with the texts before it counted.
        ValueError
            In strict mode, if the texts hold the `oov_token`.

        Examples
        --------
        >>> from gru_np.text import Tokenizer
        >>> tokenizer = Tokenizer()
        >>> tokenizer.fit_on_texts(["b a", "a c"])
        >>> tokenizer.word_index
        {'a': 1, 'b': 2, 'c': 3}
        """
        count, word_counts = self.document_count, self.word_counts.copy()
        word_docs = Counter[str]()
        for words in self._documents(texts, "fit_on_texts"):
            if self.strict and self.oov_token in words:
                raise ValueError(
                    f"Tokenizer.fit_on_texts: the texts hold {self.oov_token!r} as a word, which "
                    "is the oov_token; choose a token that cannot occur"
                )
            count += 1
            for word in words:
                word_counts[word] = word_counts.get(word, 0) + 1
            word_docs.update(dict.fromkeys(words, 1))
        # Nothing is taken over before the last text was counted.
        self.document_count, self.word_counts = count, word_counts
        for word, n in word_docs.items():
            self.word_docs[word] += n

        # sorted() is stable: equal counts keep the order of first appearance.
        vocabulary = [] if self.oov_token is None else [self.oov_token]
        vocabulary += sorted(self.word_counts, key=lambda word: -self.word_counts[word])
        # An oov_token that is also a word takes the later index; index 1 then means nothing.
        self.word_index = {word: index for index, word in enumerate(vocabulary, start=1)}
        self.index_word = {index: word for word, index in self.word_index.items()}
        for word, count in self.word_docs.items():
            self.index_docs[self.word_index[word]] = count

    def fit_on_sequences(self, sequences: list[Any]) -> None:
        """Count in how many sequences each index occurs, for tf-idf; builds no vocabulary.

        Parameters
        ----------
        sequences : list of sequences of int

        Examples
        --------
        >>> from gru_np.text import Tokenizer
        >>> tokenizer = Tokenizer(num_words=4)
        >>> tokenizer.fit_on_sequences([[1, 2], [2, 2]])
        >>> tokenizer.document_count, dict(tokenizer.index_docs)
        (2, {1: 1, 2: 2})
        """
        index_docs = Counter[int]()
        for position, sequence in enumerate(sequences):
            try:
                index_docs.update(dict.fromkeys(sequence, 1))
            except TypeError as error:
                raise TypeError(
                    f"Tokenizer.fit_on_sequences: sequence {position} must be a list of integers, "
                    f"got {spell_value(sequence)}"
                ) from error
        self.document_count += len(sequences)
        for index, n in index_docs.items():
            self.index_docs[index] += n

    # -------------------------------------------------------------------------- applying

    def texts_to_sequences(self, texts: Iterable[Any]) -> list[list[int]]:
        """Replace words by their indices.

        Parameters
        ----------
        texts : iterable of str or of list of str

        Returns
        -------
        list of list of int
            Words that are unknown, or cut by num_words, become the index of `oov_token` if there
            is one and are dropped if not.

        Raises
        ------
        TypeError, ValueError
            In strict mode.

        Examples
        --------
        >>> from gru_np.text import Tokenizer
        >>> tokenizer = Tokenizer()
        >>> tokenizer.fit_on_texts(["the cat", "the dog"])
        >>> tokenizer.texts_to_sequences(["the cow", "the dog"])
        [[1], [1, 3]]
        """
        return list(self.texts_to_sequences_generator(texts))

    def texts_to_sequences_generator(self, texts: Iterable[Any]) -> Iterator[list[int]]:
        """`texts_to_sequences`, one at a time.

        Parameters
        ----------
        texts : iterable of str or of list of str

        Yields
        ------
        list of int

        Raises
        ------
        TypeError, ValueError
            In strict mode.

        Examples
        --------
        >>> from gru_np.text import Tokenizer
        >>> tokenizer = Tokenizer()
        >>> tokenizer.fit_on_texts(["the cat"])
        >>> next(tokenizer.texts_to_sequences_generator(["cat"]))
        [2]
        """
        if self.strict:
            self._require_fitted("texts_to_sequences")
        oov: Any = self.word_index.get(self.oov_token)  # type: ignore[arg-type]
        for words in self._documents(texts, "texts_to_sequences"):
            sequence = []
            for word in words:
                index = self.word_index.get(word)
                if index is not None and not self._is_cut(index):
                    sequence.append(index)
                # Not fitted, an unknown word with an oov_token becomes None: so does Keras.
                elif oov is not None or (index is None and self.oov_token is not None):
                    sequence.append(oov)
            yield sequence

    def sequences_to_texts(self, sequences: Iterable[Iterable[int]]) -> list[str]:
        """Replace indices by their words, joined by single spaces whatever `split` is.

        Parameters
        ----------
        sequences : iterable of sequences of int

        Returns
        -------
        list of str
            Index 0 and unknown or cut indices become `oov_token` if there is one and are dropped
            if not. (`decode` drops the padding and joins characters without spaces.)

        Raises
        ------
        ValueError
            In strict mode, before fitting.

        Examples
        --------
        >>> from gru_np.text import Tokenizer
        >>> tokenizer = Tokenizer()
        >>> tokenizer.fit_on_texts(["the cat"])
        >>> tokenizer.sequences_to_texts([[0, 2, 1]])
        ['cat the']
        """
        return list(self.sequences_to_texts_generator(sequences))

    def sequences_to_texts_generator(self, sequences: Iterable[Iterable[int]]) -> Iterator[str]:
        """`sequences_to_texts`, one at a time.

        Parameters
        ----------
        sequences : iterable of sequences of int

        Yields
        ------
        str

        Raises
        ------
        ValueError
            In strict mode, before fitting.

        Examples
        --------
        >>> from gru_np.text import Tokenizer
        >>> tokenizer = Tokenizer()
        >>> tokenizer.fit_on_texts(["the cat"])
        >>> next(tokenizer.sequences_to_texts_generator([[2, 1]]))
        'cat the'
        """
        if self.strict:
            self._require_fitted("sequences_to_texts")
        oov: Any = self.word_index.get(self.oov_token)  # type: ignore[arg-type]
        for sequence in sequences:
            words = []
            for index in sequence:
                word = self.index_word.get(index)
                if word is not None and not self._is_cut(index):
                    words.append(word)
                elif oov is not None or (word is None and self.oov_token is not None):
                    words.append(self.index_word[oov])
            yield " ".join(words)

    def texts_to_matrix(self, texts: Iterable[Any], mode: str = "binary") -> NDArray[np.float64]:
        """One row of word statistics for each text: `sequences_to_matrix` of the sequences.

        Parameters
        ----------
        texts : iterable of str or of list of str
        mode : str
            As `sequences_to_matrix`.

        Returns
        -------
        (n, num_words) float64
            Or (n, len(word_index) + 1) without num_words.

        Raises
        ------
        ValueError
            As `sequences_to_matrix`.

        Examples
        --------
        >>> from gru_np.text import Tokenizer
        >>> tokenizer = Tokenizer()
        >>> tokenizer.fit_on_texts(["the cat", "the dog"])
        >>> tokenizer.texts_to_matrix(["dog eat dog"], mode="count")
        array([[0., 0., 0., 2.]])
        """
        return self.sequences_to_matrix(self.texts_to_sequences(texts), mode=mode)

    def sequences_to_matrix(
        self, sequences: list[Any], mode: str = "binary"
    ) -> NDArray[np.float64]:
        """One row of word statistics for each sequence.

        With c the occurrences of index j in a sequence of length n, and N texts seen:

            binary  1          count  c          freq  c / n
            tfidf   (1 + ln c) · ln(1 + N / (1 + index_docs[j]))

        Parameters
        ----------
        sequences : list of sequences of int
            Indices beyond the matrix are skipped.
        mode : str
            "binary", "count", "freq" or "tfidf".

        Returns
        -------
        (n, num_words) float64
            Or (n, len(word_index) + 1) without num_words.

        Raises
        ------
        ValueError
            If the width is unknown, no text was seen (tfidf), or the mode is unknown; like Keras,
            the last is noticed only in a sequence that has something in it, unless strict.

        Examples
        --------
        >>> from gru_np.text import Tokenizer
        >>> Tokenizer(num_words=4).sequences_to_matrix([[1, 3, 3]], mode="count")
        array([[0., 1., 0., 2.]])
        """
        if not self.num_words and not self.word_index:
            raise ValueError(
                "Tokenizer.sequences_to_matrix: the width is unknown; "
                "give num_words or fit on texts first"
            )
        if mode == "tfidf" and not self.document_count:
            raise ValueError(
                "Tokenizer.sequences_to_matrix: tfidf needs counts of texts; fit on texts first"
            )
        wrong_mode = f"Tokenizer.sequences_to_matrix: mode must be one of {MODES}, got {mode!r}"
        if self.strict and mode not in MODES:
            raise ValueError(wrong_mode)
        width = self.num_words or len(self.word_index) + 1
        matrix = np.zeros((len(sequences), width))
        for row, sequence in zip(matrix, sequences, strict=True):
            for j, c in Counter(j for j in sequence if j < width).items():
                if mode == "binary":
                    row[j] = 1
                elif mode == "count":
                    row[j] = c
                elif mode == "freq":
                    row[j] = c / len(sequence)
                elif mode == "tfidf":
                    idf = np.log(1 + self.document_count / (1 + self.index_docs.get(j, 0)))
                    row[j] = (1 + np.log(c)) * idf
                else:
                    raise ValueError(wrong_mode)
        return matrix

    # ------------------------------------------------------------------------- saving

    def get_config(self) -> dict[str, Any]:
        """Describe settings and vocabulary; the five tables are JSON strings, as in Keras.

        Returns
        -------
        dict
            Without `analyzer` and `strict`.

        Examples
        --------
        >>> from gru_np.text import Tokenizer
        >>> Tokenizer(num_words=9).get_config()["num_words"]
        9
        """
        return {
            "num_words": self.num_words,
            "filters": self.filters,
            "lower": self.lower,
            "split": self.split,
            "char_level": self.char_level,
            "oov_token": self.oov_token,
            "document_count": self.document_count,
            "word_counts": json.dumps(self.word_counts),
            "word_docs": json.dumps(self.word_docs),
            "index_docs": json.dumps(self.index_docs),
            "index_word": json.dumps(self.index_word),
            "word_index": json.dumps(self.word_index),
        }

    def to_json(self, **kwargs: Any) -> str:
        """Write the JSON that Keras writes, which each of the two reads.

        Parameters
        ----------
        **kwargs
            For `json.dumps`.

        Returns
        -------
        str

        Examples
        --------
        >>> from gru_np.text import Tokenizer, tokenizer_from_json
        >>> tokenizer = Tokenizer()
        >>> tokenizer.fit_on_texts(["the cat"])
        >>> tokenizer_from_json(tokenizer.to_json()).word_index
        {'the': 1, 'cat': 2}
        """
        config = {"class_name": type(self).__name__, "config": self.get_config()}
        return json.dumps(config, **kwargs)

    @classmethod
    def from_config(
        cls, config: dict[str, Any], analyzer: Analyzer | None = None, strict: bool = False
    ) -> "Tokenizer":
        """Rebuild a tokenizer from `get_config`.

        It can be fitted further; Keras' raises KeyError then, as its tables come back as plain
        dicts without a default.

        Parameters
        ----------
        config : dict
        analyzer, strict
            What a config does not hold.

        Returns
        -------
        Tokenizer

        Raises
        ------
        ValueError
            If the config is not one of a Tokenizer: a setting is of another kind, or an index is
            far beyond the number of words. Keras reads it, and fails in the first text.

        Examples
        --------
        >>> from gru_np.text import Tokenizer
        >>> Tokenizer.from_config(Tokenizer(num_words=9).get_config()).num_words
        9
        """
        try:
            settings = dict(config)
            require_fields("settings", settings, SETTINGS | TABLES, optional=SETTINGS)
            if (settings.get("num_words") or 0) < 0:
                raise ValueError(f"num_words must not be negative, got {settings['num_words']}")
            word_counts, word_docs, word_index, index_docs, index_word = (
                json.loads(settings.pop(name)).items() for name in TABLES
            )
            tokenizer = cls(analyzer=analyzer, strict=strict, **settings)
            tokenizer.word_counts = OrderedDict((w, operator.index(n)) for w, n in word_counts)
            tokenizer.word_docs.update((w, operator.index(n)) for w, n in word_docs)
            tokenizer.word_index = {word: operator.index(i) for word, i in word_index}
            most = SPARSEST * len(tokenizer.word_index) + 1000
            for word, index in tokenizer.word_index.items():
                if not 0 <= index <= most:  # `tokens` has a place for each index
                    raise ValueError(f"the index of {word!r} must be from 0 to {most}, got {index}")
            tokenizer.index_docs.update((int(i), operator.index(n)) for i, n in index_docs)
            tokenizer.index_word = {int(i): str(word) for i, word in index_word}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"Tokenizer: not the config of a Tokenizer: {error!r}") from error
        return tokenizer

    # ----------------------------------------------- beyond Keras: what models and generate need

    @property
    def vocab_size(self) -> int:
        """The right `input_dim` of an Embedding: one more than the largest index written.

        len(word_index) + 1, or at most num_words if that is set.

        Raises
        ------
        ValueError
            Before fitting.
        """
        self._require_fitted("vocab_size")
        written = [index for index in self.word_index.values() if not self._is_cut(index)]
        # num_words = 1 cuts every word, but still writes the oov_token for it.
        written.append(self.word_index.get(self.oov_token, 0))  # type: ignore[arg-type]
        return 1 + max(written)

    @property
    def special_ids(self) -> tuple[int, ...]:
        """Indices a model must not write: 0, that of `oov_token`, and those without a word."""
        oov = self.word_index.get(self.oov_token)  # type: ignore[arg-type]
        return tuple(
            index
            for index in range(self.vocab_size)
            if index == oov or index not in self.index_word
        )

    @property
    def tokens(self) -> list[str]:
        """The word of each index below `vocab_size`; empty where there is none."""
        return [self.index_word.get(index, "") for index in range(self.vocab_size)]

    def encode(self, text: Any) -> NDArray[np.int32]:
        """Turn one text into the indices of its words.

        Parameters
        ----------
        text : str or list of str

        Returns
        -------
        (n,) int32

        Raises
        ------
        ValueError
            Before fitting.

        Examples
        --------
        >>> from gru_np.text import Tokenizer
        >>> tokenizer = Tokenizer()
        >>> tokenizer.fit_on_texts(["the cat"])
        >>> tokenizer.encode("cat the")
        array([2, 1], dtype=int32)
        """
        self._require_fitted("encode")
        return np.array(self.texts_to_sequences([text])[0], dtype=np.int32)

    def decode(self, ids: Iterable[int]) -> str:
        """Read indices as text: words with spaces between, characters without; 0 is dropped.

        Parameters
        ----------
        ids : iterable of int

        Returns
        -------
        str

        Raises
        ------
        ValueError
            Before fitting.

        Examples
        --------
        >>> from gru_np.text import Tokenizer
        >>> tokenizer = Tokenizer()
        >>> tokenizer.fit_on_texts(["the cat"])
        >>> tokenizer.decode([0, 0, 2, 1])
        'cat the'
        """
        write = self.decoder()
        return "".join(write(int(index)) for index in ids)

    def decoder(self) -> Callable[[int], str]:
        """Return a function that reads one index after another: `decode` bit by bit.

        Returns
        -------
        callable
            From an index to the text it adds.

        Raises
        ------
        ValueError
            Before fitting.

        Examples
        --------
        >>> from gru_np.text import Tokenizer
        >>> tokenizer = Tokenizer()
        >>> tokenizer.fit_on_texts(["the cat"])
        >>> write = tokenizer.decoder()
        >>> write(1), write(2)
        ('the', ' cat')
        """
        self._require_fitted("decode")
        between = ""

        def write(index: int) -> str:
            nonlocal between
            word = self.index_word.get(index, "")
            if not word:
                return ""
            before, between = between, "" if self.char_level else " "
            return before + word

        return write

    # ------------------------------------------------------------------------- helpers

    def _words(self, text: Any) -> Iterable[str]:
        """Tokens of one text."""
        if isinstance(text, list):
            return [word.lower() for word in text] if self.lower else text
        if self.char_level:
            characters: str = text.lower() if self.lower else text
            return characters
        if self.analyzer is not None:
            return self.analyzer(text)
        return text_to_word_sequence(text, self.filters, self.lower, self.split)

    def _is_cut(self, index: int) -> bool:
        """Whether num_words leaves this index out."""
        return bool(self.num_words and index >= self.num_words)

    def _require_fitted(self, who: str) -> None:
        if not self.word_index:
            raise ValueError(
                f"Tokenizer.{who}: there is no vocabulary yet; call fit_on_texts first"
            )

    def _documents(self, texts: Any, who: str) -> Iterator[list[str]]:
        """Give the words of each text, or say which one is none."""
        is_one = isinstance(texts, bytes) or (self.strict and isinstance(texts, str))
        if is_one or not isinstance(texts, Iterable) or getattr(texts, "ndim", 1) != 1:
            raise TypeError(
                f"Tokenizer.{who}: texts must be a list of texts, got one {type(texts).__name__}"
                + ("; write [text]" if is_one else "")
            )
        for position, text in enumerate(texts):
            analyzed = self.analyzer is not None and not self.char_level
            listed = isinstance(text, list) or (self.char_level and isinstance(text, tuple))
            if listed and (self.strict or self.lower):
                listed = all(isinstance(word, str) for word in text)
            if not (isinstance(text, str) or listed or (analyzed and not isinstance(text, list))):
                raise TypeError(
                    f"Tokenizer.{who}: text {position} must be a string or a list of strings, "
                    f"got {spell_value(text)}"
                )
            yield list(self._words(text))


def tokenizer_from_json(
    json_string: str, analyzer: Analyzer | None = None, strict: bool = False
) -> Tokenizer:
    """Read a tokenizer from JSON written by `Tokenizer.to_json`, here or in Keras.

    Parameters
    ----------
    json_string : str
    analyzer, strict
        What the JSON does not hold.

    Returns
    -------
    Tokenizer
        May be fitted further (Keras' raises KeyError then).

    Raises
    ------
    ValueError
        If the string is not the JSON of a Tokenizer.

    Notes
    -----
    Indices are kept as stored: files from before mid-2018 had the out-of-vocabulary token last, and
    encode here as they did there.

    Examples
    --------
    >>> from gru_np.text import Tokenizer, tokenizer_from_json
    >>> tokenizer = Tokenizer(oov_token="?")
    >>> tokenizer.fit_on_texts(["the cat"])
    >>> tokenizer_from_json(tokenizer.to_json()).texts_to_sequences(["the dog"])
    [[2, 1]]
    """
    try:
        config = json.loads(json_string)["config"]
    except (json.JSONDecodeError, TypeError, KeyError) as error:
        raise ValueError(f"tokenizer_from_json: not the JSON of a Tokenizer: {error!r}") from error
    if not isinstance(config, dict):
        raise ValueError(
            f"tokenizer_from_json: config must be an object, got {type(config).__name__}"
        )
    return Tokenizer.from_config(config, analyzer, strict)
