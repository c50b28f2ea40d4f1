"""The loop that writes: rows in step, each token drawn, what may begin a stop string held back.

Notation: B prompts, V vocabulary of the model.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from gru_np import decoding
from gru_np.text.voice import Start, Voice


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


def write_rows(
    voice: Voice,
    starts: list[Start],
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
    voice: Voice,
    starts: list[Start],
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
