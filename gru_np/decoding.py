"""Choosing the next token: pure functions of a model's scores, and beam search.

Notation: V vocabulary, `x` scores (logits or log-probabilities; softmax ignores a common shift, and
so does everything here), `p = softmax(x)`. The last axis is the vocabulary; any axes before it are
rows decided independently. Scores may have any real dtype; the work is done in float64. A token
that cannot be chosen has the score -inf. Nothing is modified, and ties always go to the lowest id.

    x -> forbid -> penalize -> scale (temperature) -> keep_top_k -> keep_top_p -> keep_min_p -> draw

`log_distribution` is that chain without the draw, `sample` with it.

Sources: top-k, arXiv:1805.04833, section 5.4; top-p, arXiv:1904.09751, equations 2 and 3; min-p,
arXiv:2407.01082, section 3; repetition penalty, arXiv:1909.05858, section 4.1.
"""

import operator
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gru_np._checks import require_count
from gru_np._intake import as_floats

Scores = NDArray[np.float64]

# Masses such as 0.4 + 0.3 pass through log and exp before they are compared with 0.7.
ROUNDING = 1e-12


def as_scores(logits: ArrayLike, who: str = "decoding") -> Scores:
    """Return scores as float64 (..., V), refusing what no distribution can be made of.

    Parameters
    ----------
    logits : (..., V) real
        Scores; -inf is allowed for a token that cannot be chosen.
    who : str
        Name that begins the error.

    Returns
    -------
    (..., V) float64

    Raises
    ------
    ValueError
        If there is no vocabulary axis, a NaN or +inf, or a row without a finite score.

    Examples
    --------
    >>> from gru_np import decoding
    >>> decoding.as_scores([1, 2]).dtype
    dtype('float64')
    """
    x = as_floats(who, logits, "scores", real=True).astype(np.float64, copy=False)
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"{who}: scores must have shape (..., vocabulary), got {x.shape}")
    best = x.max(axis=-1)  # NaN if the row holds one
    if np.isfinite(best).all():
        return x
    if (wrong := np.isnan(x) | (x == np.inf)).any():
        where = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(
            f"{who}: scores must be numbers below infinity, got {x[where]} at {where}; "
            "the model has diverged"
        )
    raise ValueError(f"{who}: no token is left to choose from, every score is -inf")


def log_softmax(logits: ArrayLike) -> Scores:
    """Log-probabilities of scores.

    log p = x - max x - log Σ exp(x - max x)

    Parameters
    ----------
    logits : (..., V) real

    Returns
    -------
    (..., V) float64

    Raises
    ------
    ValueError
        As `as_scores`.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import decoding
    >>> np.exp(decoding.log_softmax([1000.0, 1000.0]))  # exp(1000) alone would overflow
    array([0.5, 0.5])
    """
    x = as_scores(logits, "log_softmax")
    x = x - x.max(axis=-1, keepdims=True)
    y: Scores = x - np.log(np.exp(x).sum(axis=-1, keepdims=True))
    return y


# ------------------------------------------------------------------------------ the filters


def forbid(logits: ArrayLike, ids: Collection[int]) -> Scores:
    """Exclude tokens.

    Parameters
    ----------
    logits : (..., V) real
    ids : collection of int
        Tokens that must not be chosen in any row, each in 0..V-1.

    Returns
    -------
    (..., V) float64
        The scores, -inf at `ids`.

    Raises
    ------
    ValueError
        If an id is outside the vocabulary, or nothing is left.

    Examples
    --------
    >>> from gru_np import decoding
    >>> decoding.forbid([0.1, 0.2, 0.3], [0])
    array([-inf,  0.2,  0.3])
    """
    x = as_scores(logits, "forbid").copy()
    x[..., _ids(ids, x.shape[-1], "forbid")] = -np.inf
    return as_scores(x, "forbid")


def penalize(logits: ArrayLike, ids: Iterable[int], penalty: float) -> Scores:
    """Make tokens less likely, as for those already written.

    x ← x - mean x;   x_i ← x_i / penalty if x_i > 0 else x_i · penalty,   for i in ids

    Parameters
    ----------
    logits : (V,) real
    ids : iterable of int
        Tokens to penalise; repeats count once.
    penalty : float
        Above 1 less likely, 1 unchanged, between 0 and 1 more likely.

    Returns
    -------
    (V,) float64

    Raises
    ------
    ValueError
        If the penalty is not a positive number, or an id is outside the vocabulary.

    Notes
    -----
    Source: arXiv:1909.05858, section 4.1, which divides raw scores. Differs in that scores are
    first measured from their mean (over the finite ones): otherwise probabilities and logits of
    the same model would be penalised differently.

    Examples
    --------
    >>> from gru_np import decoding
    >>> decoding.penalize([4.0, -2.0, -2.0], [0, 1], 2.0)
    array([ 2., -4., -2.])
    """
    x = as_scores(logits, "penalize")
    penalty = check_options("penalize", repetition_penalty=penalty).repetition_penalty
    seen = np.unique(_ids(ids, x.shape[-1], "penalize"))
    if penalty == 1 or not seen.size:
        return x
    x = np.asarray(x - x[np.isfinite(x)].mean())
    x[seen] = np.where(x[seen] > 0, x[seen] / penalty, x[seen] * penalty)
    return x


def scale(logits: ArrayLike, temperature: float) -> Scores:
    """Sharpen or flatten a distribution.

    p_i ∝ exp(x_i / temperature);   temperature 0: all mass on the largest x

    Parameters
    ----------
    logits : (..., V) real
    temperature : float
        Below 1 bolder towards the likely, above 1 towards the unlikely; 0 is greedy, and among
        equals takes the lowest id.

    Returns
    -------
    (..., V) float64
        The largest score is 0.

    Raises
    ------
    ValueError
        If the temperature is negative, infinite or NaN.

    Examples
    --------
    >>> from gru_np import decoding
    >>> decoding.scale([1.0, 3.0, 2.0], 0.5)
    array([-4.,  0., -2.])
    >>> decoding.scale([1.0, 3.0, 3.0], 0)
    array([-inf,   0., -inf])
    """
    x = as_scores(logits, "scale")
    temperature = check_options("scale", temperature=temperature).temperature
    if temperature == 0:
        greedy = np.full_like(x, -np.inf)
        np.put_along_axis(greedy, x.argmax(axis=-1)[..., None], 0.0, axis=-1)
        return greedy
    # After the shift the best score is 0 at any temperature; the others may overflow to -inf.
    with np.errstate(over="ignore"):
        y: Scores = (x - x.max(axis=-1, keepdims=True)) / temperature
    return y


def keep_top_k(logits: ArrayLike, k: int) -> Scores:
    """Keep the k most likely tokens.

    Parameters
    ----------
    logits : (..., V) real
    k : int
        How many, at least 1. Exactly k are kept (ties: lowest ids first), all if k >= V.

    Returns
    -------
    (..., V) float64
        The scores, -inf outside the k.

    Raises
    ------
    ValueError
        If k < 1.

    Examples
    --------
    >>> from gru_np import decoding
    >>> decoding.keep_top_k([3.0, 1.0, 2.0, 2.0], 2)
    array([  3., -inf,   2., -inf])
    """
    x = as_scores(logits, "keep_top_k")
    k = check_options("keep_top_k", top_k=k).top_k or 0
    V = x.shape[-1]
    if k >= V:
        return x
    kth = np.partition(x, V - k, axis=-1)[..., V - k, None]
    above, equal = x > kth, x == kth
    room = k - above.sum(axis=-1, keepdims=True)
    return np.where(above | (equal & (equal.cumsum(axis=-1) <= room)), x, -np.inf)


def keep_top_p(logits: ArrayLike, p: float) -> Scores:
    """Keep the smallest set of most likely tokens whose probability reaches p (nucleus).

    Parameters
    ----------
    logits : (..., V) real
    p : float
        The mass to reach, 0 < p <= 1; 1 keeps everything. The most likely token always stays.

    Returns
    -------
    (..., V) float64
        The scores, -inf outside the set.

    Raises
    ------
    ValueError
        If p is not in (0, 1].

    Notes
    -----
    Source: arXiv:1904.09751, equation 2. Ties go to the lowest ids; a mass within 1e-12 of p has
    reached it.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import decoding
    >>> np.isfinite(decoding.keep_top_p(np.log([0.1, 0.4, 0.3, 0.2]), 0.7))
    array([False,  True,  True, False])
    """
    x = as_scores(logits, "keep_top_p")
    p = check_options("keep_top_p", top_p=p).top_p or 1.0
    if p == 1:
        return x
    order = np.argsort(-x, axis=-1, kind="stable")
    mass = np.exp(np.take_along_axis(log_softmax(x), order, axis=-1)).cumsum(axis=-1)
    before = np.concatenate([np.zeros_like(mass[..., :1]), mass[..., :-1]], axis=-1)
    keep = np.empty(x.shape, bool)
    np.put_along_axis(keep, order, before < p - ROUNDING, axis=-1)
    # A p as small as the rounding still keeps the first.
    np.put_along_axis(keep, order[..., :1], True, axis=-1)
    return np.where(keep, x, -np.inf)


def keep_min_p(logits: ArrayLike, p: float) -> Scores:
    """Keep the tokens at least p times as likely as the most likely one.

    p_i >= p · max p

    Parameters
    ----------
    logits : (..., V) real
    p : float
        The share, 0 <= p <= 1; 0 keeps everything, 1 only the maximum and what equals it.

    Returns
    -------
    (..., V) float64
        The scores, -inf outside the set.

    Raises
    ------
    ValueError
        If p is not in [0, 1].

    Notes
    -----
    Source: arXiv:2407.01082, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import decoding
    >>> np.isfinite(decoding.keep_min_p(np.log([0.1, 0.4, 0.3, 0.2]), 0.5))
    array([False,  True,  True,  True])
    """
    x = as_scores(logits, "keep_min_p")
    p = check_options("keep_min_p", min_p=p).min_p or 0.0
    relative = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.where(relative >= p * (1 - ROUNDING), x, -np.inf)


# ------------------------------------------------------------------------------ the whole chain


class Options(NamedTuple):
    """Settings of `sample`, checked: see there."""

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0


def check_options(
    who: str,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
) -> Options:
    """Check the settings of a draw before a long run begins.

    Parameters
    ----------
    who : str
        Name that begins the error.
    temperature, top_k, top_p, min_p, repetition_penalty
        As `sample`.

    Returns
    -------
    Options
        The settings as Python numbers.

    Raises
    ------
    ValueError
        In one sentence, for the first setting without a meaning.
    TypeError
        If top_k is not an integer.

    Examples
    --------
    >>> from gru_np import decoding
    >>> decoding.check_options("generate", top_k=40).top_k
    40
    """
    # "not (a <= x)" rather than "x < a", so that NaN is refused too
    temperature, repetition_penalty = float(temperature), float(repetition_penalty)
    if not 0 <= temperature < np.inf:
        raise ValueError(
            f"{who}: temperature must be a finite number >= 0, got {temperature}; "
            "0 always takes the most likely token"
        )
    if top_k is not None:
        try:
            top_k = operator.index(top_k)
        except TypeError:
            raise TypeError(f"{who}: top_k must be an integer >= 1, got {top_k!r}") from None
        if top_k < 1:
            raise ValueError(f"{who}: top_k must be at least 1, got {top_k}; None keeps all")
    if top_p is not None:
        top_p = float(top_p)
        if not 0 < top_p <= 1:
            raise ValueError(f"{who}: top_p must be above 0 and at most 1, got {top_p}")
    if min_p is not None:
        min_p = float(min_p)
        if not 0 <= min_p <= 1:
            raise ValueError(f"{who}: min_p must be between 0 and 1, got {min_p}")
    if not 0 < repetition_penalty < np.inf:
        raise ValueError(
            f"{who}: repetition_penalty must be a positive number, got {repetition_penalty}; "
            "1 is none"
        )
    return Options(temperature, top_k, top_p, min_p, repetition_penalty)


def log_distribution(
    logits: ArrayLike,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    history: Any = None,
    forbidden: Collection[int] = (),
) -> Scores:
    """Log-probabilities that `sample` draws from.

    Parameters
    ----------
    logits : (..., V) real
        Scores of a model.
    temperature, top_k, top_p, min_p, repetition_penalty, history, forbidden
        As `sample`.

    Returns
    -------
    (..., V) float64
        Each row sums to 1 in probability; -inf where a token is excluded.

    Raises
    ------
    ValueError
        For settings or scores without a meaning, or when nothing is left to choose.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import decoding
    >>> np.exp(decoding.log_distribution(np.log([0.5, 0.3, 0.2]), top_k=2)).round(3)
    array([0.625, 0.375, 0.   ])
    """
    x = as_scores(logits, "sample")
    options = check_options("sample", temperature, top_k, top_p, min_p, repetition_penalty)
    if len(forbidden):
        x = forbid(x, forbidden)
    if options.repetition_penalty != 1 and history is not None:
        if x.ndim == 1:
            x = penalize(x, history, options.repetition_penalty)
        else:
            x = np.stack([penalize(*row, options.repetition_penalty) for row in _rows(x, history)])
    x = scale(x, options.temperature)
    if options.top_k is not None:
        x = keep_top_k(x, options.top_k)
    if options.top_p is not None:
        x = keep_top_p(x, options.top_p)
    if options.min_p is not None:
        x = keep_min_p(x, options.min_p)
    return log_softmax(x)


def sample(
    logits: ArrayLike,
    rng: np.random.Generator | Sequence[np.random.Generator],
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    history: Any = None,
    forbidden: Collection[int] = (),
) -> Any:
    """Draw the next token.

    Parameters
    ----------
    logits : (V,) or (B, V) real
        Scores: logits or log-probabilities.
    rng : Generator, or sequence of B
        Source of one uniform number a row, whatever the settings. One generator for each row
        makes every row independent of its neighbours.
    temperature : float
        See `scale`; 0 takes the most likely token.
    top_k : int, optional
        See `keep_top_k`.
    top_p : float, optional
        See `keep_top_p`: of what top_k left, at this temperature.
    min_p : float, optional
        See `keep_min_p`.
    repetition_penalty : float
        See `penalize`; 1 is none.
    history : sequence of int, or B of them
        The tokens already written in each row, for the penalty.
    forbidden : collection of int
        Tokens never to choose.

    Returns
    -------
    int, or (B,) int64

    Raises
    ------
    ValueError
        For settings or scores without a meaning, or when nothing is left to choose.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import decoding
    >>> logits = np.log([0.1, 0.6, 0.3])
    >>> decoding.sample(logits, np.random.default_rng(0), temperature=0)
    1
    >>> decoding.sample([logits] * 5, np.random.default_rng(0))
    array([1, 1, 0, 0, 2])
    """
    log_p = log_distribution(
        logits, temperature, top_k, top_p, min_p, repetition_penalty, history, forbidden
    )
    return draw(log_p, rng)


def draw(log_p: Scores, rng: np.random.Generator | Sequence[np.random.Generator]) -> Any:
    """Draw from log-probabilities by inverting the cumulative distribution.

    Parameters
    ----------
    log_p : (V,) or (B, V) float64
        As `log_distribution` returns them.
    rng : Generator, or sequence of B

    Returns
    -------
    int, or (B,) int64
        Never a token of probability 0.

    Raises
    ------
    ValueError
        If the number of generators is not the number of rows.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import decoding
    >>> decoding.draw(np.array([-np.inf, 0.0]), np.random.default_rng(0))
    1
    """
    if log_p.ndim not in (1, 2):
        raise ValueError(f"sample: scores must have shape (V,) or (B, V), got {log_p.shape}")
    rows = np.atleast_2d(log_p)
    if isinstance(rng, np.random.Generator):
        u = rng.random(len(rows))
    else:
        if len(rng) != len(rows):
            raise ValueError(f"sample: {len(rows)} rows need as many generators, got {len(rng)}")
        u = np.array([one.random() for one in rng])
    mass = np.exp(rows).cumsum(axis=-1)
    # The first token whose cumulative mass exceeds u. Rounding may lift u · total up to the total:
    # then it is the last token that has any mass.
    ids = (mass <= u[:, None] * mass[:, -1:]).sum(axis=-1)
    last = (mass < mass[:, -1:]).sum(axis=-1)
    ids = np.minimum(ids, last)
    return int(ids[0]) if log_p.ndim == 1 else ids


# ------------------------------------------------------------------------------ beam search


class Beam(NamedTuple):
    """One hypothesis of `beam_search`."""

    ids: tuple[int, ...]
    log_probabilities: tuple[float, ...]  # nats, of each id
    score: float  # log p / len(ids) ** length_norm, what beams are compared by
    ended: bool  # the last id is one of end_ids


class _Live(NamedTuple):
    """A hypothesis that goes on."""

    ids: tuple[int, ...]
    log_probabilities: tuple[float, ...]
    log_p: float  # their sum


def beam_search(
    step: Callable[[NDArray[np.int64], Any], tuple[ArrayLike, Any]],
    state: Any,
    start_logits: ArrayLike,
    length: int,
    beam_width: int = 4,
    length_norm: float = 0.0,
    end_ids: Collection[int] = (),
    forbidden: Collection[int] = (),
) -> list[Beam]:
    """Search the most likely continuations.

    score(y) = log p(y) / |y| ** length_norm,   log p(y) = Σ_t log p(y_t | y_1 ... y_{t-1})

    Parameters
    ----------
    step : function
        `step(ids, state) -> (logits, state)`, pure: ids (K,) int64, logits (K, V), the state a tree
        (list, tuple, dict) of arrays whose first axis is K, and None.
    state : tree
        The state after the prompt, one row.
    start_logits : (V,) real
        Scores of the first token, from that state.
    length : int
        The most tokens to write, at least 1.
    beam_width : int
        Hypotheses kept at each step. At V ** length and more the search is exhaustive.
    length_norm : float
        0 compares log-probabilities, which favours short endings; 1 their mean per token.
    end_ids : collection of int
        Tokens that end a hypothesis (and are part of it).
    forbidden : collection of int
        Tokens never to choose; their probability is not given to the others.

    Returns
    -------
    list of Beam
        At most `beam_width`, the best first; ties keep the order in which they were found.

    Raises
    ------
    ValueError
        For a length or width below 1, a negative length_norm, or scores without a meaning.

    Notes
    -----
    A step keeps the best continuations that have not ended until it has `beam_width` of them; ended
    ones met on the way are put aside. The search ends early once no live hypothesis could reach the
    worst of `beam_width` ended ones: log p only falls, so log p / length ** length_norm bounds it.

    Examples
    --------
    The greedy first token, 0 (0.6), leads to 0.6 * 0.5; the best pair begins with the other:

    >>> import numpy as np
    >>> from gru_np import decoding
    >>> step = lambda ids, state: (np.log([[0.5, 0.5], [0.9, 0.1]])[ids], None)
    >>> best, *_ = decoding.beam_search(step, None, np.log([0.6, 0.4]), length=2, beam_width=2)
    >>> best.ids, round(float(np.exp(best.score)), 2)
    ((1, 0), 0.36)
    """
    require_count("beam_search", "length", length)
    require_count("beam_search", "beam_width", beam_width)
    if not 0 <= length_norm < np.inf:
        raise ValueError(f"beam_search: length_norm must be a number >= 0, got {length_norm}")
    start = as_scores(start_logits, "beam_search")
    if start.ndim != 1:
        raise ValueError(f"beam_search: start_logits must have shape (V,), got {start.shape}")
    V = len(start)
    ends = frozenset(_ids(end_ids, V, "beam_search").tolist())
    barred = _ids(forbidden, V, "beam_search")
    log_p = log_softmax(start[None])
    live = [_Live((), (), 0.0)]
    finished: list[Beam] = []

    def finish(y: _Live, ended: bool) -> None:
        score = y.log_p / len(y.ids) ** length_norm
        finished.append(Beam(y.ids, y.log_probabilities, score, ended))

    for t in range(1, length + 1):
        log_p[:, barred] = -np.inf
        total = (np.array([y.log_p for y in live])[:, None] + log_p).ravel()
        # Each row has at most len(ends) ended continuations: these hold beam_width others.
        order = np.argsort(-total, kind="stable")[: beam_width * (1 + len(ends))]
        before, live, rows = live, [], []
        for candidate in order[np.isfinite(total[order])].tolist():
            row, token = divmod(candidate, V)
            y = _Live(
                (*before[row].ids, token),
                (*before[row].log_probabilities, float(log_p[row, token])),
                float(total[candidate]),
            )
            if token in ends:
                finish(y, ended=True)
            else:
                live.append(y)
                rows.append(row)
                if len(live) == beam_width:
                    break
        if not live:
            break
        if t == length:
            for y in live:
                finish(y, ended=False)
            break
        if len(finished) >= beam_width:
            worst = sorted((beam.score for beam in finished), reverse=True)[beam_width - 1]
            if worst >= live[0].log_p / length**length_norm:
                break
        logits, state = step(np.array([y.ids[-1] for y in live]), select_rows(state, rows))
        log_p = log_softmax(logits)
    return sorted(finished, key=lambda beam: -beam.score)[:beam_width]


def select_rows(state: Any, rows: Sequence[int]) -> Any:
    """Take rows of every array in a state.

    Parameters
    ----------
    state : tree
        Arrays with the batch as first axis, None, or lists, tuples and dicts of them.
    rows : sequence of int
        May repeat and reorder.

    Returns
    -------
    tree
        Copies; the state given is not modified.

    Raises
    ------
    TypeError
        For anything else in the tree.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import decoding
    >>> decoding.select_rows([np.array([[1.0], [2.0]]), None], [1, 1])
    [array([[2.],
           [2.]]), None]
    """
    if state is None:
        return None
    if isinstance(state, np.ndarray):
        return state[np.asarray(rows, dtype=np.intp)]
    if isinstance(state, dict):
        return {key: select_rows(value, rows) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        parts = [select_rows(value, rows) for value in state]
        return parts if isinstance(state, list) else tuple(parts)
    raise TypeError(
        "beam_search: a state must be made of arrays, None, lists, tuples and dicts, "
        f"got {type(state).__name__}"
    )


# ------------------------------------------------------------------------------ helpers


def _ids(ids: Iterable[int], V: int, who: str) -> NDArray[np.int64]:
    """Token ids as an array, each within the vocabulary."""
    array = np.array([operator.index(i) for i in ids], dtype=np.int64)
    if array.size and (array.min() < 0 or array.max() >= V):
        wrong = array[(array < 0) | (array >= V)][0]
        raise ValueError(f"{who}: token ids must be in 0..{V - 1}, got {wrong}")
    return array


def _rows(x: Scores, history: Any) -> list[tuple[Scores, Any]]:
    """Each row of a batch with its history."""
    if x.ndim != 2 or len(history) != len(x):
        raise ValueError(
            f"sample: scores of shape {x.shape} need one history for each row, got {len(history)}"
        )
    return list(zip(x, history, strict=True))
