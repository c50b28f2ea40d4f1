"""How wrong transcripts are: word and character error rates, by jiwer (extra `audio`)."""

from collections.abc import Sequence
from typing import NamedTuple

from gru_np.speech.alphabet import as_transcripts


class ErrorRates(NamedTuple):
    """Shares of the words and of the characters that are wrong; 0 is perfect, 1 and more happen."""

    wer: float
    cer: float


def error_rates(references: str | Sequence[str], hypotheses: str | Sequence[str]) -> ErrorRates:
    """Compare transcripts with what was said.

        rate = (substitutions + deletions + insertions) / length of the references

    summed over all utterances before the division.

    Parameters
    ----------
    references, hypotheses : sequence of str
        What was said and what was written down, in the same order. No reference is empty. A
        string is one transcript.

    Returns
    -------
    ErrorRates

    Raises
    ------
    ValueError
        If there are not as many of both, or a reference is empty.
    ImportError
        If jiwer is not installed, naming the extra.

    Examples
    --------
    >>> from gru_np.speech import error_rates
    >>> error_rates(["one two", "three"], ["one too", "three"])  # doctest: +SKIP
    ErrorRates(wer=0.3333333333333333, cer=0.08333333333333333)
    """
    said = as_transcripts("error_rates", references, "references")
    written = as_transcripts("error_rates", hypotheses, "hypotheses")
    if len(said) != len(written) or not said:
        raise ValueError(
            "error_rates: references and hypotheses must be as many, and some; "
            f"got {len(said)} and {len(written)}"
        )
    for i, text in enumerate(said):
        if not text.split():
            raise ValueError(f"error_rates: a reference must hold a word, got {text!r} at {i}")
    try:
        import jiwer
    except ImportError as error:
        raise ImportError("error rates need jiwer: pip install gru_np[audio]") from error
    return ErrorRates(float(jiwer.wer(said, written)), float(jiwer.cer(said, written)))
