"""Transcripts as labels, and back. Label 0 is the blank of CTC."""

from collections.abc import Iterable, Sequence
from typing import Any

from gru_np._checks import require_choice

UNITS = ("character", "word")


class Alphabet:
    """The symbols a transcript is made of: characters, or whole words.

    Parameters
    ----------
    symbols : sequence of str
        Those of labels 1, 2, ...; label 0 is the blank.
    unit : {"character", "word"}
        What a symbol is. Words are separated by spaces.

    Examples
    --------
    >>> from gru_np.speech import Alphabet
    >>> alphabet = Alphabet.of(["no one", "on"])
    >>> alphabet.encode("one no")
    [4, 3, 2, 1, 3, 4]
    >>> alphabet.decode([4, 3, 2, 1, 3, 4])
    'one no'
    """

    def __init__(self, symbols: Sequence[str], unit: str = "character"):
        require_choice("Alphabet", "unit", unit, UNITS)
        if isinstance(symbols, str) and unit == "word":
            raise TypeError(f"Alphabet: symbols must be a list of words, got {symbols!r}")
        self.symbols = as_transcripts(
            "Alphabet", list(symbols) if isinstance(symbols, str) else symbols, "symbols"
        )
        if len(set(self.symbols)) != len(self.symbols) or "" in self.symbols:
            raise ValueError(f"Alphabet: symbols must differ and not be empty, got {symbols!r}")
        if unit == "word" and any(symbol.split() != [symbol] for symbol in self.symbols):
            raise ValueError("Alphabet: with unit='word', symbols must be words without spaces")
        if unit == "character" and any(len(symbol) != 1 for symbol in self.symbols):
            raise ValueError("Alphabet: with unit='character', symbols must be single characters")
        self.unit = unit
        self._labels = {symbol: i for i, symbol in enumerate(self.symbols, start=1)}

    @classmethod
    def of(cls, texts: Iterable[str], unit: str = "character") -> "Alphabet":
        """Collect the symbols of some transcripts, in their sorted order; a string is one."""
        require_choice("Alphabet", "unit", unit, UNITS)
        texts = as_transcripts("Alphabet.of", texts)
        split = str.split if unit == "word" else list
        return cls(sorted({symbol for text in texts for symbol in split(text)}), unit)

    @property
    def outputs(self) -> int:
        """Outputs a network needs: the symbols and the blank."""
        return len(self.symbols) + 1

    @property
    def separator(self) -> str:
        """What stands between two symbols in a text."""
        return " " if self.unit == "word" else ""

    def encode(self, text: str) -> list[int]:
        """Give the labels of a transcript."""
        if not isinstance(text, str):
            raise TypeError(f"Alphabet: text must be a str, got {_brief(text)}")
        symbols = text.split() if self.unit == "word" else list(text)
        unknown = sorted(set(symbols) - self._labels.keys())
        if unknown:
            raise ValueError(
                f"Alphabet: {text!r} holds {', '.join(map(repr, unknown))}, which no transcript "
                "of the training had"
            )
        return [self._labels[symbol] for symbol in symbols]

    def decode(self, labels: Iterable[int]) -> str:
        """Give the text of labels without blanks."""
        return self.separator.join(self.symbols[label - 1] for label in labels)

    def get_config(self) -> dict[str, Any]:
        """Give the constructor arguments, ready for JSON."""
        return {"symbols": self.symbols, "unit": self.unit}


def as_transcripts(who: str, texts: Any, what: str = "texts") -> list[str]:
    """Give a list of transcripts; a string is one transcript and not a list of characters."""
    if isinstance(texts, str):
        return [texts]
    several = hasattr(type(texts), "__iter__") and getattr(texts, "ndim", 1) > 0
    if isinstance(texts, bytes | dict) or not several:
        raise TypeError(f"{who}: {what} must be a list of str, got {_brief(texts)}")
    found = list(texts)
    for i, text in enumerate(found):
        if not isinstance(text, str):
            raise TypeError(f"{who}: {what} must be a list of str, got {_brief(text)} at {i}")
    return found


def _brief(value: Any) -> str:
    return " ".join(repr(value).split())[:60]
