"""A model and its tokenizer as one: what may be said, how a prompt begins, how ids are read.

Notation: B prompts, V vocabulary of the model.
"""

import inspect
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gru_np.text.vocabulary import tokenizer_of

Ids = NDArray[np.int64]
Scores = NDArray[np.float64]


class Start(NamedTuple):
    """A prompt, ready to be continued."""

    ids: list[int]
    read: Callable[[int], str]  # from the next id to the text it adds


class Voice:
    """A model and its tokenizer: what may be said, and how it reads."""

    def __init__(
        self,
        who: str,
        model: Any,
        tokenizer: Any = None,
        allowed: str | Iterable[str] | None = None,
        forbidden: Iterable[str] = (),
    ) -> None:
        self.who = who
        self.model = model
        self.tokenizer: Any = tokenizer_of(model, who) if tokenizer is None else tokenizer
        self._tokens = getattr(self.tokenizer, "tokens", None)
        self.allowed = allowed if isinstance(allowed, str) or allowed is None else set(allowed)
        self.forbidden = stripped_tokens(forbidden)
        self._mask: NDArray[np.bool_] | None = None
        try:
            self._takes_logits = "logits" in inspect.signature(model.step).parameters
        except (TypeError, ValueError):  # a builtin without a signature
            self._takes_logits = False
        self._are_probabilities: bool | None = None

    # --- the model

    def step(self, ids: Ids, state: Any) -> tuple[Scores, Any]:
        """One step of the model, its output as scores (B, V) in float64."""
        if self._takes_logits:
            y, state = self.model.step(ids, state, logits=True)
        else:
            y, state = self.model.step(ids, state)
        scores = np.asarray(y, np.float64)
        if scores.ndim != 2 or len(scores) != len(ids):
            raise ValueError(
                f"{self.who}: a step of the model must give one row of scores for each of "
                f"{len(ids)} tokens, got shape {scores.shape}; a language model ends in "
                'Dense(vocab_size, activation="softmax") over every time step'
            )
        if self._are_probabilities is None:
            total = scores.sum(axis=-1)
            # float32 probabilities of a large vocabulary miss 1 by their rounding
            self._are_probabilities = not self._takes_logits and bool(
                (scores >= 0).all() and (np.abs(total - 1) < 1e-3).all()
            )
        if self._are_probabilities:
            with np.errstate(divide="ignore"):
                scores = np.log(scores)
        return scores, state

    def feed(self, ids: Sequence[int]) -> tuple[Scores, Any]:
        """Scores (1, V) and state after a prompt."""
        state = None
        for i in ids:
            scores, state = self.step(np.array([i], np.int64), state)
        return scores, state

    # --- the tokenizer

    def prompt(self, text: str) -> Start:
        """Encode a prompt, and read on from there."""
        encode = getattr(self.tokenizer, "encode_prompt", self.tokenizer.encode)
        ids = self._beginning() if text == "" else [int(i) for i in encode(text)]
        if not ids:
            raise ValueError(f"{self.who}: the vocabulary knows no word of the prompt {text!r}")
        decoder = getattr(self.tokenizer, "decoder", None)
        read = _windowed_decoder(self.tokenizer) if decoder is None else decoder()
        shown = "".join(map(read, ids))
        if text[-1:].isspace() and not shown[-1:].isspace():
            read = _without_first_space(read)
        return Start(ids, read)

    def _beginning(self) -> list[int]:
        """Ids after which a text begins: newlines, or the first token of the vocabulary.

        Three newlines, because a model that has learnt from streams hardly knows the state of zeros
        that it has here: after one it may go on in mid-line, far to the right.
        """
        special = getattr(self.tokenizer, "special_ids", ())
        try:
            ids = [int(i) for i in self.tokenizer.encode("\n\n\n")]
        except ValueError:  # an unknown character
            ids = []
        if ids and ids[-1] not in special:
            return ids
        return [next(i for i in itertools.count() if i not in special)]

    def token(self, i: int) -> str:
        """Text of one token."""
        return str(self.tokenizer.decode([i]) if self._tokens is None else self._tokens[i])

    def stripped(self, i: int) -> str:
        """Text of one token without the spaces it carries; a token of spaces stays."""
        token = self.token(i)
        return token.strip(" ") or token

    def may_write(self, V: int) -> NDArray[np.bool_]:
        """Mask (V,) of the tokens that may be written."""
        if self._mask is None or len(self._mask) != V:
            mask = np.arange(V) < getattr(self.tokenizer, "vocab_size", V)
            mask[[i for i in getattr(self.tokenizer, "special_ids", ()) if i < V]] = False
            for i in np.flatnonzero(mask).tolist() if self.allowed or self.forbidden else ():
                if self.stripped(i) in self.forbidden:
                    mask[i] = False
                elif isinstance(self.allowed, str):
                    mask[i] = all(character in self.allowed for character in self.token(i))
                elif self.allowed is not None:
                    mask[i] = self.token(i) in self.allowed or self.stripped(i) in self.allowed
            if not mask.any() or (self.allowed is not None and not self.allowed):
                raise ValueError(f"{self.who}: no token of the vocabulary may be written")
            self._mask = mask
        return self._mask


def stripped_tokens(tokens: Iterable[str]) -> set[str]:
    """Tokens without the spaces around them; one string is one token."""
    names = [tokens] if isinstance(tokens, str) else tokens
    return {name.strip(" ") or name for name in names}


def _without_first_space(read: Callable[[int], str]) -> Callable[[int], str]:
    """Leave out the space that the prompt already ends with."""
    first = True

    def write(i: int) -> str:
        nonlocal first
        text = read(i)
        if first and text:
            first = False
            return text.removeprefix(" ")
        return text

    return write


def _windowed_decoder(tokenizer: Any) -> Callable[[int], str]:
    """Read ids one by one with a tokenizer that only decodes whole lists.

    What the last ids add is the text with them minus the text without. Ids that end within a
    character (bytes of UTF-8, decoded as U+FFFD) wait for the next.
    """
    context: list[int] = []
    waiting: list[int] = []

    def write(i: int) -> str:
        nonlocal context, waiting
        waiting.append(int(i))
        before, after = tokenizer.decode(context), tokenizer.decode(context + waiting)
        if len(after) <= len(before) or after.endswith("\ufffd"):
            return ""
        context, waiting = waiting, []
        return str(after[len(before) :])

    return write
