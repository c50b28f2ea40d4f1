"""Numbers as tables write them: 2165.03, 2,165.03 or 2.165,03; a column is read in one way.

A point is the decimal mark and a comma parts the thousands, or the other way round. Most columns
allow one of the two; where both are possible, as for 1.175, the rest of the table decides.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

THOUSANDS = (",", ".", " ", "'")
SPACES = "\u00a0\u202f\u2009"  # that print puts between thousands
APOSTROPHES = "\u2019"


class Notation(NamedTuple):
    """What begins the decimals, and what may part the thousands.

    Examples
    --------
    >>> from gru_np.series.numerals import Notation
    >>> Notation(",", ".").number("-2.165,03")
    -2165.03
    """

    decimal: str
    thousands: str

    def number(self, text: str) -> float:
        """Read a number, or raise ValueError."""
        text = text.strip()
        if "_" in text:  # Python would take 1_000
            raise ValueError
        if self.thousands == " ":
            text = text.translate(dict.fromkeys(map(ord, SPACES), " "))
        elif self.thousands == "'":
            text = text.translate(dict.fromkeys(map(ord, APOSTROPHES), "'"))
        if self.thousands in text:
            mark, point = re.escape(self.thousands), re.escape(self.decimal)
            if not re.fullmatch(rf"[+-]?[1-9]\d{{0,2}}({mark}\d{{3}})+({point}\d*)?", text):
                raise ValueError
            text = text.replace(self.thousands, "")
        if self.decimal != ".":
            if "." in text:
                raise ValueError
            text = text.replace(self.decimal, ".")
        return float(text)

    def reads(self, cells: Iterable[str]) -> bool:
        """Answer whether all cells are numbers so written."""
        return all(map(self.is_number, cells))

    def is_number(self, cell: str) -> bool:
        """Answer whether a cell is a number so written."""
        try:
            self.number(cell)
        except ValueError:
            return False
        return True


POINT, COMMA = Notation(".", ","), Notation(",", ".")


def notations(decimal: str | None, thousands: str | None) -> list[Notation]:
    """Give the notations that two settings leave to choose from, the plainer first.

    Examples
    --------
    >>> from gru_np.series.numerals import notations
    >>> notations(None, ".")
    [Notation(decimal=',', thousands='.')]
    """
    if decimal is not None and decimal not in (".", ","):
        raise ValueError(f"decimal must be '.' or ',', got {decimal!r}")
    if thousands is not None and thousands not in THOUSANDS:
        choices = ", ".join(map(repr, THOUSANDS))
        raise ValueError(f"thousands must be one of {choices}, got {thousands!r}")
    if thousands is not None and thousands == decimal:
        raise ValueError(f"decimal and thousands must differ, got {decimal!r} twice")
    found = [
        Notation(one.decimal, thousands or one.thousands)
        for one in (POINT, COMMA)
        if decimal in (None, one.decimal)
    ]
    return [one for one in found if one.decimal != one.thousands]


def possible(cells: Sequence[str], choices: Sequence[Notation]) -> list[Notation]:
    """Give those notations by which all cells are numbers; one, if no cell has a mark."""
    found = [one for one in choices if one.reads(cells)]
    if not any(map(is_marked, cells)):
        return found[:1]
    return found


def is_marked(cell: str) -> bool:
    """Answer whether a point or a comma is in a cell."""
    return "." in cell or "," in cell
