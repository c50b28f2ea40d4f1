"""Tokenizers for language models: every character, or words with their punctuation and newlines.

Nothing is lost: `decode(encode(text)) == text` whenever every token is known (for words see
`WordTokenizer`). Ids begin at 0 and every one of them is written by the model. Vocabularies are
ordered by count, descending, then by code point: the same on every machine and in every process.
"""

import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gru_np._intake import as_array, require_text
from gru_np._schema import require_settings
from gru_np.text.tokenizer import Tokenizer

UNKNOWN_WORD = "<unk>"
SPLITS = ("punctuation", "spaces")


class _Vocabulary:
    """What both tokenizers share: a list of distinct tokens, the id being the place in it."""

    def __init__(self, tokens: Iterable[str]) -> None:
        self.tokens: list[str] = list(tokens)
        who = type(self).__name__
        if not self.tokens:
            raise ValueError(f"{who}: the vocabulary is empty")
        for token in self.tokens:
            if not isinstance(token, str) or not token:
                raise ValueError(f"{who}: tokens must be non-empty strings, got {token!r}")
        self._id_of = {token: i for i, token in enumerate(self.tokens)}
        if len(self._id_of) != len(self.tokens):
            twice = next(token for token, n in Counter(self.tokens).items() if n > 1)
            raise ValueError(f"{who}: tokens must be distinct, got {twice!r} twice")

    @property
    def vocab_size(self) -> int:
        """Number of tokens: the `input_dim` of an Embedding and the `units` of the last Dense."""
        return len(self.tokens)

    def _require_ids(self, ids: ArrayLike) -> NDArray[np.intp]:
        who = f"{type(self).__name__}.decode"
        array = as_array(who, ids, "ids")
        if array.size == 0:
            return np.empty(0, np.intp)
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise TypeError(
                f"{who}: ids must be integers of shape (n,), got {array.dtype} {array.shape}"
            )
        wrong = np.flatnonzero((array < 0) | (array >= self.vocab_size))
        if wrong.size:
            raise ValueError(
                f"{who}: ids must be in 0..{self.vocab_size - 1}, got {array[wrong[0]]} at "
                f"position {wrong[0]}"
            )
        return array.astype(np.intp)

    def _require_id(self, i: int) -> str:
        if not 0 <= i < len(self.tokens):
            raise ValueError(
                f"{type(self).__name__}.decode: ids must be in 0..{len(self.tokens) - 1}, got {i}"
            )
        return self.tokens[i]


def _by_count(
    counts: Counter[str], reserved: list[str], min_count: int, max_size: int | None, who: str
) -> list[str]:
    """Vocabulary: what is reserved, then by count (descending), then by code point."""
    if min_count < 1:
        raise ValueError(f"{who}.fit: min_count must be at least 1, got {min_count}")
    if max_size is not None and max_size <= len(reserved):
        raise ValueError(
            f"{who}.fit: max_size must be at least {len(reserved) + 1}, got {max_size}"
        )
    known = [t for t, n in counts.items() if n >= min_count and t not in reserved]
    return (reserved + sorted(known, key=lambda token: (-counts[token], token)))[:max_size]


# ------------------------------------------------------------------------------ characters


class CharTokenizer(_Vocabulary):
    r"""Characters as tokens: a text of n code points is n ids.

    Parameters
    ----------
    tokens : iterable of str
        The vocabulary, one character each; usually made by `CharTokenizer.fit(text)`.
    unknown : str, optional
        None: a character outside the vocabulary is an error that names it and its position. A
        character of the vocabulary: it stands for all others, and `generate` does not write it.

    Raises
    ------
    ValueError
        If a token is not one character, or occurs twice, or `unknown` is not among them.

    Examples
    --------
    >>> from gru_np import text
    >>> tokenizer = text.CharTokenizer.fit("banana")
    >>> tokenizer.tokens, tokenizer.vocab_size
    (['a', 'n', 'b'], 3)
    >>> tokenizer.encode("ban")
    array([2, 0, 1], dtype=int32)
    >>> tokenizer.decode([2, 0, 1])
    'ban'
    >>> tokenizer.encode("bandana")
    Traceback (most recent call last):
    ...
    ValueError: CharTokenizer.encode: character 'd' (U+0064) at position 3 is not in the ...
    """

    def __init__(self, tokens: Iterable[str], unknown: str | None = None) -> None:
        super().__init__(tokens)
        for token in self.tokens:
            if len(token) != 1:
                raise ValueError(f"CharTokenizer: tokens must be single characters, got {token!r}")
        if unknown is not None and (not isinstance(unknown, str) or unknown not in self._id_of):
            raise ValueError(f"CharTokenizer: unknown must be one of the tokens, got {unknown!r}")
        self.unknown = unknown
        self._codes = np.array([ord(token) for token in self.tokens], np.uint32)
        self._order = np.argsort(self._codes)

    def __repr__(self) -> str:
        return f"CharTokenizer({self.vocab_size} characters, unknown={self.unknown!r})"

    @classmethod
    def fit(
        cls,
        text: str,
        min_count: int = 1,
        max_size: int | None = None,
        unknown: str | None = None,
    ) -> "CharTokenizer":
        r"""Take the characters of a text as the vocabulary.

        Parameters
        ----------
        text : str
        min_count : int
            Leave out characters that occur less often.
        max_size : int, optional
            Keep at most so many, the most frequent.
        unknown : str, optional
            A character for all that is left out or not seen, "\ufffd" for instance; it gets id 0.

        Returns
        -------
        CharTokenizer

        Raises
        ------
        ValueError
            If the text is empty, or characters are to be left out with no `unknown`.

        Examples
        --------
        >>> from gru_np import text
        >>> tokenizer = text.CharTokenizer.fit("banana", unknown="?")
        >>> tokenizer.tokens
        ['?', 'a', 'n', 'b']
        >>> tokenizer.decode(tokenizer.encode("bandana"))
        'ban?ana'
        """
        if unknown is not None and (not isinstance(unknown, str) or len(unknown) != 1):
            raise ValueError(f"CharTokenizer.fit: unknown must be one character, got {unknown!r}")
        counts = Counter(require_text("CharTokenizer.fit", text))
        if not counts:
            raise ValueError("CharTokenizer.fit: the text is empty")
        reserved = [] if unknown is None else [unknown]
        tokens = _by_count(counts, reserved, min_count, max_size, "CharTokenizer")
        if unknown is None and len(tokens) < len(counts):
            raise ValueError(
                f"CharTokenizer.fit: min_count and max_size leave out {len(counts) - len(tokens)} "
                'of the characters; give unknown="\\ufffd" or another character to stand for them'
            )
        return cls(tokens, unknown)

    @property
    def special_ids(self) -> tuple[int, ...]:
        """Ids a model must not write: that of `unknown`."""
        return () if self.unknown is None else (self._id_of[self.unknown],)

    def encode(self, text: str) -> NDArray[np.int32]:
        """Ids of the characters of a text.

        Parameters
        ----------
        text : str

        Returns
        -------
        (len(text),) int32

        Raises
        ------
        ValueError
            For an unknown character, if `unknown` is None.

        Examples
        --------
        >>> from gru_np import text
        >>> text.CharTokenizer.fit("banana").encode("nab")
        array([1, 0, 2], dtype=int32)
        """
        require_text("CharTokenizer.encode", text)
        # One code point in 4 bytes, halves of surrogate pairs included.
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.dtype("<u4"))
        place = np.searchsorted(self._codes, codes, sorter=self._order)
        ids = self._order[np.minimum(place, self.vocab_size - 1)]
        unknown = self._codes[ids] != codes
        if unknown.any():
            if self.unknown is None:
                where = int(np.argmax(unknown))
                raise ValueError(
                    f"CharTokenizer.encode: character {text[where]!r} (U+{codes[where]:04X}) at "
                    f"position {where} is not in the vocabulary of {self.vocab_size} characters"
                )
            ids[unknown] = self._id_of[self.unknown]
        return ids.astype(np.int32)

    def decode(self, ids: ArrayLike) -> str:
        """Text of ids.

        Parameters
        ----------
        ids : (n,) int

        Returns
        -------
        str

        Raises
        ------
        ValueError
            If an id is outside the vocabulary.

        Examples
        --------
        >>> from gru_np import text
        >>> text.CharTokenizer.fit("banana").decode([1, 0, 2])
        'nab'
        """
        codes = self._codes[self._require_ids(ids)].astype("<u4")
        return codes.tobytes().decode("utf-32-le", "surrogatepass")

    def decoder(self) -> Callable[[int], str]:
        """Return a function that reads one id after another: `decode` bit by bit.

        Returns
        -------
        callable
            From an id to the text it adds.

        Examples
        --------
        >>> from gru_np import text
        >>> write = text.CharTokenizer.fit("banana").decoder()
        >>> write(1), write(0)
        ('n', 'a')
        """
        return self._require_id

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments, plain JSON.

        Returns
        -------
        dict

        Examples
        --------
        >>> from gru_np import text
        >>> text.CharTokenizer.fit("banana").get_config()
        {'tokens': ['a', 'n', 'b'], 'unknown': None}
        """
        return {"tokens": list(self.tokens), "unknown": self.unknown}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "CharTokenizer":
        """Rebuild from `get_config`.

        Parameters
        ----------
        config : dict

        Returns
        -------
        CharTokenizer

        Raises
        ------
        ValueError
            If the config is not one of a CharTokenizer.

        Examples
        --------
        >>> from gru_np import text
        >>> text.CharTokenizer.from_config({"tokens": ["a", "b"], "unknown": None}).vocab_size
        2
        """
        _require_keys(config, {"tokens", "unknown"}, cls.__name__)
        require_settings(cls, config)
        return cls(**config)


# ------------------------------------------------------------------------------ words


@functools.cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    r"""Compile the token of `split="punctuation"`, and what a word is.

    A word is letters, digits, underscores and combining marks (which Python's \w leaves out, though
    Indic vowels and decomposed accents are such), with apostrophes inside. The single space between
    two words is matched first and not captured; any other space belongs to a token.
    """
    # Marks beyond U+FFFF (historic scripts) would make the search ten times slower: signs there.
    marks = "".join(chr(c) for c in range(0x10000) if unicodedata.category(chr(c)).startswith("M"))
    letter = rf"[\w{marks}]"
    word = rf"{letter}+(?:['’]{letter}+)*"
    sign = rf" ?[^\w\s{marks}](?: (?=\S))?"
    token = rf"(?<={letter}) (?={letter})|({word}|\n|{sign}|[^\S\n]+)"
    return re.compile(token), re.compile(word)


class WordTokenizer(_Vocabulary):
    r"""Words, punctuation and newlines as tokens.

    Parameters
    ----------
    tokens : iterable of str
        The vocabulary; "<unk>", for every unknown word, is the first. Usually made by
        `WordTokenizer.fit(text)`.
    split : str
        "punctuation": a word is a run of letters and digits ("don't" is one word); each other sign
        is a token that carries the single spaces around it (", " and " (" and " = "), so that
        opening and closing quotes are different tokens and `decode` gives the text back exactly,
        indentation included. Two words in a row have one space between them.
        "spaces": whatever stands between spaces is a token, for text whose tokens are already
        separated (the Penn Treebank); "<unk>" in the text is the unknown word. Runs of spaces
        become one.
    lower : bool
        Lowercase all text.

    Raises
    ------
    ValueError
        If "<unk>" is not the first token, a token is empty or occurs twice, or `split` is unknown.

    Examples
    --------
    >>> from gru_np import text
    >>> tokenizer = text.WordTokenizer.fit("The cat sat, and the dog sat.\n", max_size=6)
    >>> tokenizer.tokens
    ['<unk>', 'sat', '\n', ', ', '.', 'The']
    >>> tokenizer.encode("The dog sat.")
    array([5, 0, 1, 4], dtype=int32)
    >>> tokenizer.decode([5, 0, 1, 3, 1, 4])
    'The <unk> sat, sat.'
    """

    def __init__(
        self, tokens: Iterable[str], split: str = "punctuation", lower: bool = False
    ) -> None:
        super().__init__(tokens)
        if self.tokens[0] != UNKNOWN_WORD:
            raise ValueError(
                f"WordTokenizer: the first token must be {UNKNOWN_WORD!r}, got {self.tokens[0]!r}"
            )
        if split not in SPLITS:
            raise ValueError(f"WordTokenizer: split must be one of {SPLITS}, got {split!r}")
        self.split = split
        self.lower = bool(lower)

    def __repr__(self) -> str:
        return f"WordTokenizer({self.vocab_size} tokens, split={self.split!r}, lower={self.lower})"

    @classmethod
    def fit(
        cls,
        text: str,
        min_count: int = 1,
        max_size: int | None = None,
        split: str = "punctuation",
        lower: bool = False,
    ) -> "WordTokenizer":
        r"""Take the words of a text as the vocabulary.

        Parameters
        ----------
        text : str
        min_count : int
            Leave out tokens that occur less often.
        max_size : int, optional
            Keep at most so many, the most frequent, "<unk>" included.
        split, lower
            As `WordTokenizer`.

        Returns
        -------
        WordTokenizer

        Raises
        ------
        ValueError
            If the text is empty or an option has no meaning.

        Examples
        --------
        >>> from gru_np import text
        >>> text.WordTokenizer.fit("a b <unk> a\n", split="spaces").tokens
        ['<unk>', 'a', '\n', 'b']
        """
        empty = cls([UNKNOWN_WORD], split, lower)
        counts = Counter(empty.split_text(text))
        if not counts:
            raise ValueError("WordTokenizer.fit: the text is empty")
        return cls(
            _by_count(counts, [UNKNOWN_WORD], min_count, max_size, "WordTokenizer"), split, lower
        )

    @property
    def special_ids(self) -> tuple[int, ...]:
        """Ids a model must not write: that of "<unk>"."""
        return (0,)

    def split_text(self, text: str) -> list[str]:
        r"""Tokens of a text, known or not.

        Parameters
        ----------
        text : str

        Returns
        -------
        list of str

        Examples
        --------
        >>> from gru_np import text
        >>> tokenizer = text.WordTokenizer.fit("a")
        >>> tokenizer.split_text('He said: "I don\'t (yet)."\n    x = 1')
        ['He', 'said', ': ', '"', 'I', "don't", ' (', 'yet', ')', '.', '"', '\n', '    ', 'x', ' = ', '1']
        """  # noqa: E501 - one line of output
        require_text("WordTokenizer", text)
        if self.lower:
            text = text.lower()
        if self.split == "spaces":
            return re.findall(r"\n|\S+", text)
        pattern, _ = _patterns()
        return [token for token in pattern.findall(text) if token]

    def encode(self, text: str) -> NDArray[np.int32]:
        """Ids of the tokens of a text; 0 for those not in the vocabulary.

        Parameters
        ----------
        text : str

        Returns
        -------
        (n,) int32

        Examples
        --------
        >>> from gru_np import text
        >>> text.WordTokenizer.fit("the cat sat").encode("the dog sat")
        array([3, 0, 2], dtype=int32)
        """
        return np.array([self._id_of.get(token, 0) for token in self.split_text(text)], np.int32)

    def encode_prompt(self, text: str) -> NDArray[np.int32]:
        """Ids of a text that is to be continued.

        A space at the end is the one before the next word, as in the middle of a text: no token of
        its own after a word, part of the sign after a comma.

        Parameters
        ----------
        text : str

        Returns
        -------
        (n,) int32

        Examples
        --------
        >>> from gru_np import text
        >>> tokenizer = text.WordTokenizer.fit("to be, or not to be, ")
        >>> [tokenizer.tokens[i] for i in tokenizer.encode_prompt("or not, ")]
        ['or', 'not', ', ']
        >>> [tokenizer.tokens[i] for i in tokenizer.encode_prompt("or not ")]
        ['or', 'not']
        """
        require_text("WordTokenizer", text)
        # The next word, whatever it is, is one token: put one there and take it away.
        return self.encode(text + "x")[:-1] if re.search(r"\S $", text) else self.encode(text)

    def decode(self, ids: ArrayLike) -> str:
        """Text of ids.

        Parameters
        ----------
        ids : (n,) int

        Returns
        -------
        str

        Raises
        ------
        ValueError
            If an id is outside the vocabulary.

        Examples
        --------
        >>> from gru_np import text
        >>> text.WordTokenizer.fit("the cat sat").decode([3, 1])
        'the cat'
        """
        return "".join(map(self.decoder(), self._require_ids(ids).tolist()))

    def decoder(self) -> Callable[[int], str]:
        """Return a function that reads one id after another: `decode` bit by bit.

        Returns
        -------
        callable
            From an id to the text it adds.

        Examples
        --------
        >>> from gru_np import text
        >>> write = text.WordTokenizer.fit("the cat sat").decoder()
        >>> write(3), write(1)
        ('the', ' cat')
        """
        after_word = False
        _, word = _patterns()

        def write(i: int) -> str:
            nonlocal after_word
            token = self._require_id(i)
            if self.split == "spaces":
                is_word = token != "\n"
            else:
                is_word = i == 0 or word.fullmatch(token) is not None
            between = " " if after_word and is_word else ""
            after_word = is_word
            return between + token

        return write

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments, plain JSON.

        Returns
        -------
        dict

        Examples
        --------
        >>> from gru_np import text
        >>> text.WordTokenizer.fit("a a b").get_config()
        {'tokens': ['<unk>', 'a', 'b'], 'split': 'punctuation', 'lower': False}
        """
        return {"tokens": list(self.tokens), "split": self.split, "lower": self.lower}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "WordTokenizer":
        """Rebuild from `get_config`.

        Parameters
        ----------
        config : dict

        Returns
        -------
        WordTokenizer

        Raises
        ------
        ValueError
            If the config is not one of a WordTokenizer.

        Examples
        --------
        >>> from gru_np import text
        >>> config = text.WordTokenizer.fit("a a b").get_config()
        >>> text.WordTokenizer.from_config(config).vocab_size
        3
        """
        _require_keys(config, {"tokens", "split", "lower"}, cls.__name__)
        require_settings(cls, config)
        return cls(**config)


# ------------------------------------------------------------------------------ saving


TOKENIZERS: dict[str, Any] = {
    "CharTokenizer": CharTokenizer,
    "Tokenizer": Tokenizer,
    "WordTokenizer": WordTokenizer,
}


def tokenizer_config(tokenizer: Any) -> dict[str, Any]:
    """Describe a tokenizer of this package as plain JSON, for a checkpoint.

    Parameters
    ----------
    tokenizer : CharTokenizer, WordTokenizer or Tokenizer

    Returns
    -------
    dict
        {"class_name": ..., "config": ...}; a Tokenizer's is what its `to_json` writes.

    Raises
    ------
    TypeError
        For any other object.

    Examples
    --------
    >>> from gru_np import text
    >>> text.tokenizer_config(text.CharTokenizer.fit("aab"))
    {'class_name': 'CharTokenizer', 'config': {'tokens': ['a', 'b'], 'unknown': None}}
    """
    name = type(tokenizer).__name__
    if TOKENIZERS.get(name) is not type(tokenizer):
        raise TypeError(
            f"tokenizer_config: tokenizer must be one of {', '.join(TOKENIZERS)}, got {name}"
        )
    return {"class_name": name, "config": tokenizer.get_config()}


def tokenizer_from_config(config: dict[str, Any]) -> Any:
    """Rebuild a tokenizer from `tokenizer_config`.

    Parameters
    ----------
    config : dict

    Returns
    -------
    CharTokenizer, WordTokenizer or Tokenizer

    Raises
    ------
    ValueError
        If the config does not describe one; nothing is imported by name.

    Examples
    --------
    >>> from gru_np import text
    >>> config = text.tokenizer_config(text.WordTokenizer.fit("a a b"))
    >>> text.tokenizer_from_config(config)
    WordTokenizer(3 tokens, split='punctuation', lower=False)
    """
    _require_keys(config, {"class_name", "config"}, "tokenizer_from_config")
    name = config["class_name"]
    if not isinstance(name, str) or name not in TOKENIZERS:
        raise ValueError(
            f"tokenizer_from_config: class_name must be one of {', '.join(TOKENIZERS)}, "
            f"got {name!r}"
        )
    return TOKENIZERS[name].from_config(config["config"])


def tokenizer_of(model: Any, who: str = "tokenizer_of") -> Any:
    """Give the tokenizer of a model: `model.tokenizer`, or raise.

    Parameters
    ----------
    model : object
        With a `tokenizer`, as a `Sequential` has that was given one or loaded with one; or with a
        description of one among its `extras`.
    who : str
        Named if there is none.

    Returns
    -------
    CharTokenizer, WordTokenizer or Tokenizer

    Raises
    ------
    ValueError
        If the model has no tokenizer.

    Examples
    --------
    >>> from gru_np import Sequential, text
    >>> model = Sequential()
    >>> model.tokenizer = text.CharTokenizer.fit("banana")
    >>> text.tokenizer_of(model).tokens
    ['a', 'n', 'b']
    """
    if getattr(model, "tokenizer", None) is None:
        config = getattr(model, "extras", {}).get("tokenizer")
        if config is None:
            raise ValueError(
                f"{who}: the model has no tokenizer; set model.tokenizer, which is saved with the "
                "model, or give tokenizer="
            )
        model.tokenizer = tokenizer_from_config(config)
    return model.tokenizer


def _require_keys(config: Any, keys: set[str], who: str) -> None:
    """Refuse what is not a dict with exactly these keys."""
    if not isinstance(config, dict) or set(config) != keys:
        got = sorted(map(str, config)) if isinstance(config, dict) else type(config).__name__
        raise ValueError(f"{who}: a config must have the keys {sorted(keys)}, got {got}")
