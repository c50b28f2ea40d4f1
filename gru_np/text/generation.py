"""Writing text with a model, one token at a time, and asking it what comes next.

A model here is anything with `step(ids, state) -> (scores, state)`: ids (B,) int, scores (B, V),
state None at the beginning and then whatever the model returned. Scores are taken as logits from a
`step` that has a `logits` argument; else they are probabilities if every row is one, or logits.

A tokenizer is anything with `encode(text)` and `decode(ids)`; those of `gru_np.text` also say which
ids are never written (`special_ids`: padding, unknown words) and read ids one by one (`decoder`).
Without the `tokenizer` argument it is the model's own, `tokenizer_of(model)`.

Notation: B prompts, V vocabulary of the model.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from gru_np import decoding
from gru_np.text.voice import Voice, stripped_tokens
from gru_np.text.writing import Generated, Piece, write_rows


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
        What to continue; it is not repeated. Empty: as after three newlines, or if the vocabulary
        has none, after its most frequent token.
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
    voice = Voice("generate", model, tokenizer, allowed, forbidden)
    writing = write_rows(voice, [voice.prompt(prompt)], length, stop, options, seed)
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
    voice = Voice("generate_batch", model, tokenizer, allowed, forbidden)
    starts = [voice.prompt(prompt) for prompt in prompts]
    rows: list[list[Piece]] = [[] for _ in prompts]
    for row, piece in write_rows(voice, starts, length, stop, options, seed):
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
    voice = Voice("generate_beams", model, tokenizer, allowed, forbidden)
    start = voice.prompt(prompt)
    scores, state = voice.feed(start.ids)
    may_write = voice.may_write(scores.shape[-1])
    wanted = stripped_tokens(end)
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
    voice = Voice("predict_next", model, tokenizer)
    scores, _ = voice.feed(voice.prompt(context).ids)
    p = np.exp(decoding.log_softmax(scores[0]))
    likeliest = [i for i in np.argsort(-p, kind="stable") if voice.may_write(len(p))[i]]
    return [(voice.token(int(i)), float(p[i])) for i in likeliest[:k]]
