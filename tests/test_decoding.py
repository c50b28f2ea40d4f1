"""Choosing tokens: every filter by its definition, draws by their statistics, beams by force."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gru_np import decoding

SCORES = hnp.arrays(
    np.float64, st.integers(1, 8), elements=st.sampled_from([-3.0, -1.0, 0.0, 0.5, 2.0, -np.inf])
).filter(lambda x: np.isfinite(x).any())


def kept(x):
    """Ids that may still be chosen."""
    return np.flatnonzero(np.isfinite(x)).tolist()


def by_likelihood(x):
    return sorted(range(len(x)), key=lambda i: (-x[i], i))


# ------------------------------------------------------------------------------ the filters


def test_log_softmax_neither_overflows_nor_loses_a_tail():
    np.testing.assert_allclose(decoding.log_softmax([1e4, 1e4, -1e4])[2], -2e4 - np.log(2))
    assert decoding.log_softmax(np.float32([[1, 2], [3, 4]])).dtype == np.float64
    assert decoding.log_softmax([0.0, -np.inf]).tolist() == [0.0, -np.inf]


def test_temperature_0_takes_the_maximum_and_among_equals_the_lowest_id():
    assert decoding.scale([1.0, 5.0, 5.0], 0).tolist() == [-np.inf, 0, -np.inf]
    rng = np.random.default_rng(0)
    scores = [[0.0, 2, 2], [3, 3, 3], [1, -np.inf, 4]]
    assert decoding.sample(scores, rng, temperature=0).tolist() == [1, 0, 2]
    assert decoding.sample(scores, rng, temperature=1e-320).tolist()[2] == 2  # nothing overflows


def test_temperature_divides_the_logits():
    x = np.array([0.3, -1.2, 2.0])
    p = np.exp(decoding.log_distribution(x, temperature=0.5))
    np.testing.assert_allclose(p, np.exp(x / 0.5) / np.exp(x / 0.5).sum())
    flat = np.exp(decoding.log_distribution([*x, -np.inf], temperature=1e300))
    np.testing.assert_allclose(flat, [1 / 3, 1 / 3, 1 / 3, 0])


def test_top_k_keeps_exactly_k_with_ties_to_the_lowest_ids():
    x = [1.0, 2, 2, 2, 0]
    assert [kept(decoding.keep_top_k(x, k)) for k in (1, 2, 4, 5, 6)] == [
        [1],
        [1, 2],
        [0, 1, 2, 3],
        [0, 1, 2, 3, 4],
        [0, 1, 2, 3, 4],
    ]


def test_top_p_keeps_the_smallest_set_that_reaches_p():
    x = np.log([0.1, 0.4, 0.3, 0.2])
    expected = {0.39: [1], 0.4: [1], 0.41: [1, 2], 0.7: [1, 2], 0.9: [1, 2, 3], 1.0: [0, 1, 2, 3]}
    for p, ids in expected.items():
        assert kept(decoding.keep_top_p(x, p)) == ids, p
    assert kept(decoding.keep_top_p(x, 1e-300)) == [1]
    assert kept(decoding.keep_top_p(np.zeros(4), 0.5)) == [0, 1]


def test_min_p_keeps_what_is_likely_beside_the_likeliest():
    x = np.log([0.1, 0.4, 0.3, 0.2])
    expected = {0.0: [0, 1, 2, 3], 0.25: [0, 1, 2, 3], 0.26: [1, 2, 3], 0.5: [1, 2, 3], 1.0: [1]}
    for p, ids in expected.items():
        assert kept(decoding.keep_min_p(x, p)) == ids, p
    assert kept(decoding.keep_min_p([1.0, 1.0, 0.0], 1.0)) == [0, 1]


def test_forbidden_tokens_are_never_chosen():
    rng = np.random.default_rng(1)
    drawn = decoding.sample(np.zeros((500, 4)), rng, temperature=2.0, forbidden=[0, 2])
    assert set(drawn.tolist()) == {1, 3}
    with pytest.raises(ValueError, match="no token is left"):
        decoding.sample([0.0, 1.0], rng, forbidden=[0, 1])
    with pytest.raises(ValueError, match=r"ids must be in 0..1, got 2"):
        decoding.forbid([0.0, 1.0], [2])
    with pytest.raises(ValueError, match="got -1"):
        decoding.forbid([0.0, 1.0], [-1])


def test_the_repetition_penalty_is_the_same_for_logits_and_log_probabilities():
    x = np.array([5.0, 1.0, -2.0, 0.0])
    options = {"repetition_penalty": 1.7, "history": [0, 2, 0]}
    from_logits = decoding.log_distribution(x, **options)
    np.testing.assert_allclose(
        from_logits, decoding.log_distribution(decoding.log_softmax(x), **options), rtol=1e-12
    )
    plain = decoding.log_softmax(x)
    assert from_logits[0] < plain[0] and from_logits[2] < plain[2] and from_logits[1] > plain[1]
    np.testing.assert_array_equal(decoding.penalize(x, [0, 2], 1.0), x)
    np.testing.assert_array_equal(decoding.penalize(x, [], 2.0), x)


def test_the_penalty_of_a_batch_takes_the_history_of_each_row():
    x = np.array([[2.0, 0.0, -2.0], [2.0, 0.0, -2.0]])
    both = decoding.log_distribution(x, repetition_penalty=2.0, history=[[0], [2, 2]])
    for row, history in zip(both, ([0], [2]), strict=True):
        alone = decoding.log_distribution(x[0], repetition_penalty=2.0, history=history)
        np.testing.assert_array_equal(row, alone)
    with pytest.raises(ValueError, match="one history for each row"):
        decoding.log_distribution(x, repetition_penalty=2.0, history=[[0]])


@settings(deadline=None, max_examples=150)
@given(SCORES, st.integers(1, 9), st.floats(0.01, 1.0), st.floats(0.0, 1.0))
def test_the_filters_keep_what_their_definitions_say(x, k, p, share):
    order = [i for i in by_likelihood(x) if np.isfinite(x[i])]
    probability = np.exp(decoding.log_softmax(x))
    assert kept(decoding.keep_top_k(x, k)) == sorted(order[:k])

    mass = np.cumsum(probability[order])
    assume(np.abs(mass - p).min() > 1e-9)
    size = 1 + int((mass < p).sum())
    assert kept(decoding.keep_top_p(x, p)) == sorted(order[:size])

    ratio = probability / probability.max()
    assume(np.abs(ratio - share).min() > 1e-9)
    assert kept(decoding.keep_min_p(x, share)) == sorted(i for i in order if ratio[i] >= share)


@settings(deadline=None, max_examples=100)
@given(
    SCORES,
    st.floats(-50, 50),
    st.sampled_from([0, 0.3, 1.0, 4.0]),
    st.sampled_from([None, 1, 3, 99]),
    st.sampled_from([None, 0.2, 0.9, 1.0]),
    st.sampled_from([None, 0.0, 0.3, 1.0]),
    st.sampled_from([1.0, 0.5, 2.0]),
)
def test_a_distribution_sums_to_one_and_rows_do_not_depend_on_each_other(
    x, shift, temperature, top_k, top_p, min_p, penalty
):
    options = (temperature, top_k, top_p, min_p, penalty)
    before = x.copy()
    log_p = decoding.log_distribution(x, *options, history=[0])
    assert np.exp(log_p).sum() == pytest.approx(1.0, abs=1e-12)
    assert set(kept(log_p)) <= set(kept(x))
    batch = decoding.log_distribution(np.stack([x[::-1], x]), *options, history=[[0], [0]])
    np.testing.assert_array_equal(batch[1], log_p)
    np.testing.assert_array_equal(x, before)


# ------------------------------------------------------------------------------ draws


def test_draws_follow_the_distribution():
    p = np.array([0.5, 0.0, 0.3, 0.15, 0.05])
    n = 20_000
    with np.errstate(divide="ignore"):
        scores = np.broadcast_to(np.log(p), (n, 5))
    counts = np.bincount(decoding.sample(scores, np.random.default_rng(2)), minlength=5)
    standard_error = np.sqrt(n * p * (1 - p))
    assert (np.abs(counts - n * p) <= 5 * standard_error).all()


def test_the_ends_of_the_uniform_range_hit_tokens_that_have_mass():
    class Fixed(np.random.Generator):
        def __init__(self, u):
            super().__init__(np.random.PCG64(0))
            self.u = u

        def random(self, n=None):
            return self.u if n is None else np.full(n, self.u)

    log_p = decoding.log_softmax([-np.inf, 0.0, -np.inf, 1.0, -np.inf])
    assert decoding.draw(log_p, Fixed(0.0)) == 1
    assert decoding.draw(log_p, Fixed(1.0)) == 3  # what rounding could make of 1 - 2**-53
    assert decoding.draw(np.stack([log_p] * 2), [Fixed(0.0), Fixed(1.0)]).tolist() == [1, 3]


def test_a_row_with_its_own_generator_is_drawn_as_if_alone():
    x = np.random.default_rng(3).standard_normal((4, 6))
    rngs = [np.random.default_rng(i) for i in range(4)]
    together = decoding.sample(x, rngs, top_p=0.9)
    alone = [decoding.sample(row, np.random.default_rng(i), top_p=0.9) for i, row in enumerate(x)]
    assert together.tolist() == alone
    assert all(type(i) is int for i in alone)
    with pytest.raises(ValueError, match="4 rows need as many generators, got 3"):
        decoding.sample(x, rngs[:3])
    with pytest.raises(ValueError, match=r"shape \(V,\) or \(B, V\), got \(2, 2, 6\)"):
        decoding.sample(x.reshape(2, 2, 6), rngs[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1.0}, "temperature must be a finite number >= 0, got -1.0"),
        ({"temperature": np.nan}, "temperature must be a finite number >= 0, got nan"),
        ({"temperature": np.inf}, "temperature must be a finite number >= 0, got inf"),
        ({"top_k": 0}, "top_k must be at least 1, got 0"),
        ({"top_p": 0.0}, r"top_p must be above 0 and at most 1, got 0\.0"),
        ({"top_p": 1.01}, r"top_p must be above 0 and at most 1, got 1\.01"),
        ({"top_p": np.nan}, "top_p must be above 0 and at most 1, got nan"),
        ({"min_p": -0.1}, "min_p must be between 0 and 1, got -0.1"),
        ({"min_p": np.nan}, "min_p must be between 0 and 1, got nan"),
        ({"repetition_penalty": 0.0}, "repetition_penalty must be a positive number, got 0.0"),
        ({"repetition_penalty": np.nan}, "repetition_penalty must be a positive number, got nan"),
    ],
)
def test_settings_without_a_meaning_are_one_clear_sentence(options, message):
    with pytest.raises(ValueError, match=f"^sample: {message}"):
        decoding.sample([0.0, 1.0], np.random.default_rng(0), **options)


def test_top_k_must_be_an_integer():
    with pytest.raises(TypeError, match=r"top_k must be an integer >= 1, got 2\.5"):
        decoding.sample([0.0, 1.0], np.random.default_rng(0), top_k=2.5)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([[0.0, 1.0], [np.nan, 0.0]], r"got nan at \(1, 0\); the model has diverged"),
        ([0.0, np.inf], r"got inf at \(1,\)"),
        ([[0.0, 1.0], [-np.inf, -np.inf]], "no token is left"),
        (1.0, r"must have shape \(..., vocabulary\), got \(\)"),
        (np.empty((2, 0)), r"got \(2, 0\)"),
    ],
)
def test_scores_without_a_distribution_are_one_clear_sentence(scores, message):
    with pytest.raises(ValueError, match=message):
        decoding.sample(scores, np.random.default_rng(0))


# ------------------------------------------------------------------------------ beam search


def second_order(V, seed):
    """A model whose next token depends on the last two: scores (V, V, V), and its step."""
    table = np.random.default_rng(seed).standard_normal((V, V, V)) * 2

    def step(ids, state):
        before = state[0]["last"][:, 0]
        return table[before, ids], [{"last": ids[:, None]}, None]

    return table, step


def every_sequence(table, start, length, ends):
    """All hypotheses with their log-probabilities, by brute force."""
    V = len(start)
    log_start, log_table = decoding.log_softmax(start), decoding.log_softmax(table)
    found = {}
    for n in range(1, length + 1):
        for ids in itertools.product(range(V), repeat=n):
            if any(i in ends for i in ids[:-1]) or (n < length and ids[-1] not in ends):
                continue
            chain = (0, *ids)
            log_p = log_start[ids[0]]
            for a, b, c in zip(chain, chain[1:], chain[2:], strict=False):
                log_p += log_table[a, b, c]
            found[ids] = log_p
    return found


@pytest.mark.parametrize("ends", [(), (2,), (0, 3)])
@pytest.mark.parametrize("length_norm", [0.0, 0.7, 1.0])
def test_a_wide_beam_search_is_exhaustive(ends, length_norm):
    V, length = 4, 4
    table, step = second_order(V, seed=5)
    start = np.random.default_rng(6).standard_normal(V)
    state = [{"last": np.zeros((1, 1), int)}, None]
    beams = decoding.beam_search(
        step, state, start, length, beam_width=V**length, length_norm=length_norm, end_ids=ends
    )
    truth = every_sequence(table, start, length, ends)
    score = {ids: log_p / len(ids) ** length_norm for ids, log_p in truth.items()}
    assert len(beams) == len(truth)
    assert [beam.ids for beam in beams] == sorted(truth, key=lambda ids: -score[ids])
    for beam in beams:
        assert sum(beam.log_probabilities) == pytest.approx(truth[beam.ids], abs=1e-12)
        assert beam.score == pytest.approx(score[beam.ids], abs=1e-12)
        assert beam.ended == (beam.ids[-1] in ends)


def plain_beams(table, start, length, width, length_norm, ends):
    """Beam search by its definition, to the very end."""
    log_start, log_table = decoding.log_softmax(start), decoding.log_softmax(table)
    live, finished = [((), 0.0)], []
    for _ in range(length):
        candidates = []
        for ids, log_p in live:
            row = log_table[(0, *ids)[-2], ids[-1]] if ids else log_start
            candidates += [((*ids, i), log_p + row[i]) for i in range(len(row))]
        live = []
        for ids, log_p in sorted(candidates, key=lambda pair: -pair[1]):
            if len(live) == width:
                break
            (finished if ids[-1] in ends else live).append((ids, log_p))
    scored = [(ids, log_p / len(ids) ** length_norm) for ids, log_p in finished + live]
    return sorted(scored, key=lambda pair: -pair[1])[:width]


@pytest.mark.parametrize("length_norm", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("seed", range(6))
def test_beams_equal_a_plain_beam_search_that_never_stops_early(seed, length_norm):
    table, step = second_order(4, seed)
    table[:, :, 1] += 9  # the end is likely, so that a search can stop early
    start = np.random.default_rng(seed).standard_normal(4)
    state = [{"last": np.zeros((1, 1), int)}, None]
    widths = []

    def counted(ids, state):
        widths.append(len(ids))
        return step(ids, state)

    found = decoding.beam_search(counted, state, start, 20, 3, length_norm, end_ids=[1])
    expected = plain_beams(table, start, 20, 3, length_norm, [1])
    assert [beam.ids for beam in found] == [ids for ids, _ in expected]
    np.testing.assert_allclose([b.score for b in found], [score for _, score in expected])
    assert max(widths) <= 3
    if length_norm == 0:
        assert len(widths) < 19


def test_a_beam_of_one_is_greedy():
    table, step = second_order(5, seed=9)
    beam, *rest = decoding.beam_search(
        step, [{"last": np.zeros((1, 1), int)}, None], table[1, 2], length=6, beam_width=1
    )
    ids, before, scores = [], 0, table[1, 2]
    for _ in range(6):
        ids.append(int(np.argmax(scores)))
        scores, before = table[before, ids[-1]], ids[-1]
    assert not rest and list(beam.ids) == ids


def test_forbidden_tokens_keep_their_probability_to_themselves():
    beams = decoding.beam_search(
        lambda ids, state: (np.log([[0.5, 0.25, 0.25]] * len(ids)), state),
        None, np.log([0.5, 0.25, 0.25]), length=2, beam_width=9, forbidden=[0],
    )  # fmt: skip
    assert {beam.ids for beam in beams} == {(1, 1), (1, 2), (2, 1), (2, 2)}
    assert all(beam.score == pytest.approx(np.log(1 / 16)) for beam in beams)
    nothing = decoding.beam_search(lambda *_: None, None, [0.0, 1.0], 3, forbidden=[0, 1])
    assert nothing == []


def test_nonsense_given_to_the_beam_search_is_refused():
    for options in ({"length": 0}, {"length": 1, "beam_width": 0}):
        with pytest.raises(ValueError, match="must be at least 1"):
            decoding.beam_search(None, None, [0.0], **options)
    with pytest.raises(ValueError, match="length_norm must be a number >= 0"):
        decoding.beam_search(None, None, [0.0], 1, length_norm=np.nan)
    with pytest.raises(ValueError, match=r"shape \(V,\), got \(1, 1\)"):
        decoding.beam_search(None, None, [[0.0]], 1)
    with pytest.raises(TypeError, match="made of arrays, None, lists, tuples and dicts, got str"):
        decoding.select_rows(["state"], [0])


def test_selecting_rows_keeps_the_tree_and_copies():
    state = [np.arange(6).reshape(3, 2), None, (np.arange(3), {"a": np.ones(3)})]
    taken = decoding.select_rows(state, [2, 2, 0, 1])
    assert taken[0].tolist() == [[4, 5], [4, 5], [0, 1], [2, 3]] and taken[1] is None
    assert isinstance(taken[2], tuple) and taken[2][0].tolist() == [2, 2, 0, 1]
    taken[0][:] = 9
    assert state[0][0, 0] == 0
