"""Decoding: best path, prefix search against enumeration, fusion with a language model, times."""

import itertools

import numpy as np
import pytest

from gru_np import GRU, Dense, Embedding, Sequential, ctc
from gru_np.ctc_decoding import (
    CharacterModel,
    Greedy,
    Span,
    WordModel,
    align,
    greedy,
    prefix_beam_search,
)

T, V = 6, 3


@pytest.fixture
def log_y(rng):
    return ctc.log_softmax(2 * rng.standard_normal((T, V)))


def log_p(log_y, labels):
    """ln p(labels), from the loss."""
    loss, _, feasible = ctc.ctc_loss(
        log_y[None], np.array([[*labels, -1]]), np.array([len(log_y)]), np.array([len(labels)])
    )
    return -loss[0] if feasible[0] else -np.inf


def all_labellings():
    return [c for n in range(T + 1) for c in itertools.product(range(1, V), repeat=n)]


def test_greedy_merges_repeats_drops_blanks_and_knows_the_frames():
    path = [0, 1, 1, 0, 1, 2, 2, 0]
    assert greedy(np.eye(3)[path]) == [Span(1, 1, 3), Span(1, 4, 5), Span(2, 5, 7)]
    assert greedy(np.eye(3)[[2, 1, 2]], blank=2) == [Span(1, 1, 2)]
    assert greedy(np.zeros((0, 3))) == []


def test_greedy_in_pieces_is_greedy_of_the_whole(rng):
    scores = rng.standard_normal((50, 3))
    decoder, cuts = Greedy(), [0, 1, 1, 7, 8, 30, 50]
    new = [decoder.feed(scores[a:b]) for a, b in itertools.pairwise(cuts)]
    assert decoder.spans == greedy(scores)
    assert list(itertools.chain(*new)) == [span.label for span in greedy(scores)]


def test_search_with_a_wide_beam_finds_every_labelling_with_its_exact_probability(log_y):
    found = prefix_beam_search(log_y, beam_width=10_000, least_log_p=-np.inf)
    assert found == sorted(found, key=lambda h: -h.score)
    exact = {c: p for c in all_labellings() if (p := log_p(log_y, c)) > -np.inf}
    assert {h.labels for h in found} == exact.keys()
    for h in found:
        np.testing.assert_allclose(h.log_p, exact[h.labels], rtol=1e-12)
        assert h.score == h.log_p
    np.testing.assert_allclose(sum(np.exp(h.log_p) for h in found), 1, rtol=1e-12)


def test_search_finds_what_the_best_path_misses():
    log_y = np.log([[0.6, 0.4], [0.6, 0.4]])
    assert greedy(log_y) == []
    assert prefix_beam_search(log_y, 2)[0].labels == (1,)


class Table:
    """A language model that is a table of bigrams."""

    def __init__(self, rng):
        self.log_p = ctc.log_softmax(2 * rng.standard_normal((V, V)))
        self.advanced = 0

    def start(self):
        return 0

    def scores(self, state):
        return self.log_p[state]

    def advance(self, states, labels):
        assert len(states) == len(labels) > 0
        self.advanced += 1
        return labels

    def finish(self, state):
        return -0.25 * state


def test_shallow_fusion_scores_every_labelling_by_both_models(log_y, rng):
    model, weight, bonus = Table(rng), 0.7, 0.3
    found = prefix_beam_search(
        log_y, 10_000, language_model=model, weight=weight, label_bonus=bonus, least_log_p=-np.inf
    )
    for h in found:
        pairs = itertools.pairwise((0, *h.labels))
        of_model = sum(model.log_p[a, b] for a, b in pairs)
        of_model += model.finish(h.labels[-1] if h.labels else 0)
        expected = log_p(log_y, h.labels) + weight * of_model + bonus * len(h.labels)
        np.testing.assert_allclose(h.score, expected, rtol=1e-11)
    assert model.advanced <= T  # one step of the model for all prefixes of a frame


def language_model(rng, tokens):
    model = Sequential(
        [Embedding(tokens, 4), GRU(5, return_sequences=True), Dense(tokens, activation="softmax")],
        dtype="float64",
        seed=1,
    )
    model.build((None, None))
    model.set_weights([rng.standard_normal(w.shape) for w in model.get_weights()])
    return model


def test_a_character_model_scores_a_prefix_as_predict_does(rng):
    model = language_model(rng, 5)
    tokens = [-1, 3, 1, 4]
    fusion = CharacterModel(model, tokens, begin=0)
    labels = [2, 2, 1, 3]
    states, total = [fusion.start()], 0.0
    for label in labels:
        total += fusion.scores(states[0])[label]
        states = fusion.advance(states, [label])
    ids = np.array([[0, *(tokens[label] for label in labels)]])
    y = model.predict(ids)[0]
    expected = sum(np.log(y[t, ids[0, t + 1]]) for t in range(len(labels)))
    np.testing.assert_allclose(total, expected, rtol=1e-12)
    assert fusion.scores(fusion.start())[0] == -20  # the blank is unknown to it


def test_many_prefixes_advance_as_each_would_alone(rng):
    fusion = CharacterModel(language_model(rng, 4), [-1, 1, 2, 3], begin=0)
    (a,), (b,) = fusion.advance([fusion.start()], [1]), fusion.advance([fusion.start()], [2])
    together = fusion.advance([a, b, a], [3, 1, 1])
    alone = [fusion.advance([s], [k])[0] for s, k in [(a, 3), (b, 1), (a, 1)]]
    for x, y in zip(together, alone, strict=True):
        np.testing.assert_allclose(x.log_p, y.log_p, rtol=1e-12)


def test_a_word_model_counts_a_word_when_it_is_complete(rng):
    model = language_model(rng, 4)
    fusion = WordModel(model, ["", " ", "a", "b"], {"a": 1, "ab": 2}, begin=0, unknown=-9.0)
    state, total = fusion.start(), 0.0
    for label in [2, 3, 1, 2, 1, 3]:  # "ab a b"
        total += fusion.scores(state)[label]
        (state,) = fusion.advance([state], [label])
    total += fusion.finish(state)
    y = np.log(model.predict(np.array([[0, 2, 1]]))[0])
    np.testing.assert_allclose(total, y[0, 2] + y[1, 1] - 9.0, rtol=1e-12)


def test_a_language_model_changes_an_undecided_answer(rng):
    log_y = np.log(np.array([[0.1, 0.46, 0.44], [0.9, 0.05, 0.05]]))

    class Prefers(Table):
        def __init__(self):
            self.log_p = np.log([[0.01, 0.09, 0.9]] * 3)
            self.advanced = 0

        def finish(self, state):
            return 0.0

    assert prefix_beam_search(log_y, 4)[0].labels == (1,)
    assert prefix_beam_search(log_y, 4, language_model=Prefers())[0].labels == (2,)


def test_alignment_is_the_best_of_all_paths_enumerated(rng):
    log_y = ctc.log_softmax(rng.standard_normal((5, V)))
    for labels in [(1,), (1, 2), (1, 1), (2, 2, 1), ()]:
        best, score = None, -np.inf
        for path in itertools.product(range(V), repeat=5):
            if tuple(s.label for s in greedy(np.eye(V)[list(path)])) == labels:
                total = sum(log_y[t, k] for t, k in enumerate(path))
                if total > score:
                    best, score = path, total
        assert align(log_y, labels) == greedy(np.eye(V)[list(best)])


def test_alignment_that_cannot_be_says_why(log_y):
    with pytest.raises(ValueError, match="4 labels with 3 repeats need at least 7 time steps"):
        align(log_y, [1, 1, 1, 1])
    assert align(np.zeros((0, V)), []) == []
