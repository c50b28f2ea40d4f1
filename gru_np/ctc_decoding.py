"""From CTC scores to labels: best path, prefix beam search with a language model, alignment.

Notation: T time, V outputs, the blank among them. `log_y` (T, V) holds ln y_t(k), as
`gru_np.ctc.log_softmax` gives it; only differences within a step matter to greedy decoding. Frames
count from 0; a span (label, begin, end) covers the frames begin .. end - 1.

Sources: Graves et al. 2006 (ICML), section 3.2 (best path, prefix search); arXiv:1408.2873,
algorithm 1 (prefix beam search with a language model); arXiv:1503.03535, eq. 8 (shallow fusion).
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from gru_np._aliases import Array
from gru_np._checks import require_count, require_rank
from gru_np._intake import REAL, as_array, as_integers
from gru_np.ctc import NEVER, extend, log_softmax


class Span(NamedTuple):
    """A label and the frames it was heard in."""

    label: int
    begin: int
    end: int


class Hypothesis(NamedTuple):
    """A labelling, its score in nats, and the part of it that is CTC's: ln p(labels | x)."""

    labels: tuple[int, ...]
    score: float
    log_p: float


# --------------------------------------------------------------------------------- the best path


class Greedy:
    """Best path decoding of scores that arrive in pieces of any length.

    The likeliest output at each step, repeats merged, blanks dropped.

    Parameters
    ----------
    blank : int
        The output that stands for "nothing new".

    Attributes
    ----------
    spans : list of Span
        All labels so far; the end of the last may still move.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.ctc_decoding import Greedy
    >>> path = np.eye(3)[[0, 1, 1, 0, 1, 2]]
    >>> decoder = Greedy()
    >>> decoder.feed(path[:2]), decoder.feed(path[2:])
    ([1], [1, 2])
    >>> decoder.spans[0]
    Span(label=1, begin=1, end=3)
    """

    def __init__(self, blank: int = 0):
        self.blank = require_count("Greedy", "blank", blank, least=0)
        self.spans: list[Span] = []
        self.frames = 0
        self._before = blank

    def feed(self, log_y: Array) -> list[int]:
        """Take scores (T, V) of the next steps; give the labels that are new."""
        new = []
        for label in _scores("greedy", log_y, self.blank).argmax(axis=-1).tolist():
            if label != self.blank:
                if label == self._before:
                    self.spans[-1] = self.spans[-1]._replace(end=self.frames + 1)
                else:
                    self.spans.append(Span(label, self.frames, self.frames + 1))
                    new.append(label)
            self._before = label
            self.frames += 1
        return new


def greedy(log_y: Array, blank: int = 0) -> list[Span]:
    """Best path decoding: the likeliest output at each step, repeats merged, blanks dropped.

    Parameters
    ----------
    log_y : (T, V)
        Scores; any increasing function of the probabilities will do.
    blank : int

    Returns
    -------
    list of Span

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.ctc_decoding import greedy
    >>> [span.label for span in greedy(np.eye(3)[[0, 1, 1, 0, 1, 2]])]
    [1, 1, 2]
    """
    decoder = Greedy(blank)
    decoder.feed(log_y)
    return decoder.spans


def _scores(who: str, log_y: Any, blank: int) -> Array:
    """Take in scores (T, V), the blank among them and none of them NaN."""
    log_y = as_array(who, log_y, "log_y", REAL)
    require_rank(who, "log_y", log_y, ("time", "outputs"))
    if not require_count(who, "blank", blank, least=0) < log_y.shape[1]:
        raise ValueError(f"{who}: blank must be one of {log_y.shape[1]} outputs, got {blank}")
    if log_y.dtype.kind == "f" and (wrong := np.isnan(log_y).any(axis=1)).any():
        raise ValueError(f"{who}: log_y must hold numbers, got NaN at time {int(wrong.argmax())}")
    return log_y


# --------------------------------------------------------------------------------- the alignment


def align(log_y: Array, labels: Sequence[int], blank: int = 0) -> list[Span]:
    """Find when each of the given labels was said: the likeliest alignment of all.

    The recursion of α with the maximum in the place of the sum (Viterbi).

    Parameters
    ----------
    log_y : (T, V)
        Log-probabilities.
    labels : sequence of int
        What was said, without blanks.
    blank : int

    Returns
    -------
    list of Span
        One for each label, in order.

    Raises
    ------
    ValueError
        If T is too short for the labels.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.ctc_decoding import align
    >>> log_y = np.log(np.full((6, 3), 0.1) + 0.7 * np.eye(3)[[0, 1, 1, 0, 1, 2]])
    >>> align(log_y, [1, 1, 2])
    [Span(label=1, begin=1, end=3), Span(label=1, begin=4, end=5), Span(label=2, begin=5, end=6)]
    """
    log_y = _scores("align", log_y, blank)
    T, V = log_y.shape
    wanted = as_array("align", labels, "labels", REAL)
    if wanted.size:
        wanted = as_integers("align", wanted, "labels")
    require_rank("align", "labels", wanted, ("labels",))
    labels = wanted.tolist()
    for label in labels:
        if not 0 <= label < V or label == blank:
            raise ValueError(
                f"align: labels must be in 0..{V - 1} and not the blank, {blank}, got {label}"
            )
    extended, skip = extend(np.array([labels], int), np.array([len(labels)]), blank)
    extended, skip = extended[0], skip[0]  # (S,)
    S = len(extended)
    repeats = sum(a == b for a, b in zip(labels[1:], labels[:-1], strict=True))
    if len(labels) + repeats > T:
        raise ValueError(
            f"align: {len(labels)} labels with {repeats} repeats need at least "
            f"{len(labels) + repeats} time steps, got {T}"
        )
    if T == 0:
        return []
    scores = log_y[:, extended]  # (T, S)
    best = np.where(np.arange(S) < 2, scores[0], NEVER)
    came_from = np.zeros((T, S), int)  # 0, 1 or 2 states back
    for t in range(1, T):
        choices = np.full((3, S), NEVER)
        choices[0] = best
        choices[1, 1:] = best[:-1]
        choices[2, 2:] = np.where(skip[2:], best[:-2], NEVER)
        came_from[t] = choices.argmax(axis=0)
        best = scores[t] + choices.max(axis=0)
    s = S - 1 if S == 1 or best[-1] >= best[-2] else S - 2
    states = np.empty(T, int)
    for t in reversed(range(T)):
        states[t] = s
        s -= came_from[t, s]
    spans = []
    for i, label in enumerate(labels):
        frames = np.flatnonzero(states == 2 * i + 1)
        spans.append(Span(int(label), int(frames[0]), int(frames[-1]) + 1))
    return spans


# ------------------------------------------------------------------------------- language models


class LanguageModel(Protocol):
    """What prefix beam search asks of a language model over CTC labels."""

    def start(self) -> Any:
        """Give the state of an empty prefix."""

    def scores(self, state: Any) -> Array:
        """Give ln p(label | prefix) for every label, (V,)."""

    def advance(self, states: list[Any], labels: list[int]) -> list[Any]:
        """Give the states of prefixes with one more label each."""

    def finish(self, state: Any) -> float:
        """Give what is added to the score of a prefix that ends here."""


class _Context(NamedTuple):
    log_p: Array  # (tokens,) of what comes next
    states: list[Any]  # of the model, one row each


class CharacterModel:
    """A model of ours over characters, as prefix beam search wants it.

    Parameters
    ----------
    model : Sequential
        Embedding, GRU layers, Dense over its own tokens: anything with `step`.
    tokens : sequence of int
        The model's token for each CTC label; -1 for a label it does not know (the blank, say).
    begin : int
        The token that stands before the first.
    unknown : float
        ln p of a label without a token.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import GRU, Dense, Embedding, Sequential
    >>> from gru_np.ctc_decoding import CharacterModel
    >>> model = Sequential([Embedding(3, 4), GRU(5, return_sequences=True), Dense(3)], seed=0)
    >>> model.build((None, None))
    >>> language = CharacterModel(model, tokens=[-1, 1, 2], begin=0)
    >>> language.scores(language.start()).shape
    (3,)
    """

    def __init__(self, model: Any, tokens: Sequence[int], begin: int, unknown: float = -20.0):
        self.model = model
        self.tokens = as_integers("CharacterModel", tokens, "tokens")
        require_rank("CharacterModel", "tokens", self.tokens, ("labels",))
        self.begin = require_count("CharacterModel", "begin", begin, least=0)
        self.unknown = unknown

    def start(self) -> _Context:
        """Give the state before the first character."""
        return _step(self.model, [self.begin], None)[0]

    def scores(self, state: _Context) -> Array:
        """Give ln p of every label."""
        return np.where(self.tokens >= 0, state.log_p[self.tokens], self.unknown)

    def advance(self, states: list[_Context], labels: list[int]) -> list[_Context]:
        """Take one more character each, all in one step of the model."""
        known = [max(int(self.tokens[label]), 0) for label in labels]
        return _step(self.model, known, states)

    def finish(self, state: _Context) -> float:
        """Add nothing: every character has been counted."""
        return 0.0


def _step(model: Any, tokens: list[int], contexts: list[_Context] | None) -> list[_Context]:
    """Feed one token to each context, as one batch."""
    before = None
    if contexts is not None:
        layers = zip(*(context.states for context in contexts), strict=True)
        before = [None if rows[0] is None else np.concatenate(rows) for rows in layers]
    y, after = model.step(np.asarray(tokens), before, logits=True)
    log_p = log_softmax(np.asarray(y, np.float64))
    return [
        _Context(log_p[i], [None if s is None else s[i : i + 1] for s in after])
        for i in range(len(tokens))
    ]


class WordModel:
    """A model of ours over words, counted whenever a word is complete.

    Parameters
    ----------
    model : Sequential
        Embedding, GRU layers, Dense over its own words: anything with `step`.
    symbols : sequence of str
        The character of each CTC label; "" for the blank.
    words : dict of str to int
        The model's token of each word.
    begin : int
        The token that stands before the first word.
    unknown : float
        ln p of a word that is not in `words`.
    separator : str
        The symbol between words.

    Examples
    --------
    >>> from gru_np import GRU, Dense, Embedding, Sequential
    >>> from gru_np.ctc_decoding import WordModel
    >>> model = Sequential([Embedding(3, 4), GRU(5, return_sequences=True), Dense(3)], seed=0)
    >>> model.build((None, None))
    >>> language = WordModel(model, ["", " ", "a"], {"a": 1, "aa": 2}, begin=0)
    >>> (state,) = language.advance([language.start()], [2])
    >>> bool(language.scores(state)[1] < 0), float(language.scores(state)[2])  # "a ", "aa"
    (True, 0.0)
    """

    def __init__(
        self,
        model: Any,
        symbols: Sequence[str],
        words: dict[str, int],
        begin: int,
        unknown: float = -15.0,
        separator: str = " ",
    ):
        self.model = model
        self.symbols = list(symbols)
        self.words = words
        self.begin = begin
        self.unknown = unknown
        self.separator = separator

    def start(self) -> tuple[_Context, str]:
        """Give the state before the first word."""
        return _step(self.model, [self.begin], None)[0], ""

    def scores(self, state: tuple[_Context, str]) -> Array:
        """Give 0 for a character, ln p of the word that is complete for a separator."""
        scores = np.zeros(len(self.symbols))
        if self.separator in self.symbols:
            scores[self.symbols.index(self.separator)] = self.finish(state)
        return scores

    def advance(
        self, states: list[tuple[_Context, str]], labels: list[int]
    ) -> list[tuple[_Context, str]]:
        """Spell on; where a word is complete, the model reads it."""
        new: list[tuple[_Context, str]] = list(states)
        complete: list[tuple[int, int]] = []
        for i, (label, (context, word)) in enumerate(zip(labels, states, strict=True)):
            symbol = self.symbols[label]
            if symbol != self.separator:
                new[i] = context, word + symbol
            elif word in self.words:
                complete.append((i, self.words[word]))
            else:
                new[i] = context, ""
        if complete:
            rows, tokens = zip(*complete, strict=True)
            read = _step(self.model, list(tokens), [states[i][0] for i in rows])
            for i, after in zip(rows, read, strict=True):
                new[i] = after, ""
        return new

    def finish(self, state: tuple[_Context, str]) -> float:
        """Give ln p of the word spelled so far."""
        context, word = state
        if not word:
            return 0.0
        return float(context.log_p[self.words[word]]) if word in self.words else self.unknown


# ------------------------------------------------------------------------------------ the search


def prefix_beam_search(
    log_y: Array,
    beam_width: int = 16,
    blank: int = 0,
    language_model: LanguageModel | None = None,
    weight: float = 0.5,
    label_bonus: float = 0.0,
    least_log_p: float = -12.0,
) -> list[Hypothesis]:
    """Find the likeliest labellings, each summed over all of its alignments.

        score(l) = ln p(l | x) + weight · ln p_LM(l) + label_bonus · |l|

    Parameters
    ----------
    log_y : (T, V)
        Log-probabilities.
    beam_width : int
        Prefixes that are kept from step to step.
    blank : int
    language_model : LanguageModel, optional
        `CharacterModel` or `WordModel`, or anything with the same four methods.
    weight : float
        Of the language model.
    label_bonus : float
        Nats for each label, against a language model's liking for short answers.
    least_log_p : float
        Outputs less likely than this at a step do not begin a new label there. -inf tries all.

    Returns
    -------
    list of Hypothesis
        At most `beam_width`, best first.

    Notes
    -----
    With a beam that holds every prefix and `least_log_p=-inf` the result is exact:
    log_p is minus `gru_np.ctc.ctc_loss`. Source: arXiv:1408.2873, algorithm 1.

    Examples
    --------
    The best path is blank, blank (0.36), yet "1" has three paths that together reach 0.64.

    >>> import numpy as np
    >>> from gru_np.ctc_decoding import greedy, prefix_beam_search
    >>> log_y = np.log([[0.6, 0.4], [0.6, 0.4]])
    >>> greedy(log_y)
    []
    >>> best = prefix_beam_search(log_y)[0]
    >>> best.labels, round(float(np.exp(best.log_p)), 2)
    ((1,), 0.64)
    """
    require_count("prefix_beam_search", "beam_width", beam_width)
    log_y = _scores("prefix_beam_search", log_y, blank).astype(np.float64)
    for name, value in (("weight", weight), ("label_bonus", label_bonus)):
        if not math.isfinite(value):
            raise ValueError(f"prefix_beam_search: {name} must be finite, got {value}")
    if not least_log_p < math.inf:
        raise ValueError(
            f"prefix_beam_search: least_log_p must be a number below infinity, got {least_log_p}"
        )
    start = language_model.start() if language_model else None
    # prefix -> [ln p ending in a blank, ln p ending in its last label, bonus, state]
    beams: dict[tuple[int, ...], list[Any]] = {(): [0.0, NEVER, 0.0, start]}
    for row in log_y:
        candidates = [k for k in np.flatnonzero(row >= least_log_p).tolist() if k != blank]
        new: dict[tuple[int, ...], list[Any]] = {}

        def entry(prefix: tuple[int, ...], bonus: float, state: Any, new: Any = new) -> list[Any]:
            return new.setdefault(prefix, [NEVER, NEVER, bonus, state])

        for prefix, (ends_blank, ends_label, bonus, state) in beams.items():
            both = np.logaddexp(ends_blank, ends_label)
            stays = entry(prefix, bonus, state)
            stays[0] = np.logaddexp(stays[0], both + row[blank])
            if prefix:
                stays[1] = np.logaddexp(stays[1], ends_label + row[prefix[-1]])
            lm = weight * language_model.scores(state) if language_model else None
            for k in candidates:
                # a label repeated without a blank between is the same label, held
                before = ends_blank if prefix and prefix[-1] == k else both
                if before <= NEVER / 2:
                    continue
                longer = (*prefix, k)
                known = beams.get(longer)
                extra = bonus + label_bonus + (0.0 if lm is None else float(lm[k]))
                grows = entry(longer, extra, known[3] if known else None)
                grows[1] = np.logaddexp(grows[1], before + row[k])
        kept = sorted(
            new.items(), key=lambda item: -(np.logaddexp(item[1][0], item[1][1]) + item[1][2])
        )[:beam_width]
        if language_model:
            _advance(language_model, kept, beams)
        beams = dict(kept)
    found = []
    for prefix, (ends_blank, ends_label, bonus, state) in beams.items():
        log_p = float(np.logaddexp(ends_blank, ends_label))
        if language_model:
            bonus = bonus + weight * language_model.finish(state)
        found.append(Hypothesis(prefix, log_p + float(bonus), log_p))
    return sorted(found, key=lambda hypothesis: -hypothesis.score)


def _advance(language_model: LanguageModel, kept: Any, beams: Any) -> None:
    """Give the new prefixes among the kept their states, in one step of the language model."""
    new = [(prefix, entry) for prefix, entry in kept if entry[3] is None]
    if new:
        states = language_model.advance(
            [beams[prefix[:-1]][3] for prefix, _ in new], [prefix[-1] for prefix, _ in new]
        )
        for (_, entry), state in zip(new, states, strict=True):
            entry[3] = state
