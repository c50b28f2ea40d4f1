"""Writing text with a model, one token at a time, and asking it what comes next.

A model here is anything with `step(ids, state) -> (scores, state)`: ids (B,) int, scores (B, V),
state None at the beginning and then whatever the model returned. Scores are taken as logits from a
`step` that has a `logits` argument; else they are probabilities if every row is one, or logits.

A tokenizer is anything with `encode(text)` and `decode(ids)`; those of `gru_np.text` also say which
ids are never written (`special_ids`: padding, unknown words) and read ids one by one (`decoder`).
Without the `tokenizer` argument it is the model's own, `tokenizer_of(model)`.

Notation: B prompts, V vocabulary of the model.
"""

import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gru_np import decoding
from gru_np.text.vocabulary import tokenizer_of

Ids = NDArray[np.int64]
Scores = NDArray[np.float64]
Step = Callable[[Ids, Any], tuple[Scores, Any]]


class Piece(str):
    """A piece of text as `generate` writes it: a string that also knows its tokens.

    Attributes
    ----------
    ids : tuple of int
        The tokens whose text begins in this piece.
    log_probabilities : tuple of float
        Of each of them, in nats, under the model alone: before temperature, filters and penalties.
    """

    __slots__ = ("ids", "log_probabilities")
    ids: tuple[int, ...]
    log_probabilities: tuple[float, ...]

    def __new__(  # noqa: D102 - the class says it
        cls, text: str, ids: Sequence[int] = (), log_probabilities: Sequence[float] = ()
    ) -> "Piece":
        piece = super().__new__(cls, text)
        piece.ids, piece.log_probabilities = tuple(ids), tuple(log_probabilities)
        return piece


class Generated(NamedTuple):
    """A whole continuation, from `generate_batch` or `generate_beams`."""

    text: str
    ids: tuple[int, ...]
    log_probabilities: tuple[float, ...]  # nats, under the model alone


# ------------------------------------------------------------------------------ sampling


def generate(
    model: Any,
    prompt: str = "",
    length: int | None = 200,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    stop: str | Iterable[str] | None = None,
    tokenizer: Any = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    allowed: str | Iterable[str] | None = None,
    forbidden: Iterable[str] = (),
) -> Iterator[Piece]:
    r"""Continue a prompt, yielding pieces of text as they are written.

    Parameters
    ----------
    model : object
        With `step`, and a `tokenizer` unless one is given.
    prompt : str
        What to continue; it is not repeated. Empty: as after a newline, or if the vocabulary has
        none, after its most frequent token.
    length : int, optional
        The most tokens to write; None goes on until a stop string, or for ever.
    temperature, top_k, top_p, min_p, repetition_penalty
        As `gru_np.decoding.sample`; temperature 0 always takes the most likely token. The penalty
        counts the prompt as written.
    seed : int, optional
        The same seed, model and prompt give the same text; None is new every time.
    stop : str or iterable of str, optional
        End as soon as one of these is complete, and before it (before the leftmost, if one token
        completes several). Text that could be the beginning of one is held back until that is
        decided.
    tokenizer : object, optional
        None is `tokenizer_of(model)`.
    allowed : str or iterable of str, optional
        A string is an alphabet: only tokens made of these characters are written. Else the only
        tokens to write.
    forbidden : iterable of str
        Tokens not to write; spaces around them do not matter.

    Returns
    -------
    iterator of Piece
        Never an empty piece. Arguments are checked at the call, not at the first piece.

    Raises
    ------
    ValueError
        If a setting has no meaning, the prompt holds an unknown character, nothing may be written,
        or the model's scores do not fit the vocabulary.

    Notes
    -----
    Padding, unknown-word tokens and ids beyond the tokenizer's vocabulary are never written.

    Examples
    --------
    A model that has learned that b follows a, c follows b, and a follows c:

    >>> import numpy as np
    >>> from gru_np import text
    >>> class Cycle:
    ...     tokenizer = text.CharTokenizer(["a", "b", "c"])
    ...     def step(self, ids, state=None):
    ...         return np.eye(3)[(ids + 1) % 3], state
    >>> "".join(text.generate(Cycle(), "ab", length=5))
    'cabca'
    >>> [(str(piece), piece.ids) for piece in text.generate(Cycle(), "ab", stop="bc")]
    [('c', (2,)), ('a', (0,))]
    """
    options = decoding.check_options(
        "generate", temperature, top_k, top_p, min_p, repetition_penalty
    )
    voice = _Voice("generate", model, tokenizer, allowed, forbidden)
    writing = _write(voice, [voice.prompt(prompt)], length, stop, options, seed)
    return (piece for _, piece in writing)


def generate_batch(
    model: Any,
    prompts: Sequence[str],
    length: int = 200,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    stop: str | Iterable[str] | None = None,
    tokenizer: Any = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    allowed: str | Iterable[str] | None = None,
    forbidden: Iterable[str] = (),
) -> list[Generated]:
    """Continue several prompts at once, each as `generate` would.

    Parameters
    ----------
    model, length, temperature, top_k, top_p, stop, tokenizer, min_p, repetition_penalty, allowed
        As `generate`.
    forbidden
        As `generate`.
    prompts : sequence of str
        Of any lengths.
    seed : int, optional
        Every prompt has its own random stream, made from the seed and its place: what is written
        for one does not depend on the others, and the first is written as `generate` writes it.

    Returns
    -------
    list of Generated
        One for each prompt, in their order.

    Raises
    ------
    TypeError
        If prompts is a single string.
    ValueError
        As `generate`.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import text
    >>> class Cycle:
    ...     tokenizer = text.CharTokenizer(["a", "b", "c"])
    ...     def step(self, ids, state=None):
    ...         return np.eye(3)[(ids + 1) % 3], state
    >>> [written.text for written in text.generate_batch(Cycle(), ["a", "abc"], length=4)]
    ['bcab', 'abca']
    """
    if isinstance(prompts, str):
        raise TypeError("generate_batch: prompts must be a list of texts, got one str")
    options = decoding.check_options(
        "generate_batch", temperature, top_k, top_p, min_p, repetition_penalty
    )
    voice = _Voice("generate_batch", model, tokenizer, allowed, forbidden)
    starts = [voice.prompt(prompt) for prompt in prompts]
    rows: list[list[Piece]] = [[] for _ in prompts]
    for row, piece in _write(voice, starts, length, stop, options, seed):
        rows[row].append(piece)
    return [
        Generated(
            "".join(pieces),
            tuple(i for piece in pieces for i in piece.ids),
            tuple(log_p for piece in pieces for log_p in piece.log_probabilities),
        )
        for pieces in rows
    ]


def generate_beams(
    model: Any,
    prompt: str = "",
    length: int = 200,
    beam_width: int = 4,
    length_norm: float = 0.0,
    end: Iterable[str] = (),
    tokenizer: Any = None,
    allowed: str | Iterable[str] | None = None,
    forbidden: Iterable[str] = (),
) -> list[Generated]:
    r"""Find the most likely continuations of a prompt by beam search.

    Parameters
    ----------
    model, prompt, tokenizer, allowed, forbidden
        As `generate`.
    length : int
        The most tokens to write.
    beam_width, length_norm
        As `gru_np.decoding.beam_search`.
    end : iterable of str
        Tokens that end a continuation, such as "\n"; they are part of it. Spaces around them do
        not matter.

    Returns
    -------
    list of Generated
        At most `beam_width`, the best first.

    Raises
    ------
    ValueError
        As `generate`; also if no `end` token is in the vocabulary.

    Notes
    -----
    The most likely text is rarely the most interesting: samples of `generate` are.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import text
    >>> class Cycle:
    ...     tokenizer = text.CharTokenizer(["a", "b", "c"])
    ...     def step(self, ids, state=None):
    ...         return np.eye(3)[(ids + 1) % 3] * 0.7 + 0.1, state
    >>> [beam.text for beam in text.generate_beams(Cycle(), "a", length=3, beam_width=2)]
    ['bca', 'bcb']
    """
    voice = _Voice("generate_beams", model, tokenizer, allowed, forbidden)
    start = voice.prompt(prompt)
    scores, state = voice.feed(start.ids)
    may_write = voice.may_write(scores.shape[-1])
    wanted = _stripped(end)
    end_ids = [i for i in np.flatnonzero(may_write).tolist() if voice.stripped(i) in wanted]
    if wanted and not end_ids:
        raise ValueError(
            f"generate_beams: end must name tokens that may be written, got {sorted(wanted)}"
        )
    beams = decoding.beam_search(
        voice.step,
        state,
        scores[0],
        length,
        beam_width,
        length_norm,
        end_ids,
        forbidden=np.flatnonzero(~may_write).tolist(),
    )
    written = []
    for beam in beams:
        read = voice.prompt(prompt).read
        written.append(Generated("".join(map(read, beam.ids)), beam.ids, beam.log_probabilities))
    return written


def predict_next(
    model: Any, context: str = "", k: int = 10, tokenizer: Any = None
) -> list[tuple[str, float]]:
    """Ask a model which token comes next.

    Parameters
    ----------
    model, tokenizer
        As `generate`.
    context : str
        The text so far; empty is as for `generate`.
    k : int
        How many to return; fewer if the vocabulary is smaller.

    Returns
    -------
    list of (str, float)
        Tokens and their probabilities under the model, the likeliest first (ties: lowest id).
        Padding and unknown-word tokens are left out; the others' probabilities stay as they are.

    Raises
    ------
    ValueError
        If k < 1, the context holds an unknown character, or the model's scores do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import text
    >>> class Cycle:
    ...     tokenizer = text.CharTokenizer(["a", "b", "c"])
    ...     def step(self, ids, state=None):
    ...         return np.eye(3)[(ids + 1) % 3] * 0.7 + 0.1, state
    >>> [(token, round(p, 3)) for token, p in text.predict_next(Cycle(), "ab", k=2)]
    [('c', 0.8), ('a', 0.1)]
    """
    if k < 1:
        raise ValueError(f"predict_next: k must be at least 1, got {k}")
    voice = _Voice("predict_next", model, tokenizer)
    scores, _ = voice.feed(voice.prompt(context).ids)
    p = np.exp(decoding.log_softmax(scores[0]))
    likeliest = [i for i in np.argsort(-p, kind="stable") if voice.may_write(len(p))[i]]
    return [(voice.token(int(i)), float(p[i])) for i in likeliest[:k]]


# ------------------------------------------------------------------------------ the machinery


class _Start(NamedTuple):
    """A prompt, ready to be continued."""

    ids: list[int]
    read: Callable[[int], str]  # from the next id to the text it adds


class _Voice:
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
        self.forbidden = _stripped(forbidden)
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

    def prompt(self, text: str) -> _Start:
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
        return _Start(ids, read)

    def _beginning(self) -> list[int]:
        """Ids after which a text begins: a newline, or the first token of the vocabulary."""
        special = getattr(self.tokenizer, "special_ids", ())
        try:
            ids = [int(i) for i in self.tokenizer.encode("\n")]
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


def _write(
    voice: _Voice,
    starts: list[_Start],
    length: int | None,
    stop: str | Iterable[str] | None,
    options: decoding.Options,
    seed: int | None,
) -> Iterator[tuple[int, Piece]]:
    """Check the rest now and write later: pieces of every row, as (row, piece)."""
    if length is not None and length < 0:
        raise ValueError(f"{voice.who}: length must not be negative, got {length}")
    stops = [stop] if isinstance(stop, str) else list(stop or ())
    if "" in stops:
        raise ValueError(f"{voice.who}: a stop string must not be empty")
    rngs = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(len(starts))]
    return _rows(voice, starts, length, stops, options, rngs)


def _rows(
    voice: _Voice,
    starts: list[_Start],
    length: int | None,
    stops: list[str],
    options: decoding.Options,
    rngs: list[np.random.Generator],
) -> Iterator[tuple[int, Piece]]:
    """Run all rows in step. Each is fed its prompt, however long, and then what it writes."""
    writers = [_Writer(start.read, stops) for start in starts]
    seen = [set(start.ids) for start in starts]
    going = set(range(len(starts))) if length != 0 else set()
    feed = np.array([start.ids[0] for start in starts], np.int64)
    state, t = None, 0
    while going:
        scores, state = voice.step(feed, state)
        may_write = voice.may_write(scores.shape[-1])
        t += 1
        writing = [row for row in sorted(going) if t >= len(starts[row].ids)]
        feed = feed.copy()
        for row in going.difference(writing):
            feed[row] = starts[row].ids[t]
        if not writing:
            continue
        log_p = decoding.log_softmax(scores[writing])
        history = None
        if options.repetition_penalty != 1:
            history = [[i for i in seen[row] if i < len(may_write)] for row in writing]
        chosen = decoding.draw(
            decoding.log_distribution(
                np.where(may_write, log_p, -np.inf), **options._asdict(), history=history
            ),
            [rngs[row] for row in writing],
        )
        for row, i, log_p_i in zip(writing, chosen.tolist(), log_p, strict=True):
            feed[row] = i
            seen[row].add(i)
            writer = writers[row]
            pieces = [writer.push(i, float(log_p_i[i]))]
            if writer.stopped:
                going.discard(row)
            elif writer.count == length:
                pieces.append(writer.flush())
                going.discard(row)
            yield from ((row, piece) for piece in pieces if piece)


class _Writer:
    """Turn one row's tokens into pieces, holding back what may be the beginning of a stop."""

    def __init__(self, read: Callable[[int], str], stops: list[str]) -> None:
        self.read = read
        self.stops = stops
        self.held = ""
        self.tokens: list[tuple[int, int, float]] = []  # (where it begins in held, id, log p)
        self.count = 0
        self.stopped = False

    def push(self, i: int, log_p: float) -> Piece:
        """Add a token; return what is now certain to be written, perhaps nothing."""
        self.tokens.append((len(self.held), i, log_p))
        self.held += self.read(i)
        self.count += 1
        found = [at for at in map(self.held.find, self.stops) if at >= 0]
        if found:
            self.stopped = True
            return self._release(min(found))
        return self._release(len(self.held) - max(map(self._overlap, self.stops), default=0))

    def flush(self) -> Piece:
        """Return what was held back: nothing more will come."""
        piece = self._release(len(self.held))
        rest = self.tokens  # tokens without text, at the very end
        return Piece(
            piece, piece.ids + tuple(i for _, i, _ in rest),
            piece.log_probabilities + tuple(log_p for *_, log_p in rest),
        )  # fmt: skip

    def _overlap(self, stop: str) -> int:
        """Length of the longest beginning of a stop string that the held text ends with."""
        longest = min(len(stop) - 1, len(self.held))
        return next((n for n in range(longest, 0, -1) if self.held.endswith(stop[:n])), 0)

    def _release(self, size: int) -> Piece:
        """Cut the first `size` characters off the held text, with the tokens that begin there."""
        out = [token for token in self.tokens if token[0] < size]
        self.tokens = [(at - size, i, log_p) for at, i, log_p in self.tokens if at >= size]
        piece = Piece(self.held[:size], [i for _, i, _ in out], [log_p for *_, log_p in out])
        self.held = self.held[size:]
        return piece


def _stripped(tokens: Iterable[str]) -> set[str]:
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
