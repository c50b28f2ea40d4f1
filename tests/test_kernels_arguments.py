"""What reaches a compiled loop is looked at first: it fits, is made to fit, or gets a sentence.

Compiled and NumPy's passes give results of one dtype and refuse the same.
`tests/stress/guard_pages.py` draws many more such cases, and lets the processor watch.
"""

import numpy as np
import pytest
from conftest import assert_close
from problems import draw

from gru_np import GRU, Dense, Embedding, Sequential, gru_backward, gru_forward, kernels, losses

T, B, I, H, V = 5, 3, 2, 4, 7  # noqa: E741


@pytest.fixture(params=[True, False], ids=["compiled", "numpy"])
def engine(request):
    """Run a test with compiled kernels and in NumPy: what is promised is the same."""
    if request.param:
        pytest.importorskip("numba", reason="there are no kernels", exc_type=ImportError)
    token = kernels._in_numpy.set(not request.param)
    yield "compiled" if request.param else "numpy"
    kernels._in_numpy.reset(token)


@pytest.mark.parametrize("name", ["h0", "W_hh", "b_ih", "b_hh"])
def test_one_array_of_higher_precision_makes_all_results_so(name, engine, rng):
    arrays = draw(rng, T, B, I, H, dtype=np.float32)
    arrays[name] = arrays[name].astype(np.float64)
    h, saved = gru_forward(**arrays)
    gradients = gru_backward(np.ones(h.shape, np.float32), saved)
    assert {a.dtype for a in (h, *gradients)} == {np.dtype(np.float64)}
    # computed so, not only returned so
    expected, _ = gru_forward(**{name: a.astype(np.float64) for name, a in arrays.items()})
    assert_close(h, expected, "kernel")


def test_a_step_keeps_the_precision_of_the_weights(engine, rng):
    model = Sequential([GRU(H, seed=0)], dtype="float32")
    model.build((None, None, I))
    states = [rng.standard_normal((B, H))]
    y, after = model.step(rng.standard_normal((B, I)), states)
    assert y.dtype == after[0].dtype == np.float32


def test_a_complex_gradient_of_real_states_is_refused(engine, rng):
    h, saved = gru_forward(**draw(rng, T, B, I, H))
    with pytest.raises(TypeError, match=r"dh must be real, as h is, got complex128; give dh\.real"):
        gru_backward(np.ones(h.shape, complex), saved)


@pytest.mark.parametrize("name", ["W_ih", "W_hh", "b_ih", "b_hh"])
def test_a_parameter_of_another_shape_is_refused_by_every_pass(name, engine, rng):
    layer = GRU(H, return_sequences=True, seed=0)
    model = Sequential([Embedding(V, I, seed=1), layer, Dense(V, seed=2)])
    model.compile(losses.SparseCategoricalCrossentropy(from_logits=True), "adam")
    model.build((None, None))
    ids = rng.integers(0, V, (B, T))
    model.train_on_batch(ids, ids)
    right = layer.params[name]
    for wrong in (right[:-3], np.concatenate([right, right]), right[None]):
        layer.params[name] = wrong
        for run in (
            lambda: model.predict(ids),
            lambda: model.train_on_batch(ids, ids),
            lambda: model.step(ids[:, 0]),
        ):
            with pytest.raises(ValueError, match=r"must have shape \("):
                run()
    layer.params[name] = right
    assert np.isfinite(model.train_on_batch(ids, ids))


def test_the_bias_of_a_last_layer_of_another_shape_is_refused(engine, rng):
    model = Sequential([Embedding(V, I, seed=1), GRU(H, seed=0), Dense(V, seed=2)])
    model.compile(losses.SparseCategoricalCrossentropy(from_logits=True), "adam")
    model.build((None, None))
    ids = rng.integers(0, V, (B, T))
    model.layers[-1].params["b"] = np.zeros(V - 2, np.float32)
    for run in (lambda: model.train_on_batch(ids, ids[:, 0]), lambda: model.step(ids[:, 0])):
        with pytest.raises(ValueError):
            run()


@pytest.mark.parametrize("wrong", [V, V + 500, 10**6])
def test_an_id_beyond_the_table_is_refused_though_input_dim_was_changed(wrong, engine, rng):
    model = Sequential([Embedding(V, I), GRU(H, return_sequences=True), Dense(V)], seed=0)
    model.compile(losses.SparseCategoricalCrossentropy(from_logits=True), "adam")
    model.build((None, None))
    ids = rng.integers(0, V, (B, T))
    labels = ids.copy()
    model.train_on_batch(ids, labels)
    model.layers[0].input_dim = 10**7
    ids[1, 2] = wrong
    for run in (lambda: model.train_on_batch(ids, labels), lambda: model.step(ids[:, 2])):
        with pytest.raises((ValueError, IndexError), match=str(wrong)):
            run()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [[1, 5], [1, 2]]}, "labels and blank must be in 0..4, .* got label 5 and"),
        ({"labels": [[-1, 1], [1, 2]]}, "got label -1 and blank 0"),
        ({"labels": [[0, 1], [1, 2]]}, "no label the blank, got label 0 and blank 0"),
        ({"labels": np.array([[2**56, 1], [1, 2]], ">i8")}, f"got label {2**56} and"),
        ({"labels": [1, 2]}, r"labels must have shape \(2, labels\), got \(2,\)"),
        ({"logit_lengths": [6, 7]}, "logit_lengths must be in 0..6, got 6 to 7"),
        ({"logit_lengths": [-1, 6]}, "logit_lengths must be in 0..6, got -1 to 6"),
        ({"label_lengths": [2, 3]}, "label_lengths must be in 0..2, got 2 to 3"),
        ({"label_lengths": [2]}, r"label_lengths must have shape \(2,\), got \(1,\)"),
        ({"blank": 5}, "got blank 5"),
        ({"blank": -1}, "blank must be at least 0, got -1"),
    ],
)
def test_ctc_refuses_what_does_not_fit(change, message, engine, rng):
    right = {
        "logits": rng.standard_normal((2, 6, 5)), "labels": [[1, 3], [4, 0]],
        "logit_lengths": [6, 4], "label_lengths": np.array([2, 1], ">u2"),
    }  # fmt: skip
    loss, dlogits, feasible = kernels.ctc_loss(**right)
    assert np.isfinite(loss).all() and dlogits.shape == (2, 6, 5) and feasible.all()
    with pytest.raises(ValueError, match=message):
        kernels.ctc_loss(**(right | change))


def test_ctc_refuses_labels_and_lengths_that_are_no_integers(engine, rng):
    logits, one = rng.standard_normal((1, 6, 5)), np.array([1])
    for arguments in [([[1.0]], one, one), ([[1]], [1.5], one), ([[1]], one, [True])]:
        with pytest.raises(TypeError, match="must be integers"):
            kernels.ctc_loss(logits, *arguments)


class TestCompiled:
    """What there is of kernels only."""

    @pytest.fixture(autouse=True)
    def _kernels(self):
        pytest.importorskip("numba", reason="there are no kernels", exc_type=ImportError)

    @pytest.mark.parametrize("reset_after", [True, False])
    @pytest.mark.parametrize(("T", "B"), [(5, 3), (1, 1)])
    def test_a_saved_tuple_that_was_changed_is_refused(self, T, B, reset_after, rng):
        arrays = draw(rng, T, B, I, H)
        h, saved = gru_forward(**arrays, reset_after=reset_after)
        expected = gru_backward(h, saved)
        for change in [
            {"h": h[:-1]}, {"h": h.astype(np.float32)}, {"h": None}, {"x": saved.x[:, :, :-1]},
            {"rows": saved.rows[:, :, :, :H]}, {"rows": saved.rows[:, :, :1]}, {"rows": None},
            {"rows": saved.rows.astype(">f8")}, {"W_ih": saved.W_hh}, {"W_hh": saved.W_hh[:-1]},
            {"W_hh": saved.W_hh.T}, {"valid": np.ones((T, B + 1), bool)},
            {"valid": np.ones((T, B))}, {"reset_after": not reset_after},
        ]:  # fmt: skip
            with pytest.raises((ValueError, TypeError)):
                gru_backward(np.ones_like(expected[1][None].repeat(T, 0)), saved._replace(**change))
        assert_close(gru_backward(h, saved), expected, "exact")

    def test_states_that_were_made_read_only_lead_back_all_the_same(self, rng):
        h, saved = gru_forward(**draw(rng, T, B, I, H))
        expected = gru_backward(np.ones_like(h), saved)
        h.flags.writeable = False
        assert_close(gru_backward(np.ones_like(h), saved), expected, "exact")

    @pytest.mark.parametrize("wrong", [V, -1, 2**31, 2**56])
    def test_embedding_gradient_refuses_ids_beyond_the_table(self, wrong, rng):
        ids, dy = rng.integers(0, V, (B, T)), rng.standard_normal((B, T, I))
        expected = np.zeros((V, I))
        np.add.at(expected, ids, dy)
        for dtype in ("i8", ">i8"):
            assert_close(kernels.embedding_gradient(ids.astype(dtype), dy, V), expected, "kernel")
            bad = ids.astype(dtype)
            bad[2, 1] = wrong
            with pytest.raises(
                ValueError, match=rf"ids must be in 0\.\.6, got {wrong} at place 11"
            ):
                kernels.embedding_gradient(bad, dy, V)

    def test_embedding_gradient_refuses_what_is_no_id_or_does_not_fit(self, rng):
        ids, dy = rng.integers(0, V, (B, T)), rng.standard_normal((B, T, I))
        with pytest.raises(TypeError, match=r"ids must be integers, got .*float64"):
            kernels.embedding_gradient(ids + 0.5, dy, V)
        with pytest.raises(ValueError, match=r"ids must have shape \(3, 5\), got \(3, 4\)"):
            kernels.embedding_gradient(ids[:, :-1], dy, V)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("b", np.zeros(V - 1)), ("W", np.zeros((V, H + 1))), ("weight", np.ones((B, T + 1))),
            ("kept", np.ones((T, B), bool)), ("labels", np.zeros((B, T + 1), int)),
            ("labels", np.full((B, T), V)), ("labels", np.full((B, T), 256, ">u2")),
        ],
    )  # fmt: skip
    def test_a_head_refuses_what_does_not_fit(self, name, value, rng):
        right = {
            "x": rng.standard_normal((B, T, H)), "W": rng.standard_normal((V, H)),
            "b": rng.standard_normal(V), "labels": rng.integers(0, V, (B, T)), "weight": None,
            "kept": None, "count": 15.0,
        }  # fmt: skip
        assert np.isfinite(kernels.dense_cross_entropy(**right).value)
        with pytest.raises(ValueError, match="dense_cross_entropy: "):
            kernels.dense_cross_entropy(**(right | {name: value}))

    def test_averages_refuse_what_cannot_be_written(self):
        p = np.ones((3, 4))
        for wrong in (np.ones((4, 3)).T, np.ones((3, 4), np.float32), np.ones((4, 4))):
            with pytest.raises(ValueError, match="all arrays must be contiguous, writable"):
                kernels.averages([(p, wrong, np.zeros((3, 4)), None)])
        averages = kernels.averages([(p, np.zeros((3, 4)), np.zeros((3, 4)), None)])
        for wrong in ([np.ones((3, 3))], np.ones(13), [np.ones(12), np.ones(1)]):
            with pytest.raises(ValueError, match="gradients must have the sizes"):
                averages.norms(wrong)
