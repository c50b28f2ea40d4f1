"""Sequential: the Keras surface, masks, truncated BPTT, streaming, saving, resuming bit by bit."""

import io
import sys

import numpy as np
import pytest
from conftest import assert_close
from hypothesis import given, settings
from hypothesis import strategies as st

from gru_np import (
    GRU,
    CheckpointError,
    Dense,
    Dropout,
    Embedding,
    LayerNormalization,
    Sequential,
    checkpoint,
    kernels,
    losses,
    optimizers,
)
from gru_np.callbacks import (
    Callback,
    CSVLogger,
    EarlyStopping,
    LambdaCallback,
    ModelCheckpoint,
    ReduceLROnPlateau,
    SkipNonFinite,
    TerminateOnNaN,
)
from gru_np.health import NonFiniteError
from gru_np.layers import Layer, Masking

V, B, T = 7, 6, 9


def language_model(seed=0, dtype="float64", dropout=0.0, loss="sparse_categorical_crossentropy"):
    layers = [
        Embedding(V, 3),
        GRU(5, return_sequences=True, dropout=dropout, recurrent_dropout=dropout),
        Dropout(dropout),
        GRU(4, return_sequences=True, reset_after=False),
        Dense(V, activation="softmax"),
    ]
    model = Sequential(layers, dtype=dtype, seed=seed)
    model.compile(loss, optimizers.Adam(learning_rate=0.01), ["accuracy"])
    return model


@pytest.fixture
def ids(rng):
    return rng.integers(0, V, (B, T + 1))


# ------------------------------------------------------------------------------- Keras' surface


@pytest.mark.parametrize("seed", range(10))
def test_keras_tutorial_learns_to_its_floor(seed):
    inputs = np.array([[1, 2], [1, 2], [4, 5], [6, 5]])
    labels = np.array([3, 7, 8, 9])
    model = Sequential(
        [
            Embedding(input_dim=100, output_dim=32, input_length=2),
            GRU(units=16),
            Dense(units=10, activation="softmax"),
        ],
        seed=seed,
    )
    model.compile(loss="sparse_categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
    history = model.fit(inputs, labels, epochs=500, verbose=0)
    assert history.history["loss"][99] <= 1.1
    loss, accuracy = model.evaluate(inputs, labels)
    # Two of four inputs are the same with different labels: ln 2 / 2 = 0.347 is the floor.
    assert 0.3465 <= loss <= 0.37
    assert accuracy == 0.75


@pytest.mark.parametrize("compiled", [False, True])
def test_logits_and_a_loss_of_logits_train_like_softmax_and_its_loss(ids, compiled, monkeypatch):
    if compiled:
        pytest.importorskip("numba")
    monkeypatch.setattr(kernels, "pays", lambda *_, **__: compiled)

    def trained(activation, from_logits):
        model = Sequential(
            [Embedding(V, 3), GRU(5, return_sequences=True), Dense(V, activation)], seed=1
        )
        loss = losses.SparseCategoricalCrossentropy(from_logits)
        model.compile(loss, "adam", ["accuracy", "perplexity"])
        history = model.fit(ids[:, :-1], ids[:, 1:], 4, epochs=2, verbose=0).history
        return history, model.get_weights()

    expected, weights = trained("softmax", False)
    for activation in (None, "linear"):
        found, weights_found = trained(activation, True)
        assert found == expected
        assert_close(weights_found, weights, "exact")


def test_history_records_every_epoch_and_prints_as_a_table(ids):
    model = language_model()
    history = model.fit(
        ids[:, :-1], ids[:, 1:], epochs=3, verbose=0, validation_data=(ids[:, :-1], ids[:, 1:])
    )
    assert history.epoch == [0, 1, 2]
    assert list(history.history) == ["loss", "accuracy", "val_loss", "val_accuracy"]
    assert all(len(values) == 3 for values in history.history.values())
    assert repr(history).splitlines()[0].split() == ["epoch", *history.history]


def test_progress_is_one_line_an_epoch_when_output_is_not_a_terminal(ids, capsys):
    language_model().fit(ids[:, :-1], ids[:, 1:], epochs=2)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" - ")[0] for line in lines] == ["Epoch 1/2", "Epoch 2/2"]
    assert "tokens/s" in lines[0] and "loss: " in lines[0]


def test_moving_line_shows_loss_speed_and_time_left(ids, monkeypatch):
    pytest.importorskip("tqdm", reason="the moving line is tqdm's")

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    language_model().fit(ids[:, :-1], ids[:, 1:], epochs=1, batch_size=2)
    shown = terminal.getvalue()
    assert "\r" in shown and "tokens/s" in shown and "loss: " in shown
    assert shown.endswith("\n")


def test_evaluate_is_the_same_for_every_batch_size_and_piece(ids):
    model = language_model()
    model.build((None, None))
    x, y = ids[:, :-1], ids[:, 1:]
    whole = model.evaluate(x, y, batch_size=B)
    for batch_size, tbptt in [(1, None), (4, None), (4, 2), (B, 5)]:
        assert_close(model.evaluate(x, y, batch_size=batch_size, tbptt=tbptt), whole, "rounding")
    assert model.evaluate(x, y, return_dict=True).keys() == {"loss", "accuracy"}


def test_predict_needs_no_compile_and_not_all_rows_at_once(rng):
    model = Sequential([GRU(4), Dense(2)], dtype="float64", seed=1)
    x = rng.standard_normal((7, 5, 3))
    assert_close(model.predict(x, batch_size=3), model.predict(x), "rounding")
    assert model.predict(x[:0]).shape == (0, 2)
    assert model.predict(x.astype("float32")).dtype == np.float64


def test_summary_shows_shapes_parameters_and_bytes():
    model = language_model(dtype="float32")
    model.build((None, None))
    lines = []
    model.summary(print_fn=lines.append)
    text = lines[0]
    for part in ("embedding (Embedding)", "(None, None, 5)", "gru_1 (GRU)", "bytes", "trainable"):
        assert part in text
    assert f"{model.count_params():,} parameters" in text


def test_same_seed_same_weights_other_seed_other_weights():
    weights = []
    for seed in (3, 3, 4):
        model = language_model(seed)
        model.build((None, None))
        weights.append(model.get_weights())
    assert_close(weights[0], weights[1], "exact")
    assert any((a != b).any() for a, b in zip(weights[0], weights[2], strict=True))


def test_frozen_layers_do_not_change(ids):
    table = np.random.default_rng(0).standard_normal((V, 3))
    model = Sequential(
        [Embedding(V, 3, weights=table, trainable=False), GRU(4), Dense(V, activation="softmax")],
        dtype="float64",
        seed=0,
    )
    model.compile("sparse_categorical_crossentropy", "adam")
    model.fit(ids[:, :-1], ids[:, -1], epochs=3, verbose=0)
    assert_close(model.params["embedding/W"], table, "exact")


def test_class_and_sample_weights_multiply(rng):
    x, y = rng.standard_normal((4, 3, 2)), np.array([0, 1, 1, 0])
    model = Sequential([GRU(3), Dense(2, activation="softmax")], dtype="float64", seed=0)
    model.compile("sparse_categorical_crossentropy", "sgd")
    weight = np.array([1.0, 2.0, 0.5, 3.0])
    first = model.train_on_batch(x, y, sample_weight=weight, class_weight={1: 2.0})
    model = Sequential([GRU(3), Dense(2, activation="softmax")], dtype="float64", seed=0)
    model.compile("sparse_categorical_crossentropy", "sgd")
    second = model.train_on_batch(x, y, sample_weight=weight * [1, 2, 2, 1])
    assert_close(first, second, "rounding")


# --------------------------------------------------------------------------------------- masks


def test_padding_changes_neither_loss_nor_gradients_nor_metrics(ids):
    model = Sequential(
        [
            Embedding(V, 3, mask_zero=True),
            GRU(5, return_sequences=True),
            LayerNormalization(),
            GRU(4, return_sequences=True),
            Dense(V, activation="softmax"),
        ],
        dtype="float64",
        seed=0,
    )
    model.compile("sparse_categorical_crossentropy", "adam", ["accuracy"])
    x, y = ids[:, :-1] % (V - 1) + 1, ids[:, 1:]
    model.build((None, None))
    loss, gradients = model.compute_gradients(x, y)
    for before, after in [(0, 3), (2, 0), (2, 3)]:
        pad = ((0, 0), (before, after))
        padded_loss, padded = model.compute_gradients(np.pad(x, pad), np.pad(y, pad))
        assert_close(padded_loss, loss, "rounding")
        assert_close(padded, gradients, "rounding")
        assert_close(
            model.evaluate(np.pad(x, pad), np.pad(y, pad)), model.evaluate(x, y), "rounding"
        )


def test_a_batch_of_nothing_but_padding_gives_zero_loss_and_zero_gradients():
    model = Sequential(
        [Embedding(V, 3, mask_zero=True), GRU(5, return_sequences=True), Dense(V, "softmax")],
        seed=0,
    )
    model.compile("sparse_categorical_crossentropy", "adam")
    model.build((None, None))
    loss, gradients = model.compute_gradients(np.zeros((2, 4), int), np.zeros((2, 4), int))
    assert loss == 0
    assert not any(g.any() for g in gradients.values())


# ------------------------------------------------------------------- truncated BPTT, streaming


def test_tbptt_longer_than_the_text_is_ordinary_training(ids):
    one, other = language_model(), language_model()
    one.fit(ids[:, :-1], ids[:, 1:], epochs=2, verbose=0)
    other.fit(ids[:, :-1], ids[:, 1:], epochs=2, verbose=0, tbptt=T)
    assert_close(one.get_weights(), other.get_weights(), "rounding")


def test_tbptt_carries_the_state_and_cuts_the_gradient(ids):
    model, by_hand = language_model(), language_model()
    x, y = ids[:, :-1], ids[:, 1:]
    model.fit(x, y, epochs=1, verbose=0, tbptt=4, shuffle=False)
    by_hand.build((None, None))
    states = None
    with kernels.chosen_for(steps=1, operations=1):  # as `fit` chose for so short a run
        for start in range(0, T, 4):
            piece = slice(start, start + 4)
            states = by_hand._train_step(x[:, piece], y[:, piece], None, states)
    assert_close(model.get_weights(), by_hand.get_weights(), "exact")


def test_tbptt_refuses_layers_that_cannot_carry(ids):
    model = Sequential([Embedding(V, 3), GRU(4), Dense(V, "softmax")])
    model.compile("sparse_categorical_crossentropy", "adam")
    with pytest.raises(ValueError, match=r"gru must .* return_sequences=True"):
        model.fit(ids[:, :-1], ids[:, 1:], tbptt=3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_step_by_step_is_predict(ids, dtype):
    model = language_model(dtype=dtype)
    model.build((None, None))
    state, steps = None, []
    for t in range(T):
        y, state = model.step(ids[:, t], state)
        steps.append(y)
    assert_close(np.stack(steps, axis=1), model.predict(ids[:, :T]), "rounding")
    logits, _ = model.step(ids[:, 0], None, logits=True)
    assert_close(np.exp(logits) / np.exp(logits).sum(-1, keepdims=True), steps[0], "rounding")


@pytest.mark.skipif(not kernels.available(), reason="numba is not installed")
@pytest.mark.parametrize("first", [Embedding(V, 3), None])
def test_a_step_takes_its_arguments_in_any_form(first, ids, monkeypatch):
    monkeypatch.setattr(kernels, "pays", lambda *work, **options: True)
    model = Sequential([*([first] if first else []), GRU(5), Dense(2)], seed=1)
    model.build((None, None) if first else (None, None, 3))
    x = ids[:, 0] if first else np.cos(ids[:, :3]).astype(np.float32)
    _, state = model.step(x)
    expected, after = model.step(x, state)
    every_other, read_only = np.repeat(x, 2, axis=0)[::2], x.copy()
    read_only.flags.writeable = False
    other_dtype = x.astype(np.int32 if first else np.float64)
    for form in (x, every_other, read_only, other_dtype, x.tolist() if first else x):
        for change in (lambda h: h, lambda h: h.astype(np.float64), lambda h: np.asfortranarray(h)):
            given = [None if h is None else change(h) for h in state]
            y, now = model.step(form, given)
            assert_close([y, now[-2]], [expected, after[-2]], "exact")
    if first:
        x[4] = V
        with pytest.raises(ValueError, match=r"token ids must be in 0\.\.6, got 7 at \(4,\)"):
            model.step(x, state)


def test_step_uses_the_weights_of_its_time(ids):
    model = language_model()
    model.build((None, None))
    before, _ = model.step(ids[:, 0])
    model.fit(ids[:, :-1], ids[:, 1:], verbose=0)
    trained, _ = model.step(ids[:, 0])
    assert np.abs(trained - before).max() > 1e-6
    assert_close(trained, model.predict(ids[:, :1])[:, 0], "rounding")
    model.params["dense/b"][...] += [1, 0, 0, 0, 0, 0, 0]
    by_hand, _ = model.step(ids[:, 0])
    assert_close(by_hand, model.predict(ids[:, :1])[:, 0], "rounding")


# ------------------------------------------------------------------------------- save and resume


def test_saved_model_predicts_the_same_bits_and_goes_on_training(ids, tmp_path):
    model = language_model()
    x, y = ids[:, :-1], ids[:, 1:]
    model.fit(x, y, epochs=2, verbose=0)
    model.extras["note"] = {"words": ["a", "b"]}
    model.save(tmp_path / "model.safetensors")
    again = Sequential.load(tmp_path / "model.safetensors")
    assert_close(again.predict(x), model.predict(x), "exact")
    assert again.extras == model.extras
    assert again.history.history == model.history.history
    assert repr(again) == repr(model)
    for each in (model, again):
        each.fit(x, y, epochs=1, verbose=0)
    assert_close(again.get_weights(), model.get_weights(), "exact")


def test_a_model_saved_without_compile_predicts(tmp_path, rng):
    model = Sequential([GRU(4, use_bias=False), Dense(2)], seed=2)
    x = rng.standard_normal((2, 5, 3)).astype("float32")
    y = model.predict(x)
    model.save(tmp_path / "plain.safetensors")
    assert_close(Sequential.load(tmp_path / "plain.safetensors").predict(x), y, "exact")


class StopAfter(Callback):
    """Stop training after so many batches, as an interruption would."""

    def __init__(self, batches):
        super().__init__()
        self.left = batches

    def on_train_batch_end(self, batch, logs):
        self.left -= 1
        if self.left == 0:
            self.model.stop_training = True


OPTIMIZERS = {
    "sgd": lambda: optimizers.SGD(0.1),
    "momentum": lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "rmsprop": lambda: optimizers.RMSprop(0.01),
    "adam": lambda: optimizers.Adam(0.01, global_clipnorm=0.5),
    "adamw": lambda: optimizers.AdamW(0.01),
}


@settings(max_examples=12)
@given(
    stop=st.integers(1, 14),
    optimizer=st.sampled_from(sorted(OPTIMIZERS)),
    tbptt=st.sampled_from([None, 4]),
)
def test_resumed_run_ends_with_the_bits_of_an_uninterrupted_one(
    tmp_path_factory, stop, optimizer, tbptt
):
    path = tmp_path_factory.mktemp("run") / "run.safetensors"
    rng = np.random.default_rng(5)
    x = rng.integers(0, V, (B, T))
    y = rng.integers(0, V, (B, T))

    def run(model, extra=(), **options):
        watching = [
            ReduceLROnPlateau(monitor="loss", patience=1, factor=0.5, min_delta=10),
            EarlyStopping(monitor="loss", patience=4, restore_best_weights=True),
            ModelCheckpoint(path, save_freq=1),
        ]
        return model.fit(
            x, y, batch_size=2, epochs=4, verbose=0, tbptt=tbptt, callbacks=[*watching, *extra],
            validation_data=(x[:2], y[:2]), **options,
        )  # fmt: skip

    def model():
        fresh = language_model(seed=1, dropout=0.2)
        fresh.compile("sparse_categorical_crossentropy", OPTIMIZERS[optimizer](), ["accuracy"])
        return fresh

    whole = model()
    history = run(whole)

    interrupted = model()
    run(interrupted, [StopAfter(stop)])
    resumed = model()
    resumed.seed = 999  # must come from the file
    resumed_history = run(resumed, [StopAfter(-1)], resume=path)
    assert_close(resumed.get_weights(), whole.get_weights(), "exact")
    assert resumed_history.history == history.history
    assert resumed.optimizer.iterations == whole.optimizer.iterations
    for name, array in whole.optimizer.state.items():
        assert_close(resumed.optimizer.state[name], array, "exact")


def test_a_diverged_model_loads_only_on_request(ids, tmp_path):
    path = tmp_path / "nan.safetensors"
    model = language_model()
    model.build((None, None))
    model.params["gru/W_hh"][0, 0] = np.nan
    model.save(path)
    with pytest.raises(CheckpointError, match=r"nan.safetensors: gru/W_hh holds NaN.*allow_non"):
        Sequential.load(path)
    assert np.isnan(Sequential.load(path, allow_nonfinite=True).params["gru/W_hh"][0, 0])


@pytest.mark.parametrize(
    ("part", "value"),
    [
        (("model",), None),
        (("model", "layers"), [{"class": "Popen", "config": {}}]),
        (("model", "layers"), [{"class": "Layer", "config": {}}]),
        (("model", "layers", 1, "config", "units"), 10**12),
        (("model", "layers", 1, "config", "units"), "5"),
        (("model", "layers", 1, "config", "surprise"), 1),
        (("model", "dtype"), "object"),
        (("model", "input_shape"), [None, None, None, 3]),
        (("training", "loss"), {"class_name": "os.system", "config": {}}),
        (("training", "optimizer"), {"class_name": "Adam", "config": {"learning_rate": "x"}}),
        (("training", "iterations"), None),
        (("training", "arrays"), {"optimizer/m/gru/W_hh": [10**9, 10**9]}),
        (("training", "history"), []),
        (("training",), {}),
    ],
)
def test_a_file_whose_config_makes_no_sense_is_a_checkpoint_error(ids, tmp_path, part, value):
    path = tmp_path / "odd.safetensors"
    model = language_model()
    model.fit(ids[:, :-1], ids[:, 1:], verbose=0)
    model.save(path)
    config, arrays = checkpoint.load(path)
    place = config
    for key in part[:-1]:
        place = place[key]
    place[part[-1]] = value
    checkpoint.save(path, config, arrays)
    with pytest.raises(CheckpointError, match=r"odd\.safetensors"):
        Sequential.load(path)


def test_resume_refuses_other_data(ids, tmp_path):
    path = tmp_path / "run.safetensors"
    x, y = ids[:, :-1], ids[:, 1:]
    language_model().fit(x, y, verbose=0, callbacks=[ModelCheckpoint(path)])
    with pytest.raises(ValueError, match="1 batches an epoch; got 3"):
        language_model().fit(
            x, y, batch_size=2, epochs=2, verbose=0, callbacks=[ModelCheckpoint(path)], resume=path
        )


def test_resume_refuses_other_callbacks(ids, tmp_path):
    path = tmp_path / "run.safetensors"
    x, y = ids[:, :-1], ids[:, 1:]
    language_model().fit(x, y, verbose=0, callbacks=[ModelCheckpoint(path)])
    with pytest.raises(ValueError, match="callbacks must be those of the saved run"):
        language_model().fit(x, y, verbose=0, resume=path)


# ------------------------------------------------------------------------------------ callbacks


def test_early_stopping_waits_then_restores_the_best_weights(ids):
    x, y = ids[:, :-1], ids[:, 1:]
    model = language_model()
    weights = []
    stop = EarlyStopping(monitor="loss", patience=2, restore_best_weights=True, mode="max")
    keep = LambdaCallback(on_epoch_end=lambda epoch, logs: weights.append(model.get_weights()))
    history = model.fit(x, y, epochs=10, verbose=0, callbacks=[keep, stop])
    # the loss falls, so with mode="max" the first epoch stays the best
    assert history.epoch == [0, 1, 2]
    assert_close(model.get_weights(), weights[0], "exact")
    with pytest.raises(ValueError, match=r"monitor must be one of 'loss', 'accuracy'.*val_loss"):
        model.fit(x, y, verbose=0, callbacks=[EarlyStopping()])


def test_checkpoint_keeps_the_best_and_names_epochs(ids, tmp_path):
    x, y = ids[:, :-1], ids[:, 1:]
    every = ModelCheckpoint(tmp_path / "e{epoch:02d}-{loss:.1f}.safetensors")
    best = ModelCheckpoint(
        tmp_path / "best.safetensors", monitor="loss", save_best_only=True, mode="max"
    )
    language_model().fit(x, y, epochs=3, verbose=0, callbacks=[every, best])
    names = sorted(p.name for p in tmp_path.iterdir())
    assert [name[:3] for name in names] == ["bes", "e01", "e02", "e03"]
    assert Sequential.load(tmp_path / "best.safetensors").history.epoch == [0]


def test_learning_rate_falls_on_a_plateau(ids):
    model = language_model()
    plateau = ReduceLROnPlateau(
        monitor="loss", factor=0.1, patience=1, min_delta=100, cooldown=1, min_lr=5e-4
    )
    rates = []
    keep = LambdaCallback(on_epoch_end=lambda *_: rates.append(model.optimizer.learning_rate))
    model.fit(ids[:, :-1], ids[:, 1:], epochs=5, verbose=0, callbacks=[plateau, keep])
    assert rates == pytest.approx([1e-2, 1e-3, 5e-4, 5e-4, 5e-4])


def test_csv_logger_writes_a_header_and_a_line_an_epoch(ids, tmp_path):
    path = tmp_path / "log.csv"
    model = language_model()
    for append in (False, True):
        model.fit(
            ids[:, :-1], ids[:, 1:], epochs=2, verbose=0, callbacks=[CSVLogger(path, append=append)]
        )
    lines = path.read_text().splitlines()
    assert lines[0] == "epoch,loss,accuracy"
    assert [line.split(",")[0] for line in lines[1:]] == ["0", "1", "0", "1"]


def test_nan_stops_training(ids):
    model = language_model()
    model.build((None, None))
    model.params["dense/b"][0] = np.nan
    history = model.fit(
        ids[:, :-1], ids[:, 1:], batch_size=2, epochs=5, verbose=0, callbacks=[TerminateOnNaN()]
    )
    assert history.epoch == []


@pytest.mark.parametrize("gate", ["r", "z", "n"])
def test_nan_in_a_gate_stops_training_names_it_and_harms_no_weight(ids, gate):
    model = language_model()
    model.build((None, None))

    def run_forward(*args, **kwargs):
        h, saved = kernels.gru_forward(*args, **kwargs)
        getattr(saved, gate)[2, 1, 0] = np.nan
        h[3:, 1] = np.nan
        return h, saved

    model.layers[1].run_forward = run_forward
    before = model.get_weights()
    with pytest.raises(
        NonFiniteError, match=f"step 1,.* gru is not finite, gate {gate} at time step 2;"
    ):
        model.fit(ids[:, :-1], ids[:, 1:], verbose=0)
    assert_close(model.get_weights(), before, "exact")
    assert model.optimizer.iterations == 0 and not model.optimizer.state


class Spoil(Layer):
    """Make a NaN that is not in the data."""

    def forward(self, x, mask=None, training=False, rng=None):
        y = x.copy()
        y[2, 5, 0] = np.nan
        return y, None

    def backward(self, dy, saved):
        return dy, {}


def test_the_time_step_of_a_nan_counts_padding_that_was_skipped(rng):
    x = np.zeros((4, 9, 2))
    x[:, 3:] = rng.standard_normal((4, 6, 2))
    model = Sequential([Masking(), Spoil(), GRU(3), Dense(1)], seed=0)
    model.compile("mse", "adam")
    with pytest.raises(NonFiniteError, match="gru is not finite, gate r, z at time step 5;"):
        model.fit(x, np.ones((4, 1)), verbose=0)


@pytest.mark.parametrize(("gate", "row"), [("r", 0), ("z", 5), ("n", 10)])
def test_a_nan_parameter_is_named_with_its_gate(ids, gate, row):
    model = language_model()
    model.build((None, None))
    model.params["gru/W_hh"][row, 1] = np.nan
    with pytest.raises(NonFiniteError, match=rf"parameter gru/W_hh is not finite, gate {gate};"):
        model.fit(ids[:, :-1], ids[:, 1:], verbose=0)


def test_a_step_that_is_nan_can_be_skipped_as_if_its_batch_were_not_there(rng):
    x, y = rng.standard_normal((6, 4, 2)), rng.integers(0, 3, 6)
    broken = x.copy()
    broken[2, 1, 0] = np.nan

    def trained(x, y, *callbacks):
        model = Sequential([GRU(5), Dense(3, activation="softmax")], dtype="float64", seed=0)
        model.compile("sparse_categorical_crossentropy", "adam")
        model.fit(x, y, batch_size=2, shuffle=False, verbose=0, callbacks=callbacks)
        return model.get_weights()

    keep, skip = [0, 1, 4, 5], SkipNonFinite()
    assert_close(trained(broken, y, skip), trained(x[keep], y[keep]), "exact")
    assert skip.skipped == 1
    with pytest.raises(NonFiniteError, match="step 2"):
        trained(broken, y, SkipNonFinite(in_a_row=0))


def test_batches_of_similar_lengths_train_on_every_row_and_resume(rng, tmp_path):
    x = rng.integers(1, V, (30, T))
    for row, length in zip(x, rng.integers(1, T + 1, 30), strict=True):
        row[: T - length] = 0
    y = rng.integers(0, 3, 30)

    def model():
        layers = [Embedding(V, 3, mask_zero=True), GRU(4), Dense(3, activation="softmax")]
        model = Sequential(layers, seed=0)
        model.compile("sparse_categorical_crossentropy", "adam")
        return model

    seen = []
    first = model()
    step = first._train_step

    def look(x, y, *rest):
        seen.append(np.count_nonzero(x, axis=1))
        return step(x, y, *rest)

    first._train_step = look
    options = {"batch_size": 5, "epochs": 3, "verbose": 0, "shuffle": "by_length"}
    first.fit(x, y, **options)
    lengths = np.count_nonzero(x, axis=1)
    assert sorted(np.concatenate(seen[:6]).tolist()) == sorted(lengths.tolist())
    assert np.mean([batch.std() for batch in seen]) < lengths.std() / 2

    path = tmp_path / "run.safetensors"
    stop = [ModelCheckpoint(path, save_freq=1), StopAfter(8)]
    model().fit(x, y, **options, callbacks=stop)
    again = model()
    again.fit(x, y, **options, callbacks=[ModelCheckpoint(path), StopAfter(-1)], resume=path)
    assert_close(again.get_weights(), first.get_weights(), "exact")


# ------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x, y: Sequential([GRU(2)]).fit(x, y), "must be compiled first"),
        (lambda m, x, y: m.compile("crossentropy", "adam"), "crossentropy"),
        (lambda m, x, y: m.compile("mse", "adamm"), "did you mean 'adam'"),
        (lambda m, x, y: m.compile("mse", "adam", ["acuracy"]), "did you mean 'accuracy'"),
        (lambda m, x, y: m.fit(x, y[:-1]), "same number of rows, got 6 and 5"),
        (lambda m, x, y: m.fit(x, y, batch_size=0), "batch_size must be at least 1, got 0"),
        (lambda m, x, y: m.fit(x, y, epochs=1.5), "epochs must be an integer, got 1.5"),
        (lambda m, x, y: m.fit(x, y, sample_weight=np.ones(2)), "one entry for each of the 6 rows"),
        (lambda m, x, y: m.fit(x, y, validation_split=1.0), r"must be in \(0, 1\), got 1.0"),
        (lambda m, x, y: m.fit(x + V, y), r"token ids must be in 0\.\.6"),
        (lambda m, x, y: m.fit([[1], [1, 2]], y), "pad_sequences"),
        (lambda m, x, y: m.set_weights([np.ones(3)]), r"expected embedding/W \(7, 3\)"),
        (lambda m, x, y: m.add("gru"), "layers must be gru_np layers"),
        (lambda m, x, y: Sequential([]).predict(x), "has no layers"),
        (lambda m, x, y: Sequential([GRU(2)]).step(x), "must be built first"),
        (lambda m, x, y: Sequential([GRU(2)], dtype="float16"), "float32 or float64"),
        (lambda m, x, y: m.fit(x, y, resume="nowhere.safetensors"), "nowhere.safetensors"),
        (lambda m, x, y: m.fit(x, y, callbacks=["early"]), "callbacks must be Callback objects"),
        (lambda m, x, y: m.fit(x[:0], y[:0]), "at least one row"),
        (lambda m, x, y: m.predict(x, batch_size=0), "batch_size must be at least 1, got 0"),
        (lambda m, x, y: m.evaluate(x, y, batch_size=-1), "batch_size must be at least 1, got -1"),
        (lambda m, x, y: m.add(m.layers[1]), "is in the model already"),
        (
            lambda m, x, y: Sequential([GRU(3), GRU(2)]).predict(np.ones((2, 5, 3))),
            r"gru_1: the input must .* features\), got \(None, 3\); .* return_sequences=True",
        ),
        (
            lambda m, x, y: Sequential([GRU(3)]).predict(np.ones((4, 5))),
            r"time axis, x\[:, None, :\]",
        ),
    ],
)
def test_bad_input_gets_one_clear_sentence_and_changes_nothing(ids, call, message):
    model = language_model()
    model.build((None, None))
    before = model.get_weights()
    with pytest.raises((ValueError, TypeError), match=message):
        call(model, ids[:, :-1], ids[:, 1:])
    assert_close(model.get_weights(), before, "exact")


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    ("x", "change", "message"),
    [
        (np.ones((2, 4)), None, r"x must have shape \(batch, 3\), got \(2, 4\)"),
        (np.ones((2, 1, 3)), None, r"x must have shape \(batch, 3\), got \(2, 1, 3\)"),
        (np.ones((4, 3)), None, r"state must have shape \(4, 5\), got \(2, 5\)"),
        (np.ones((2, 3)), lambda state: [np.ones((2, 9)), None], r"\(2, 5\), got \(2, 9\)"),
        (np.ones((2, 3)), lambda state: state[:1], "one entry for each of the 2 layers, got 1"),
    ],
)
def test_a_step_that_does_not_fit_gets_a_sentence(x, change, message, compiled, monkeypatch):
    if compiled and not kernels.available():
        pytest.skip("numba is absent")
    monkeypatch.setattr(kernels, "pays", lambda *work, **options: compiled)
    model = Sequential([GRU(5, return_sequences=True), Dense(2)], seed=0)
    model.build((None, None, 3))
    _, state = model.step(np.ones((2, 3)))
    with pytest.raises(ValueError, match=message):
        model.step(x, state if change is None else change(state))


def test_a_wrong_name_given_to_compile_leaves_the_model_as_it_was():
    model = Sequential([Dense(2)])
    model.compile("mse", "adam")
    before = model.loss, model.optimizer, model.metrics
    for wrong in (("msee", "sgd"), ("mae", "sdg"), ("mae", "sgd", ["acuracy"])):
        with pytest.raises(ValueError, match="did you mean"):
            model.compile(*wrong)
    assert (model.loss, model.optimizer, model.metrics) == before
