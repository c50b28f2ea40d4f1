"""Zoneout, layer normalisation, learned states, tied weights, regularizers, constraints."""

import numpy as np
import pytest
from conftest import assert_close

from gru_np import (
    GRU,
    Bidirectional,
    Dense,
    Embedding,
    Sequential,
    check_gradients,
    constraints,
    equations,
    gates,
    interop,
    optimizers,
    recurrence,
    regularizers,
    variants,
)
from gru_np.interop import ConversionError
from gru_np.layers.base import Rule

B, T, I, H = 3, 5, 2, 4  # noqa: E741


def built(layer, rng):
    layer.build((None, None, I), np.float64, rng)
    for array in layer.params.values():
        array[...] = 0.6 * rng.standard_normal(array.shape)
    return layer


LAYERS = {
    "zoneout": {"zoneout": 0.3},
    "zoneout, reset before": {"zoneout": 0.3, "reset_after": False},
    "layer normalisation": {"layer_norm": True},
    "layer normalisation without bias": {"layer_norm": True, "use_bias": False},
    "learned initial state": {"learn_initial_state": True},
    "all of them": {
        "zoneout": 0.3, "layer_norm": True, "learn_initial_state": True, "recurrent_dropout": 0.3,
        "dropout": 0.2, "return_state": True,
    },
    "all of them, reset before": {
        "zoneout": 0.3, "learn_initial_state": True, "recurrent_dropout": 0.3,
        "reset_after": False, "use_bias": False, "go_backwards": True,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("both_ends", [False, True])
def test_every_gradient_agrees_with_complex_step(rng, name, masked, both_ends):
    settings = LAYERS[name]
    if both_ends and "go_backwards" in settings:
        settings = settings | {"go_backwards": False}
    layer = GRU(H, return_sequences=True, **settings)
    layer = built(Bidirectional(layer) if both_ends else layer, rng)
    mask = rng.random((B, T)) < 0.7 if masked else None
    check_gradients(layer, rng.standard_normal((B, T, I)), mask=mask).raise_if_bad()


def test_a_learned_state_has_its_gradient_where_none_is_given(rng):
    model = Sequential([GRU(H, learn_initial_state=True), Dense(2)], dtype="float64", seed=0)
    model.build((None, None, I))
    model.layers[0].params["h0"][...] = rng.standard_normal(H)
    model.compile("mse", "sgd")
    x, y = rng.standard_normal((B, T, I)), rng.standard_normal((B, 2))
    _, gradients = model.compute_gradients(x, y)
    numeric = np.zeros(H)
    h0 = model.params["gru/h0"]
    for i in range(H):
        for sign in (1, -1):
            h0[i] += sign * 1e-6
            numeric[i] += sign * model.compute_loss(x, y) / 2e-6
            h0[i] -= sign * 1e-6
    assert_close(gradients["gru/h0"], numeric, "central")
    given = model.layers[0](x, initial_state=np.broadcast_to(h0, (B, H)))
    assert_close(model.layers[0](x), given, "rounding")


def test_layer_normalisation_is_the_formula_of_haste(rng):
    layer = built(GRU(H, return_sequences=True, layer_norm=True), rng)
    p, x, h = layer.params, rng.standard_normal((B, T, I)), rng.standard_normal((B, H))

    def norm(a):
        return (a - a.mean(-1, keepdims=True)) / np.sqrt(a.var(-1, keepdims=True) + 1e-5)

    y = layer(x, initial_state=h)
    for t in range(T):
        X = norm(x[:, t] @ p["W_ih"].T) * p["gamma_ih"] + p["b_ih"]
        R = norm(h @ p["W_hh"].T) * p["gamma_hh"] + p["b_hh"]
        (a_ir, a_iz, a_in), (a_hr, a_hz, a_hn) = np.split(X, 3, -1), np.split(R, 3, -1)
        r, z = equations.sigmoid(a_ir + a_hr), equations.sigmoid(a_iz + a_hz)
        h = (1 - z) * np.tanh(a_in + r * a_hn) + z * h
        assert_close(y[:, t], h, "naive")


def test_zoneout_copies_units_in_training_and_mixes_in_use(rng):
    layer = built(GRU(H, return_sequences=True, zoneout=0.4), rng)
    plain = GRU(H, return_sequences=True)
    plain.params, plain.built = layer.params, True
    x, h0 = rng.standard_normal((B, 1, I)), rng.standard_normal((B, H))
    new = plain(x, initial_state=h0)[:, 0]
    assert_close(layer(x, initial_state=h0)[:, 0], h0 + 0.6 * (new - h0), "rounding")
    draws = np.random.default_rng(0)
    trained = np.array(
        [layer.forward(x, initial_state=h0, training=True, rng=draws)[0][:, 0] for _ in range(2000)]
    )
    copied = np.abs(trained - h0) < 1e-12
    assert (copied | (np.abs(trained - new) < 1e-12)).all()
    assert abs(copied.mean() - 0.4) < 5 * np.sqrt(0.24 / copied.size)


def test_zoneout_draws_anew_for_every_batch_and_repeats_with_the_seed(rng):
    x, y = rng.standard_normal((B, T, I)), rng.standard_normal((B, H))

    def losses(rate):
        layer = GRU(H, zoneout=0.5, seed=5)  # a layer's own seed is for its initial weights
        model = Sequential([layer], dtype="float64", seed=0)
        model.compile("mse", optimizers.SGD(rate))
        return [float(model.train_on_batch(x, y)) for _ in range(4)]

    assert len(set(losses(0.0))) == 4
    assert losses(0.1) == losses(0.1)


def test_without_either_the_variants_are_the_plain_gru(rng):
    shapes = [(T, B, I), (B, H), (3 * H, I), (3 * H, H), (3 * H,), (3 * H,)]
    arrays = [rng.standard_normal(shape) for shape in shapes]
    dh = rng.standard_normal((T + 1, B, H))
    mask = rng.random((T, B)) < 0.7
    for reset_after in (True, False):
        h, saved = variants.gru_forward(*arrays, reset_after, mask=mask)
        h_plain, saved_plain = recurrence.gru_forward(*arrays, reset_after, mask=mask)
        assert_close(h, h_plain, "rounding")
        plain = recurrence.gru_backward(dh, saved_plain)
        assert_close(variants.gru_backward(dh, saved)[:6], plain, "rounding")


@pytest.mark.parametrize("name", LAYERS)
def test_variants_step_save_and_are_taken_away_like_any_layer(rng, tmp_path, name):
    import runpy

    if "go_backwards" in LAYERS[name] or "return_state" in LAYERS[name]:
        settings = {
            k: v for k, v in LAYERS[name].items() if k not in ("go_backwards", "return_state")
        }
    else:
        settings = LAYERS[name]
    model = Sequential([GRU(H, return_sequences=True, **settings), Dense(2)], seed=0)
    model.build((None, None, I))
    for array in model.params.values():
        array[...] = 0.6 * rng.standard_normal(array.shape)
    x = rng.standard_normal((B, T, I)).astype("f")
    y = model.predict(x)
    state, steps = None, []
    for t in range(T):
        y_t, state = model.step(x[:, t], state)
        steps.append(y_t)
    assert_close(np.stack(steps, 1), y, "rounding")
    model.save(tmp_path / "m.safetensors")
    assert_close(Sequential.load(tmp_path / "m.safetensors").predict(x), y, "exact")
    interop.export_standalone(model, tmp_path / "m.py")
    module = runpy.run_path(str(tmp_path / "m.py"))
    assert np.abs(module["predict"](x) - y).max() <= 1e-6
    state = None
    for t in range(T):
        y_t, state = module["step"](x[:, t], state)
        assert np.abs(y_t - y[:, t]).max() <= 1e-6


@pytest.mark.parametrize(
    ("settings", "term"),
    [
        ({"zoneout": 0.1}, "zoneout=0.1"),
        ({"layer_norm": True}, "both products are normalised"),
        ({"learn_initial_state": True}, "a learned state h0"),
    ],
)
def test_what_other_libraries_lack_is_refused_by_name(tmp_path, settings, term):
    model = Sequential([GRU(H, **settings)])
    model.build((None, None, I))
    with pytest.raises(ConversionError, match=term):
        interop.to_torch(model)
    with pytest.raises(ConversionError, match=term):
        interop.to_keras(model, tmp_path / "m.keras")
    pytest.importorskip("onnx")
    with pytest.raises(ConversionError, match=term):
        interop.to_onnx(model)


def test_layer_normalisation_with_the_reset_before_is_refused():
    with pytest.raises(ValueError, match="needs reset_after=True"):
        GRU(H, layer_norm=True, reset_after=False)


@pytest.mark.parametrize("settings", [{"zoneout": 0.1}, {"layer_norm": True}])
def test_gates_are_traced_for_the_plain_equations_only(rng, settings):
    model = Sequential([GRU(H, **settings)], seed=0)
    x = rng.standard_normal((B, T, I))
    model.predict(x)
    with pytest.raises(ValueError, match="records are of the plain equations"):
        gates.trace(model, x)
    learned = Sequential([GRU(H, return_sequences=True, learn_initial_state=True)], seed=0)
    learned.build((None, None, I))
    learned.layers[0].params["h0"][...] = 0.5
    assert_close(gates.trace(learned, x)["gru"].h[:, 0], np.full((B, H), 0.5, "f"), "exact")


# -------------------------------------------------------------------------------------- tied


def tied_model(dtype="float64", **settings):
    layers = [
        Embedding(7, H),
        GRU(H, return_sequences=True),
        Dense(7, activation="softmax", tied_to="embedding", **settings),
    ]
    model = Sequential(layers, dtype=dtype, seed=0)
    model.compile("sparse_categorical_crossentropy", "adam")
    return model


def test_tied_weights_are_one_parameter_whose_gradients_add(rng, tmp_path):
    model, x = tied_model(), rng.integers(0, 7, (B, T))
    check_gradients(model, x, rng.integers(0, 7, (B, T))).raise_if_bad()
    model.fit(x, x, epochs=3, verbose=0)
    assert "dense/W" not in model.params
    assert model.layers[2].weight is model.params["embedding/W"]
    model.save(tmp_path / "m.safetensors")
    again = Sequential.load(tmp_path / "m.safetensors")
    assert_close(again.predict(x), model.predict(x), "exact")
    assert again.layers[2].tied is again.layers[0]


def test_a_tied_model_goes_out_with_both_matrices(rng, tmp_path):
    model, x = tied_model("float32"), rng.integers(0, 7, (B, T))
    model.build((None, None))
    y = model.predict(x)
    state = interop.to_torch(model)
    assert_close(state["dense.weight"], state["embedding.weight"], "exact")
    interop.save_pretrained(model, tmp_path / "m")
    assert_close(interop.from_pretrained(tmp_path / "m").predict(x), y, "exact")
    interop.export_standalone(model, tmp_path / "m.py")
    import runpy

    assert np.abs(runpy.run_path(str(tmp_path / "m.py"))["predict"](x) - y).max() <= 1e-6
    if pytest.importorskip("onnx"):
        found = interop.onnx_run(interop.to_onnx(model), {"x": x})["y"]
        assert_close(found, y, "foreign")


def test_ties_that_cannot_be_are_refused(rng):
    with pytest.raises(ValueError, match="no Embedding of that name comes before"):
        Sequential([Dense(7, tied_to="embedding")])
    with pytest.raises(ValueError, match="units must be 7"):
        Dense(5, tied_to=Embedding(7, H))
    with pytest.raises(ValueError, match="must come before it in one Sequential"):
        Dense(5, tied_to="embedding", use_bias=False)(np.ones((2, 3)))


# ------------------------------------------------------------------- regularizers, constraints


def test_penalties_add_to_the_loss_and_to_the_gradient(rng):
    model = Sequential(
        [
            Embedding(7, 3, embeddings_regularizer="l1"),
            Bidirectional(GRU(H, kernel_regularizer="l2", bias_regularizer="l1_l2")),
            Dense(2, kernel_regularizer=regularizers.L1L2(0.1, 0.2), bias_regularizer="l2"),
        ],
        dtype="float64",
        seed=0,
    )
    model.build((None, None))
    for array in model.params.values():
        array[...] = rng.standard_normal(array.shape)
    model.compile("mse", "sgd")
    x, y = rng.integers(0, 7, (B, T)), rng.standard_normal((B, 2))
    check_gradients(model, x, y).raise_if_bad()
    p = model.params
    expected = 0.01 * np.abs(p["embedding/W"]).sum()
    for way in ("forward", "backward"):
        expected += 0.01 * (p[f"bidirectional/{way}/W_ih"] ** 2).sum()
    W, b = p["dense/W"], p["dense/b"]
    expected += 0.1 * np.abs(W).sum() + 0.2 * (W**2).sum() + 0.01 * (b**2).sum()
    plain = ((model.predict(x) - y) ** 2).mean()
    assert_close(model.compute_loss(x, y), plain + expected, "rounding")
    assert_close(np.array(model.evaluate(x, y)), np.array(plain + expected), "rounding")
    model.layers[2].trainable = False  # what is not trained is not penalised, as in Keras
    assert model.compute_loss(x, y) < plain + expected


def test_parameters_obey_their_constraints_after_every_step(rng, tmp_path):
    layers = [
        Embedding(7, 3, embeddings_constraint="unit_norm"),
        GRU(
            H, kernel_constraint=constraints.MaxNorm(0.5), recurrent_constraint="unit_norm",
            bias_constraint="non_neg",
        ),
        Dense(2, kernel_constraint=constraints.UnitNorm(axis=1), bias_constraint="non_neg"),
    ]  # fmt: skip
    model = Sequential(layers, seed=0)
    model.compile("mse", "adam")
    x, y = rng.integers(0, 7, (B, T)), rng.standard_normal((B, 2))
    model.fit(x, y, epochs=2, verbose=0)
    p = model.params

    def lengths(w, axis):
        return np.sqrt((w * w).sum(axis))

    assert (lengths(p["gru/W_ih"], 1) < 0.5 + 1e-6).all()  # ours are (units, inputs)
    assert np.abs(lengths(p["gru/W_hh"], 1) - 1).max() < 1e-5
    assert np.abs(lengths(p["embedding/W"], 0) - 1).max() < 1e-5
    assert np.abs(lengths(p["dense/W"], 0) - 1).max() < 1e-5
    assert min(p[name].min() for name in ("gru/b_ih", "gru/b_hh", "dense/b")) >= 0
    model.save(tmp_path / "m.safetensors")
    again = Sequential.load(tmp_path / "m.safetensors")
    assert again.layers[1].kernel_constraint.max_value == 0.5
    assert repr(again.layers[1].rules()["W_ih"]) == repr(
        Rule(None, constraints.MaxNorm(0.5), out_first=True)
    )


def test_unknown_names_and_wrong_factors_are_refused():
    with pytest.raises(ValueError, match="unknown regularizer 'l3'"):
        GRU(H, kernel_regularizer="l3")
    with pytest.raises(ValueError, match="unknown constraint 'max_nrom'; did you mean 'max_norm'"):
        GRU(H, kernel_constraint="max_nrom")
    with pytest.raises(ValueError, match="l2 must be"):
        regularizers.L2(-1.0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_regularizers_and_constraints_give_keras_numbers(rng):
    try:
        import keras
    except ImportError as error:
        pytest.skip(f"Keras does not import: {error}")
    w = rng.standard_normal((5, 3)).astype("f")
    for ours, theirs in (
        (regularizers.L1(0.3), keras.regularizers.L1(0.3)),
        (regularizers.L2(0.3), keras.regularizers.L2(0.3)),
        (regularizers.L1L2(0.1, 0.2), keras.regularizers.L1L2(0.1, 0.2)),
    ):
        expected = keras.ops.convert_to_numpy(theirs(keras.ops.convert_to_tensor(w)))
        assert_close(np.array(ours(w)[0], np.float32), expected, "foreign")
    for ours, theirs in (
        (constraints.MaxNorm(1.5), keras.constraints.MaxNorm(1.5)),
        (constraints.MaxNorm(1.5, axis=1), keras.constraints.MaxNorm(1.5, axis=1)),
        (constraints.NonNeg(), keras.constraints.NonNeg()),
        (constraints.UnitNorm(), keras.constraints.UnitNorm()),
    ):
        expected = keras.ops.convert_to_numpy(theirs(keras.ops.convert_to_tensor(w)))
        assert_close(ours(w), expected, "foreign")


def test_layers_with_settings_as_objects_are_saved(tmp_path):
    from gru_np import initializers

    layer = GRU(H, recurrent_initializer=initializers.Orthogonal(gain=0.5), seed=1)
    model = Sequential([layer, Dense(2)], seed=0)
    model.build((None, None, I))
    model.save(tmp_path / "m.safetensors")
    again = Sequential.load(tmp_path / "m.safetensors")
    assert again.get_config() == model.get_config()

    class Own(regularizers.L2):
        pass

    model = Sequential([GRU(H, kernel_regularizer=Own())])
    model.build((None, None, I))
    with pytest.raises(TypeError, match="only a regularizer of gru_np's own"):
        model.save(tmp_path / "n.safetensors")


# -------------------------------------------------------------------------- nn.GRU as a call


def test_the_call_of_nn_gru_agrees_with_torch(rng):
    torch = pytest.importorskip("torch")
    for K, both, batch_first, bias, h0, ragged in (
        (2, True, False, True, True, True),
        (3, False, True, False, False, False),
        (1, True, True, True, True, False),
    ):
        ours = interop.TorchGRU(
            I, H, K, bias=bias, batch_first=batch_first, bidirectional=both, dtype="float64",
            seed=0,
        )  # fmt: skip
        theirs = torch.nn.GRU(
            I, H, K, bias=bias, batch_first=batch_first, bidirectional=both, dtype=torch.float64
        )
        theirs.load_state_dict({n: torch.from_numpy(a) for n, a in ours.state_dict().items()})
        x = rng.standard_normal((B, T, I) if batch_first else (T, B, I))
        h_0 = rng.standard_normal((K * (1 + both), B, H)) if h0 else None
        lengths = np.array([2, 5, 3]) if ragged else None
        (output, h_n), saved = ours.forward(x, h_0, lengths)
        x_t = torch.from_numpy(x).requires_grad_()
        h_t = None if h_0 is None else torch.from_numpy(h_0).requires_grad_()
        fed = x_t
        if ragged:
            fed = torch.nn.utils.rnn.pack_padded_sequence(x_t, lengths, enforce_sorted=False)
        y, h = theirs(fed, h_t)
        if ragged:
            y, _ = torch.nn.utils.rnn.pad_packed_sequence(y)
        assert_close(output, y.detach().numpy(), "foreign")
        assert_close(h_n, h.detach().numpy(), "foreign")
        dy, dh = rng.standard_normal(output.shape), rng.standard_normal(h_n.shape)
        torch.autograd.backward([y, h], [torch.from_numpy(dy), torch.from_numpy(dh)])
        dx, dh_0, gradients = ours.backward(dy, dh, saved)
        assert_close(dx, x_t.grad.numpy(), "foreign")
        if h0:
            assert_close(dh_0, h_t.grad.numpy(), "foreign")
        for name, parameter in theirs.named_parameters():
            assert_close(gradients[name], parameter.grad.numpy(), "foreign")


def test_the_call_of_nn_gru_takes_a_single_sequence(rng):
    gru = interop.TorchGRU(I, H, 2, bidirectional=True, dtype="float64", seed=0)
    x, h_0 = rng.standard_normal((T, I)), rng.standard_normal((4, H))
    (output, h_n), saved = gru.forward(x, h_0)
    many, h_many = gru(x[:, None], h_0[:, None])
    assert_close(output, many[:, 0], "exact")
    assert_close(h_n, h_many[:, 0], "exact")
    dx, dh_0, _ = gru.backward(np.ones_like(output), None, saved)
    assert dx.shape == x.shape
    assert dh_0.shape == h_0.shape


def test_the_call_of_nn_gru_drops_between_layers_in_training_alone(rng):
    gru = interop.TorchGRU(I, H, 2, dropout=0.5, dtype="float64", seed=0)
    x = rng.standard_normal((T, B, I))
    once, again = (
        gru.forward(x, training=True, rng=np.random.default_rng(3))[0][0] for _ in range(2)
    )
    assert_close(once, again, "exact")
    assert np.abs(once - gru(x)[0]).max() > 1e-3
    (_, _), saved = gru.forward(x, training=True, rng=np.random.default_rng(3))
    dy, direction = rng.standard_normal(once.shape), rng.standard_normal(x.shape)
    dx, _, _ = gru.backward(dy, None, saved)

    def value(s):
        moved = gru.forward(x + s * direction, training=True, rng=np.random.default_rng(3))
        return (dy * moved[0][0]).sum()

    slope = (value(1e-6) - value(-1e-6)) / 2e-6
    assert_close(np.array((dx * direction).sum()), np.array(slope), "central")


def test_the_call_of_nn_gru_says_what_does_not_fit():
    gru = interop.TorchGRU(I, H, seed=0)
    with pytest.raises(ValueError, match=r"x must have shape \(time, batch, 2\)"):
        gru(np.ones((T, B, 3)))
    with pytest.raises(ValueError, match="h_0 must have shape"):
        gru(np.ones((T, B, I)), np.ones((B, H)))
    with pytest.raises(ValueError, match=r"lengths must be 3 numbers in 0\.\.5"):
        gru(np.ones((T, B, I)), lengths=[1, 2])
    with pytest.raises(ValueError, match="differs in weight_hh_l0"):
        gru.load_state_dict(gru.state_dict() | {"weight_hh_l0": np.ones(3)})
