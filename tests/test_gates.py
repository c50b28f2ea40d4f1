"""A trace has the model's own numbers, its readings mean what they say, its pictures fit."""

import argparse
import sys

import numpy as np
import pytest
from conftest import assert_close
from problems import holes

from gru_np import (
    GRU,
    Bidirectional,
    Dense,
    Dropout,
    Embedding,
    Sequential,
    equations,
    gates,
    kernels,
    recurrence,
    text,
)
from gru_np.optimizers import Adam

B, T, I, H, V = 3, 7, 2, 4, 9  # noqa: E741


def randomise(model, rng, shape=(None, T, I)):
    """Random weights and biases: zeros would hide what is missing."""
    model.build(shape)
    for array in model.params.values():
        array[...] = rng.standard_normal(array.shape) / 2
    return model


def layers(which):
    sequence = {"return_sequences": True}
    return {
        "after": [GRU(H, **sequence), Dense(V, activation="softmax")],
        "before": [GRU(H, reset_after=False, **sequence), Dense(V, activation="softmax")],
        "stack": [GRU(H, **sequence), Dropout(0.5), GRU(5, **sequence), Dense(V)],
        "backwards": [GRU(H, go_backwards=True, **sequence), GRU(5, **sequence), Dense(V)],
        "both": [Bidirectional(GRU(H, **sequence)), Dense(V, activation="softmax")],
        "no bias": [GRU(H, use_bias=False, **sequence), Dense(V, activation="softmax")],
    }[which]


def text_model(which, rng, dtype="float64"):
    """A model of token ids with padding, compiled; ids with holes anywhere, and targets."""
    model = Sequential([Embedding(V, I, mask_zero=True), *layers(which)], dtype=dtype, seed=0)
    loss = "sparse_categorical_crossentropy" if model.layers[-1].activation else "mse"
    model.compile(loss, "adam")
    randomise(model, rng, (None, T))
    x = rng.integers(1, V, (B, T)) * holes(rng, T, B).T
    y = rng.integers(0, V, (B, T))
    return model, x, y if model.layers[-1].activation else rng.standard_normal((B, T, V))


ALL = pytest.mark.parametrize("which", ["after", "before", "stack", "backwards", "both", "no bias"])


@ALL
def test_a_trace_has_the_numbers_of_the_model_itself(which, rng):
    model, x, y = text_model(which, rng)
    found = gates.trace(model, x, y)
    loss, gradients = model.compute_gradients(x, y)
    assert_close(found.y_pred, model.predict(x), "kernel")
    assert_close(np.array([found.loss]), np.array([loss]), "kernel")
    assert_close(found.gradients, gradients, "kernel")


def test_a_trace_agrees_with_the_compiled_kernels(rng):
    if not kernels.available():
        pytest.skip("there are no kernels without numba")
    from gru_np.kernels import fused

    model, x, y = text_model("after", rng)
    read = gates.trace(model, x, y)["gru"]
    gru = model.layers[1]
    dh = np.zeros((T + 1, B, H))
    dh[1:] = rng.standard_normal((T, B, H))
    arrays = [gru.params[name] for name in ("W_ih", "W_hh", "b_ih", "b_hh")]
    h, saved = fused.gru_forward(read.saved.x, None, *arrays, mask=read.valid.T)
    assert_close(read.h.transpose(1, 0, 2), h, "kernel")
    assert_close(recurrence.gru_backward(dh, read.saved), fused.gru_backward(dh, saved), "kernel")


@ALL
def test_the_arrays_of_a_trace_satisfy_the_equations(which, rng):
    model, x, y = text_model(which, rng)
    for read in gates.trace(model, x, y).layers.values():
        real = read.valid
        h = read.h[:, :-1]
        assert_close(read.r[real], equations.sigmoid(read.a_r)[real], "rounding")
        assert_close(read.z[real], equations.sigmoid(read.a_z)[real], "rounding")
        assert_close(read.n[real], equations.tanh(read.a_n)[real], "rounding")
        h_next = (1 - read.z) * read.n + read.z * h
        assert_close(read.h[:, 1:][real], h_next[real], "rounding")


@ALL
def test_masked_steps_copy_the_state_and_have_no_gates(which, rng):
    model, x, y = text_model(which, rng)
    assert (x == 0).any()
    for read in gates.trace(model, x, y).layers.values():
        assert np.array_equal(read.valid, (x != 0)[:, read.positions])
        masked = ~read.valid
        assert np.array_equal(read.h[:, 1:][masked], read.h[:, :-1][masked])
        for array in (read.r, read.z, read.n, read.a_r, read.a_z, read.a_n, read.a_hh):
            assert np.isnan(array[masked]).all() and np.isfinite(array[read.valid]).all()
        for array in (read.da_ih, read.da_hh):
            assert (array[masked] == 0).all()
        assert (read.da_z[read.valid] != 0).all()


@ALL
def test_gradients_of_a_trace_equal_complex_step(which, rng):
    """dh by moving the initial state, da by moving the biases of one step: the loss alone."""
    model, x, y = text_model(which, rng)
    gru = next(layer for layer in model.layers if isinstance(layer, GRU | Bidirectional))
    found = gates.trace(model, x, y)
    read = found[0]
    single = isinstance(gru, GRU)
    expected = np.empty((B, H))
    for b, j in np.ndindex(B, H):
        h0 = np.zeros((B, H), complex)
        h0[b, j] = 1e-30j
        states = [None] * len(model.layers)
        states[1] = h0 if single else (h0, np.zeros((B, H)))
        down = model._forward(x, states=states, fused=True)
        expected[b, j] = np.imag(model._loss_and_gradient(down, y, None)[0]) / 1e-30
    assert_close(read.dh[:, 0], expected, "complex step")
    # The bias of a gate is added at every step, so its gradient is the sum over all of them.
    if "no bias" not in which:
        name = "gru/b_ih" if single else "bidirectional/forward/b_ih"
        assert_close(read.da_ih.sum(axis=(0, 1)), found.gradients[name], "rounding")


def test_a_trace_names_steps_by_token_timestamp_or_position(rng):
    tokenizer = text.CharTokenizer.fit("abcdefg h")
    model = Sequential([Embedding(tokenizer.vocab_size, I), *layers("both")[:1]], seed=0)
    model.tokenizer = tokenizer
    found = gates.trace(model, "bad cafe")
    assert found["bidirectional/forward"].labels == (tuple("bad cafe"),)
    assert found["bidirectional/backward"].labels == (tuple("efac dab"),)
    assert found["bidirectional/backward"].positions.tolist() == [7, 6, 5, 4, 3, 2, 1, 0]

    series = Sequential([GRU(H)], seed=0)
    x = rng.standard_normal((2, 3, I))
    assert gates.trace(series, x)["gru"].labels == (("0", "1", "2"),) * 2
    days = np.array(["2024-02-28", "2024-02-29", "2024-03-01"], "datetime64[D]")
    assert gates.trace(series, x, labels=days)[0].labels[1][1] == "2024-02-29"
    with pytest.raises(ValueError, match=r"labels must have shape \(3,\) or \(2, 3\).*got \(4,\)"):
        gates.trace(series, x, labels=list("abcd"))


def test_a_layer_that_reads_backwards_turns_the_positions_of_those_after_it(rng):
    model, x, y = text_model("backwards", rng)
    found = gates.trace(model, x, y)
    assert found["gru"].positions.tolist() == list(range(T))[::-1]
    assert found["gru_1"].positions.tolist() == list(range(T))[::-1]


def test_tracing_changes_nothing(rng):
    model = randomise(Sequential([GRU(H, stateful=True), Dense(1)], dtype="float64", seed=0), rng)
    model.compile("mse", "adam")
    x = rng.standard_normal((B, T, I))
    model.predict(x)
    state, params = model.layers[0].state.copy(), model.get_weights()
    first = gates.trace(model, x, np.ones((B, 1)))
    assert np.array_equal(first["gru"].h[:, 0], state), "it begins where predict would"
    assert np.array_equal(model.layers[0].state, state)
    assert all(np.array_equal(a, b) for a, b in zip(params, model.get_weights(), strict=True))
    assert "run_forward" not in vars(model.layers[0]), "the layer itself keeps no record"
    assert model.optimizer.iterations == 0


def test_a_trace_can_begin_in_the_state_of_a_stream(rng):
    model = randomise(Sequential([GRU(H, return_sequences=True)], dtype="float64"), rng)
    x = rng.standard_normal((B, T, I))
    whole = gates.trace(model, x)["gru"]
    rest = gates.trace(model, x[:, 3:], states=[whole.h[:, 3]])["gru"]
    assert_close(rest.z, whole.z[:, 3:], "rounding")


def test_one_step_alone_can_have_the_loss(rng):
    model, x, y = text_model("after", rng)
    x = np.maximum(x, 1)
    read = gates.trace(model, x, y, at=4)["gru"]
    assert (read.dh[:, 6:] == 0).all() and (read.dh[:, :6] != 0).all()
    norms = gates.trace(model, x, y, at=-1)["gru"].norms_by_distance()
    assert norms.shape == (T + 1,)
    last = GRU(H)
    short = randomise(Sequential([last, Dense(1)], dtype="float64"), rng)
    short.compile("mse", "adam")
    with pytest.raises(ValueError, match="output at every step"):
        gates.trace(short, rng.standard_normal((B, T, I)), np.ones((B, 1)), at=2)


def test_norms_by_distance_count_real_steps_only(rng):
    model, x, y = text_model("after", rng)
    read = gates.trace(model, x, y)["gru"]
    for of in ("dh", "da_z"):
        norms, expected = read.norms(of), {}
        for row in range(B):
            real = np.flatnonzero(read.valid[row])
            at = [*real[::-1], None] if of == "dh" else real[::-1]
            for k, t in enumerate(at):
                value = norms[row, 0 if t is None else t + (of == "dh")]
                expected.setdefault(k, []).append(value**2)
        expected = [np.sqrt(np.mean(v)) for _, v in sorted(expected.items())]
        assert_close(read.norms_by_distance(of), np.array(expected), "rounding")


def test_what_cannot_be_traced_is_refused_with_advice(rng):
    x = rng.standard_normal((B, T, I))
    with pytest.raises(ValueError, match="no GRU"):
        gates.trace(Sequential([Dense(2)]), x)
    model = Sequential([GRU(H)], seed=0)
    with pytest.raises(ValueError, match="must be compiled first"):
        gates.trace(model, x, np.ones((B, H)))
    with pytest.raises(ValueError, match="needs a tokenizer"):
        gates.trace(model, "text")
    read = gates.trace(model, x)
    with pytest.raises(ValueError, match="give y to"):
        read["gru"].norms()
    with pytest.raises(KeyError, match="there are gru"):
        read["lstm"]


# ------------------------------------------------------------------------------------- readings


@pytest.fixture
def read(rng):
    model, x, y = text_model("after", rng)
    return gates.trace(model, x, y)["gru"]


@pytest.mark.parametrize("z", [0.3, 0.5, 0.9])
def test_half_life_of_a_constant_gate_is_the_formula(z, rng):
    model = randomise(Sequential([GRU(H)], dtype="float64"), rng)
    constant = gates.ablate(model, gate="z", value=z)
    found = gates.half_life(gates.trace(constant, rng.standard_normal((B, T, I)))["gru"])
    assert_close(found, np.full(H, np.log(0.5) / np.log(z)), "rounding")


def test_half_life_follows_the_product_of_the_gates(read):
    found, far = gates.half_life(read), gates.half_life(read, 0.9)
    assert found.shape == (H,) and (far >= found).all()
    # The state of the first real step of row 0, followed by hand.
    z = read.z[0][read.valid[0]][:, 1]
    kept = np.cumprod(z)
    k = int(np.argmax(kept <= 0.5))
    if kept[k] <= 0.5:
        before = kept[k - 1] if k else 1.0
        by_hand = k + np.log(before / 0.5) / np.log(before / kept[k])
        from gru_np.gates.readings import _halving

        assert_close(_halving(-np.log(z), 1.0)[:1], np.array([by_hand]), "rounding")


def test_half_life_is_zero_and_infinite_at_the_ends(rng):
    model = randomise(Sequential([GRU(H)], dtype="float64"), rng)
    x = rng.standard_normal((B, T, I))
    for z, low, high in ((0.0, 0.0, 0.01), (1.0, np.inf, np.inf)):
        nailed = gates.ablate(model, gate="z", value=z)
        found = gates.half_life(gates.trace(nailed, x)["gru"])
        assert ((found >= low) & (found <= high)).all()
    linear = Sequential([GRU(H, recurrent_activation="linear")], seed=0)
    with pytest.raises(ValueError, match="z must be a share"):
        gates.half_life(gates.trace(linear, x)["gru"])


def test_saturation_counts_real_steps(read):
    found = gates.saturation(read)
    z = read.z[read.valid]
    assert_close(found.z_low, (z < 0.1).mean(axis=0), "exact")
    assert_close(found.z_high, (z > 0.9).mean(axis=0), "exact")


def test_correlations_are_pearsons(read, rng):
    feature = rng.standard_normal((B, T))
    found = gates.correlations(read, {"a": feature, "constant": np.ones((B, T))}, of="z")
    for j in range(H):
        expected = np.corrcoef(read.z[read.valid][:, j], feature[read.valid])[0, 1]
        assert_close(found.values[j, :1], np.array([expected]), "rounding")
    assert (found.values[:, 1] == 0).all()
    by_token = gates.correlations(read)
    assert set(by_token.names) == {label for row in read.labels for label in row}
    with pytest.raises(ValueError, match=r"'a' must have shape \(3, 7\), got \(7,\)"):
        gates.correlations(read, {"a": np.ones(7)})


@pytest.mark.parametrize("reset_after", [True, False], ids=["after", "before"])
@pytest.mark.parametrize("end", [None, 4])
def test_jacobians_equal_complex_step(reset_after, end, rng):
    which = "after" if reset_after else "before"
    model, x, _ = text_model(which, rng)
    read = gates.trace(model, x)["gru"]
    row, last = 1, T if end is None else end
    J = gates.jacobians(read, row, end)
    assert J.shape == (last + 1, H, H)
    s = read.saved
    for t in range(last + 1):
        expected = np.empty((H, H))
        for j in range(H):
            h_t = s.h[t, row : row + 1].astype(complex)
            h_t[0, j] += 1e-30j
            h, _ = recurrence.gru_forward(
                s.x[t:last, row : row + 1], h_t, s.W_ih, s.W_hh, s.b_ih, s.b_hh, reset_after,
                mask=s.valid[t:last, row : row + 1],
            )  # fmt: skip
            expected[:, j] = h[-1, 0].imag / 1e-30
        assert_close(J[t], expected, "complex step")
    assert_close(
        gates.singular_values(read, row, end)[0],
        np.linalg.svd(J[0], compute_uv=False),
        "exact",
    )


def test_gradient_flow_skips_masked_steps(rng):
    model, x, _ = text_model("after", rng)
    x[0] = [1, 2, 3, 4, 5, 0, 0]  # padded to the right
    alone = gates.trace(model, x[:1, :5])["gru"]
    padded = gates.trace(model, x[:1])["gru"]
    assert_close(gates.gradient_flow(padded), gates.gradient_flow(alone), "rounding")
    assert gates.gradient_flow(alone)[0] == 1


def naive_rnn(x, W_ih, W_hh, b):
    h = np.zeros((len(x), H))
    for t in range(x.shape[1]):
        h = np.tanh(x[:, t] @ W_ih.T + h @ W_hh.T + b)
    return h


@pytest.mark.parametrize("reset_after", [True, False], ids=["after", "before"])
def test_without_gates_is_a_plain_network_and_stays_one_in_training(reset_after, rng):
    layer = GRU(H, reset_after=reset_after)
    model = randomise(Sequential([layer, Dense(1)], dtype="float64", seed=0), rng)
    plain = gates.without_gates(model)
    x, y = rng.standard_normal((B, T, I)), rng.standard_normal((B, 1))
    plain.compile("mse", Adam(0.01))
    before = plain.predict(x)
    plain.fit(x, y, epochs=3, verbose=0)
    assert np.abs(plain.predict(x) - before).max() > 1e-3, "it has learned something"
    p = plain.layers[0].params
    n = slice(2 * H, None)
    h = naive_rnn(x, p["W_ih"][n], p["W_hh"][n], p["b_ih"][n] + p["b_hh"][n])
    dense = plain.layers[1].params
    assert_close(plain.predict(x), h @ dense["W"].T + dense["b"], "naive")


@ALL
def test_ablation_nails_what_it_says_and_leaves_the_model_alone(which, rng):
    model, x, _ = text_model(which, rng)
    name = next(iter(gates.trace(model, x).layers))
    weights = model.get_weights()
    for gate, value in (("r", 1.0), ("z", 0.0), ("z", rng.uniform(0.1, 0.9, H))):
        read = gates.trace(gates.ablate(model, name, gate=gate, value=value), x)[name]
        found = getattr(read, gate)[read.valid]
        assert_close(found, np.broadcast_to(value, found.shape).copy(), "rounding")
    silent = gates.trace(gates.ablate(model, name, unit=2), x)[name]
    assert (silent.h[:, :, 2] == 0).all() and (silent.h[:, -1, [0, 1, 3]] != 0).all()
    assert all(np.array_equal(a, b) for a, b in zip(weights, model.get_weights(), strict=True))


def test_an_ablated_model_can_be_saved_and_loaded(tmp_path, rng):
    model, x, _ = text_model("no bias", rng)
    changed = gates.ablate(model, gate="z", value=0.25)
    changed.save(tmp_path / "changed.safetensors")
    again = Sequential.load(tmp_path / "changed.safetensors")
    assert_close(again.predict(x), changed.predict(x), "rounding")


def test_ablation_measures_losses(rng):
    model, x, y = text_model("after", rng)
    found = gates.ablation(model, x, y)
    assert_close(np.array([found.loss]), np.array([model.compute_loss(x, y)]), "rounding")
    without = gates.ablate(model, unit=1).compute_loss(x, y)
    assert_close(found.units[1:2], np.array([without]), "rounding")
    stack, x, y = text_model("stack", rng)
    with pytest.raises(ValueError, match="layer must be one of 'gru', 'gru_1', got None"):
        gates.ablation(stack, x, y)


def test_ablation_refuses_what_has_no_meaning(rng):
    model = randomise(Sequential([GRU(H)], dtype="float64"), rng)
    for wrong, match in (
        ({}, "either a unit or a gate"),
        ({"unit": 1, "gate": "z"}, "either a unit or a gate"),
        ({"gate": "n", "value": 0}, "gate"),
        ({"gate": "z"}, "which value"),
        ({"gate": "z", "value": 1.5}, "between 0 and 1"),
    ):
        with pytest.raises(ValueError, match=match):
            gates.ablate(model, **wrong)


# ------------------------------------------------------------------------------------- pictures


@pytest.fixture
def plt():
    return pytest.importorskip("matplotlib.pyplot")


def drawn(axes):
    """Draw it; nothing of it may lie outside the picture."""
    figure = np.ravel(axes)[0].figure
    figure.canvas.draw()
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert box.x0 > -0.05 and box.y0 > -0.05 and box.x1 < width + 0.05 and box.y1 < height + 0.05
    return figure


def test_every_picture_returns_its_axes_and_fits(plt, read):
    flow = gates.gradient_flow(read)
    for axes in (
        gates.plot_gates(read, ["r", "z", "n", "h"]),
        gates.plot_unit(read, 2, width=24),
        gates.plot_flow({"one": flow, "other": flow**2}),
        gates.plot_singular_values(read),
        gates.plot_cell(read, int(np.flatnonzero(read.valid[0])[0]), unit=1),
    ):
        drawn(axes)


def test_pictures_go_onto_given_axes(plt, read):
    _, axes = plt.subplots(2, 1)
    assert list(gates.plot_gates(read, ["r", "z"], axes=axes)) == list(axes)
    for draw in (
        lambda axis: gates.plot_unit(read, 1, axes=axis),
        lambda axis: gates.plot_flow({"a": [1, 0.5]}, axes=axis),
        lambda axis: gates.plot_singular_values(read, axes=axis),
    ):
        _, axis = plt.subplots()
        assert draw(axis) is axis


def test_a_text_read_backwards_is_drawn_in_its_own_order(plt):
    tokenizer = text.CharTokenizer.fit("abc")
    model = Sequential([Embedding(3, I), Bidirectional(GRU(H, return_sequences=True))], seed=0)
    read = gates.trace(model, "abca", tokenizer=tokenizer)["bidirectional/backward"]
    axis = gates.plot_gates(read, ["h"], sort=False)[0]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["a", "b", "c", "a"]
    picture = axis.images[0].get_array()
    assert_close(np.asarray(picture), read.h[0, 1:][::-1].T, "exact")


@pytest.mark.parametrize(
    "words", ["a$b$c d\n\te", "x" * 300, "long words here and there " * 8], ids=["signs", "1", "2"]
)
def test_any_text_fits_under_its_gates(plt, words):
    fit = text.WordTokenizer.fit if " here " in words else text.CharTokenizer.fit
    tokenizer = fit(words)
    model = Sequential([Embedding(tokenizer.vocab_size, I), GRU(20)], seed=0)
    read = gates.trace(model, words, tokenizer=tokenizer)["gru"]
    drawn(gates.plot_gates(read))
    drawn(gates.plot_unit(read, 3))


def test_a_masked_step_has_no_cell_to_draw(plt, read):
    masked = int(np.flatnonzero(~read.valid[0])[0])
    with pytest.raises(ValueError, match="masked"):
        gates.plot_cell(read, masked)


def test_without_matplotlib_one_line_names_the_extra(read, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(
        ImportError, match=r"plot_gates needs matplotlib: pip install 'gru_np\[plot"
    ):
        gates.plot_gates(read)


def test_the_command_draws_a_picture(plt, tmp_path):
    tokenizer = text.CharTokenizer.fit("hello world")
    model = Sequential([Embedding(tokenizer.vocab_size, I), GRU(H)], seed=0)
    model.build((None, None))
    model.tokenizer = tokenizer
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint")
    gates.add_arguments(parser)
    for extra in ([], ["--unit", "1"], ["--show", "z"]):
        out = tmp_path / f"{len(extra)}.png"
        args = parser.parse_args(["model", "--text", "hello", "--out", str(out), *extra])
        assert gates.run(args, lambda path: model) == 0
        assert out.stat().st_size > 1000
    args = parser.parse_args(["model", "--text", "hello", "--unit", "9"])
    with pytest.raises(ValueError, match=r"--unit must be in 0..3, got 9"):
        gates.run(args, lambda path: model)
