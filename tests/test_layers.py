"""Layers beyond their gradients (tests/test_gradcheck.py): shapes, masks, state, bad input."""

import numpy as np
import pytest
from conftest import assert_close

from gru_np import (
    GRU,
    Bidirectional,
    Dense,
    Dropout,
    Embedding,
    GRUCell,
    LayerNormalization,
    Sequential,
    check_gradients,
    gru_forward,
)
from gru_np.layers import GlobalAveragePooling1D, GlobalMaxPooling1D

B, T, I, H = 3, 5, 2, 4  # noqa: E741


def random_gru(rng, cls=GRU, **settings):
    """A built layer whose every parameter is random, biases included."""
    layer = cls(H, **settings)
    layer.build((None, None, I), np.float64, rng)
    layer.params = {k: rng.standard_normal(v.shape) for k, v in layer.params.items()}
    return layer


@pytest.fixture
def x(rng):
    return rng.standard_normal((B, T, I))


def test_gru_gives_the_last_state_or_all_or_both(rng, x):
    layer = random_gru(rng)
    every = random_gru(rng, return_sequences=True, return_state=True)
    every.params = layer.params
    y, state = every(x)
    assert y.shape == (B, T, H)
    assert_close(layer(x), y[:, -1], "exact")
    assert_close(state, y[:, -1], "exact")


def test_gru_layer_is_gru_forward_batch_first(rng, x):
    layer = random_gru(rng, return_sequences=True)
    h, _ = gru_forward(x.transpose(1, 0, 2), None, *layer.params.values())
    assert_close(layer(x), h[1:].transpose(1, 0, 2), "rounding")


def test_cell_stepped_over_time_is_the_layer(rng, x):
    layer = random_gru(rng, return_sequences=True)
    cell = GRUCell(H)
    cell.params, cell.built = layer.params, True
    h, steps = np.zeros((B, H)), []
    for t in range(T):
        y, h = cell(x[:, t], h)
        steps.append(y)
    assert_close(np.stack(steps, axis=1), layer(x), "rounding")


def test_cell_answers_a_list_of_states_with_a_list_as_keras_does(rng, x):
    cell = random_gru(rng, GRUCell)
    y, states = cell(x[:, 0], [np.zeros((B, H))])
    assert isinstance(states, list)
    assert_close(states[0], y, "exact")


def test_step_fed_with_its_own_state_is_the_layer(rng, x):
    layer = random_gru(rng, return_sequences=True)
    state, steps = None, []
    for t in range(T):
        y, state = layer.step(x[:, t], state)
        steps.append(y)
    assert_close(np.stack(steps, axis=1), layer(x), "rounding")


def test_go_backwards_is_a_flip_of_the_input(rng, x):
    mask = rng.random((B, T)) < 0.6
    forward = random_gru(rng, return_sequences=True)
    backward = random_gru(rng, return_sequences=True, go_backwards=True)
    backward.params = forward.params
    assert_close(backward(x, mask=mask), forward(x[:, ::-1], mask=mask[:, ::-1]), "rounding")
    assert_close(backward.compute_mask(x, mask), mask[:, ::-1], "exact")


def test_stateful_layer_carries_its_state_until_it_is_reset(rng, x):
    whole = random_gru(rng, return_sequences=True)
    carried = random_gru(rng, return_sequences=True, stateful=True)
    carried.params = whole.params
    pieces = [carried(x[:, :2]), carried(x[:, 2:])]
    assert_close(np.concatenate(pieces, axis=1), whole(x), "rounding")
    carried.reset_states(rows=[1])
    again = carried(x)
    assert_close(again[1], whole(x)[1], "rounding")
    assert np.abs(again[0] - whole(x)[0]).max() > 1e-3
    carried.reset_states()
    assert_close(carried(x), whole(x), "rounding")
    with pytest.raises(ValueError, match="carries 3 rows, got a batch of 2"):
        carried(x[:2])


def test_rows_that_are_reset_begin_again_at_the_learned_state(rng, x):
    layer = random_gru(rng, return_sequences=True, stateful=True, learn_initial_state=True)
    first = layer(x)
    layer.reset_states(rows=np.array([False, True, False]))
    again = layer(x)
    assert_close(again[1], first[1], "rounding")
    assert np.abs(again[0] - first[0]).max() > 1e-3
    with pytest.raises(ValueError, match=r"of the 3 rows carried, got \[3\]"):
        layer.reset_states(rows=[3])


def test_both_directions_forget_their_states(rng, x):
    layer = random_both(rng, return_sequences=True, stateful=True)
    first, carried = layer(x), layer(x)
    assert np.abs(carried - first).max() > 1e-3
    layer.reset_states(rows=[2])
    assert_close(layer(x)[2], first[2], "rounding")
    layer.reset_states()
    assert_close(layer(x), first, "exact")


def test_without_a_merge_outputs_and_states_stand_in_one_row_as_in_keras(rng, x):
    layer = random_both(rng, None, return_sequences=True, return_state=True)
    forward, backward, forward_state, backward_state = layer(x)
    assert forward.shape == backward.shape == (B, T, H)
    assert_close(forward_state, forward[:, -1], "exact")
    assert_close(backward_state, backward[:, 0], "exact")
    with pytest.raises(ValueError, match=r"must be a pair, \(forward, backward\), .* got 3"):
        layer(x, initial_state=np.zeros((B, H)))


def random_both(rng, merge_mode="concat", **settings):
    """A built Bidirectional whose every parameter is random."""
    layer = Bidirectional(GRU(H, **settings), merge_mode)
    layer.build((None, None, I), np.float64, rng)
    layer.params = {k: rng.standard_normal(v.shape) for k, v in layer.params.items()}
    return layer


def test_rows_that_are_all_padding_keep_their_state(rng, x):
    layer = random_gru(rng, return_sequences=True)
    mask = np.ones((B, T), bool)
    mask[1] = False
    h0 = rng.standard_normal((B, H))
    y = layer(x, mask=mask, initial_state=h0)
    assert_close(y[1], np.broadcast_to(h0[1], (T, H)), "exact")


def test_gradient_by_the_initial_state_is_named_only_if_it_was_given(rng, x):
    layer = random_gru(rng)
    for h0, names in [(None, set()), (np.ones((B, H)), {"initial_state"})]:
        y, saved = layer.forward(x, initial_state=h0)
        _, gradients = layer.backward(np.ones_like(y), saved)
        assert set(gradients) == set(layer.params) | names


def test_recurrent_dropout_masks_agree_between_steps_and_differ_between_calls(rng):
    # With σ = 0 weights the gates are constant, and x = 0: what is left shows the masks of n alone.
    layer = random_gru(rng, recurrent_dropout=0.5, return_sequences=True)
    x, h0 = np.zeros((B, T, I)), np.ones((B, H))
    masks = []
    for seed in (1, 1, 2):
        rng = np.random.default_rng(seed)
        _, kept = layer.forward(x, initial_state=h0, training=True, rng=rng)
        masks.append(kept.saved.drop)
    assert masks[0].shape == (3, B, H)
    assert set(np.unique(masks[0])) == {0.0, 2.0}
    assert_close(masks[0], masks[1], "exact")
    assert (masks[0] != masks[2]).any()
    assert_close(layer(x, initial_state=h0), layer(x, initial_state=h0), "exact")


def test_input_dropout_keeps_one_mask_over_time(rng):
    layer = random_gru(rng, dropout=0.5)
    x = np.ones((B, T, I))
    _, (_, inner, _, drop_x, _) = layer.forward(x, training=True, rng=rng)
    assert_close(inner.x, np.broadcast_to(drop_x, (T, B, I)), "exact")


def test_embedding_masks_zero_and_sums_the_gradients_of_repeated_tokens(rng):
    ids = np.array([[0, 2, 2], [1, 2, 0]])
    layer = Embedding(4, 3, mask_zero=True, weights=rng.standard_normal((4, 3)))
    y, saved = layer.forward(ids)
    dy = rng.standard_normal(y.shape)
    _, gradients = layer.backward(dy, saved)
    expected = np.zeros((4, 3))
    np.add.at(expected, ids, dy)
    assert_close(gradients["W"], expected, "rounding")
    assert layer.compute_mask(ids, None).tolist() == [[False, True, True], [True, True, False]]


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ([[1, 5]], ValueError, r"must be in 0\.\.4, got 5 at \(0, 1\); use input_dim=6 or more"),
        ([[1], [-1]], ValueError, r"got -1 at \(1, 0\)"),
        ([[0.5]], TypeError, "integer token ids"),
        ([[1], [1, 2]], ValueError, "pad_sequences"),
    ],
)
def test_embedding_says_which_id_is_wrong(ids, error, message):
    with pytest.raises(error, match=message):
        Embedding(5, 2)(ids)


def test_dropout_keeps_the_mean_and_does_nothing_at_inference(rng):
    x = np.ones((200, 300))
    y = Dropout(0.3)(x, training=True)
    standard_error = np.sqrt(0.3 / 0.7 / x.size)
    assert abs(y.mean() - 1) < 5 * standard_error
    assert Dropout(0.3)(x) is x
    shared = Dropout(0.5, noise_shape=(None, 1, None)).forward(np.ones((2, 7, 3)), training=True)[0]
    assert_close(shared, np.repeat(shared[:, :1], 7, axis=1), "exact")


def test_embedding_dropout_takes_whole_tokens_and_keeps_the_mean(rng):
    layer = Embedding(400, 3, dropout=0.3, embeddings_initializer="ones")
    x = rng.integers(0, 400, (50, 40))
    y = layer(x, training=True)
    kept = {int(i): set(y[x == i].ravel().tolist()) for i in np.unique(x)}
    assert {len(values) for values in kept.values()} == {1}  # the same wherever the token stands
    share = np.mean([0.0 not in values for values in kept.values()])
    assert abs(share - 0.7) < 5 * np.sqrt(0.3 * 0.7 / len(kept))
    assert_close(np.unique(y), np.array([0, 1 / 0.7], np.float32), "rounding")
    assert_close(layer(x), np.ones((50, 40, 3), np.float32), "exact")


def test_layer_normalization_gives_mean_zero_and_variance_one(rng):
    y = LayerNormalization(epsilon=0.0)(rng.standard_normal((B, T, 7)) * 5 + 3)
    assert_close(y.mean(axis=-1) + 1, np.ones((B, T)), "rounding")
    assert_close(y.var(axis=-1), np.ones((B, T)), "rounding")


def test_dense_works_on_every_position(rng, x):
    layer = Dense(6, "tanh", seed=1)
    y = layer(x)
    W, b = layer.params["W"], layer.params["b"]
    assert_close(y[1, 2], np.tanh(W @ x[1, 2] + b), "rounding")


def test_standard_initial_values_are_keras_own(rng):
    layer = GRU(8)
    layer.build((None, None, 6), np.float64, rng)
    limit = np.sqrt(6 / (6 + 24))
    assert np.abs(layer.params["W_ih"]).max() <= limit
    # orthogonal over the whole (H, 3H) matrix: its H rows are orthonormal
    assert_close(layer.params["W_hh"].T @ layer.params["W_hh"], np.eye(8), "rounding")
    assert not layer.params["b_ih"].any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GRU(4)(np.ones((2, 3))), r"got \(2, 3\); add a time axis"),
        (lambda: GRU(4)(np.ones((2, 3, 1)), mask=np.ones((2, 4), bool)), r"mask must have shape"),
        (lambda: GRU(4)(np.ones((2, 3, 1)), mask=np.ones((2, 3))), "mask must be bool"),
        (lambda: GRU(4)(np.ones((2, 3, 1)), initial_state=np.ones((2, 5))), r"\(2, 4\), got"),
        (lambda: GRU(0), "units must be at least 1, got 0"),
        (lambda: GRU(2.5), "units must be an integer, got 2.5"),
        (lambda: GRU(2, activation="tahn"), "did you mean 'tanh'"),
        (lambda: GRU(2, dropout=1.5), r"dropout must be in \[0, 1\], got 1.5"),
        (lambda: GRU(4)(np.array([[["a"]]])), "x must be numbers"),
        (lambda: Dense(4, activation="gelu"), "activation must be one of"),
        (lambda: Embedding(4, 2, weights=np.ones((2, 4))), r"\(4, 2\), got \(2, 4\)"),
    ],
)
def test_bad_input_gets_one_clear_sentence(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_a_built_layer_refuses_another_number_of_features(x):
    for layer in (GRU(4), Dense(4), LayerNormalization()):
        layer(x)
        with pytest.raises(ValueError, match="must have shape"):
            layer(np.ones((2, 3, 9)))


def test_config_and_repr_say_how_a_layer_was_made():
    layer = GRU(3, reset_after=False, return_sequences=True, seed=5)
    assert repr(layer) == "GRU(units=3, return_sequences=True, reset_after=False)"
    again = GRU(**layer.get_config())
    assert again.get_config() == layer.get_config()


@pytest.mark.parametrize("cls", [GlobalMaxPooling1D, GlobalAveragePooling1D])
def test_pooling_sees_real_steps_only_and_its_gradient_is_exact(cls, rng, x, tmp_path):
    mask = np.array([[1, 1, 1, 0, 0], [0, 1, 0, 1, 1], [0, 0, 0, 0, 0]], bool)
    hidden = np.where(mask[..., None], x, np.nan)
    pool = {GlobalMaxPooling1D: np.max, GlobalAveragePooling1D: np.mean}[cls]
    expected = [
        pool(row[m], axis=0) if m.any() else np.zeros(I) for row, m in zip(x, mask, strict=True)
    ]
    y, saved = cls().forward(hidden, mask=mask)
    assert_close(y, np.stack(expected), "rounding")
    assert_close(cls()(x), pool(x, axis=1), "rounding")
    dx, _ = cls().backward(np.ones_like(y), saved)
    assert not dx[~mask].any()
    model = Sequential([GRU(H, return_sequences=True), cls(), Dense(3)], dtype="float64", seed=0)
    model.compile("mse", "adam")
    check_gradients(model, x, rng.standard_normal((B, 3))).raise_if_bad()
    ids = np.array([[1, 2, 3, 0], [4, 0, 0, 0], [2, 2, 0, 0]])
    both = [Embedding(5, 2, mask_zero=True), Bidirectional(GRU(H, return_sequences=True)), cls()]
    model = Sequential([*both, Dense(3, activation="softmax")], dtype="float64", seed=0)
    model.compile("sparse_categorical_crossentropy", "adam")
    check_gradients(model, ids, np.array([0, 2, 1])).raise_if_bad()
    assert_close(model.predict(ids), model.predict(np.pad(ids, ((0, 0), (0, 3)))), "rounding")
    model.save(tmp_path / "pooled.safetensors")
    again = Sequential.load(tmp_path / "pooled.safetensors")
    assert_close(again.predict(ids), model.predict(ids), "exact")
    with pytest.raises(ValueError, match="cannot take single steps"):
        model.step(ids[:, 0])


@pytest.mark.parametrize("settings", [{}, {"go_backwards": True}, {"return_sequences": True}])
def test_padding_that_all_rows_share_costs_no_steps_and_changes_nothing(settings, rng, x):
    layer = random_gru(rng, recurrent_dropout=0.3, **settings)
    mask = np.array([[1, 1, 0, 0, 1], [0, 1, 1, 0, 0], [1, 0, 1, 1, 0]], bool)
    longer, wider = np.full((B, T + 5, I), np.nan), np.zeros((B, T + 5), bool)
    longer[:, 2 : T + 2], wider[:, 2 : T + 2] = x, mask
    h0 = rng.standard_normal((B, H))
    y, saved = layer.forward(
        longer, wider, training=True, rng=np.random.default_rng(1), initial_state=h0
    )
    expected, plain = layer.forward(
        x, mask, training=True, rng=np.random.default_rng(1), initial_state=h0
    )
    assert len(saved.h) == T + 6
    dy = rng.standard_normal(y.shape)
    dx, gradients = layer.backward(dy, saved)
    if layer.return_sequences:
        assert_close(y[:, :2], np.broadcast_to(h0[:, None], (B, 2, H)), "exact")
        assert_close(y[:, 2:], np.concatenate([expected] + 3 * [expected[:, -1:]], 1), "exact")
        dh0, dy = dy[:, :2].sum(axis=1), dy[:, 2:].copy()
        dy[:, T - 1] += dy[:, T:].sum(axis=1)
        dy = dy[:, :T]
    else:
        assert_close(y, expected, "exact")
        dh0 = 0
    dx_plain, gradients_plain = layer.backward(dy, plain)
    assert_close(dx[:, 2 : T + 2], dx_plain, "rounding")
    assert not dx[~wider].any()
    gradients_plain["initial_state"] = gradients_plain["initial_state"] + dh0
    for name, gradient in gradients.items():
        assert_close(gradient, gradients_plain[name], "rounding")


def test_an_argument_that_does_not_exist_is_named_with_its_layer():
    with pytest.raises(TypeError, match="GRU: there is no argument 'unit'"):
        GRU(4, unit=3)
    with pytest.raises(
        TypeError, match=r"Dense: there is no argument 'input_shape'; the first batch"
    ):
        Dense(4, input_shape=(3,))


# ------------------------------------------------------------------------- dropout at its ends


def test_dropout_of_everything_gives_zeros_as_in_keras(rng):
    x = rng.standard_normal((2, 5, 3))
    layer = Dropout(1.0)
    y, saved = layer.forward(x, training=True)
    assert not y.any() and not layer.backward(x, saved)[0].any()
    np.testing.assert_array_equal(layer(x), x)
    ids = np.array([[1, 2]])
    assert not Embedding(3, 4, dropout=1.0).forward(ids, training=True)[0].any()
    blind = GRU(4, dropout=1.0, seed=0)
    np.testing.assert_array_equal(
        blind.forward(x, training=True)[0], blind.forward(-x, training=True)[0]
    )
    for wrong in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match=r"rate must be in \[0, 1\]"):
            Dropout(wrong)
    with pytest.raises(ValueError, match=r"zoneout must be in \[0, 1\)"):
        GRU(4, zoneout=1.0)  # a state that never changes


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (3, TypeError, "noise_shape must be a tuple of sizes and None, got 3"),
        ("ab", TypeError, "noise_shape must be a tuple of sizes and None, got 'ab'"),
        ((None, 1.5), TypeError, r"noise_shape\[1\] must be an integer, got 1.5"),
        ((1, -2), ValueError, r"noise_shape\[1\] must be at least 1, got -2"),
        ((0, None), ValueError, r"noise_shape\[0\] must be at least 1, got 0"),
    ],
)
def test_a_wrong_noise_shape_is_refused_at_construction(wrong, error, message):
    """Keras refuses the same."""
    with pytest.raises(error, match=message):
        Dropout(0.5, noise_shape=wrong)


def test_a_noise_shape_that_does_not_fit_x_is_refused(rng):
    for shape in ((None, 1), (None, 2, None), (3, None, None)):
        with pytest.raises(
            ValueError, match=r"noise_shape must have None, 1 or its size .* \(2, 5"
        ):
            Dropout(0.5, noise_shape=shape).forward(np.ones((2, 5, 3)), training=True)
    y = Dropout(0.5, noise_shape=[2, None, 1], seed=0).forward(np.ones((2, 5, 3)), training=True)[0]
    assert (y == y[..., :1]).all()
