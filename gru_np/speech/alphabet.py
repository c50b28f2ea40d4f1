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
        self.symbols = list(symbols)
        if len(set(symbols)) != len(symbols) or "" in self.symbols:
            raise ValueError(f"Alphabet: symbols must differ and not be empty, got {symbols!r}")
        if unit == "character" and any(len(symbol) != 1 for symbol in symbols):
            raise ValueError("Alphabet: with unit='character', symbols must be single characters")
        self.unit = unit
        self._labels = {symbol: i for i, symbol in enumerate(self.symbols, start=1)}

    @classmethod
    def of(cls, texts: Iterable[str], unit: str = "character") -> "Alphabet":
        """Collect the symbols of some transcripts, in their sorted order."""
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
