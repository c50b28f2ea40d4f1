"""What a model carries, and who may change it: states, structure, the callbacks of a run.

The right values are our own promises: `fit` and `predict` carry states and nothing else does; a run
that was interrupted anywhere, or cut into several fits, ends with the bits of one that was not.
"""

import copy
import csv
import threading

import numpy as np
import pytest
from conftest import assert_close
from hypothesis import given, settings
from hypothesis import strategies as st

from gru_np import (
    GRU,
    Bidirectional,
    CheckpointError,
    Dense,
    Dropout,
    Embedding,
    Sequential,
    check_gradients,
    checkpoint,
    gates,
    interop,
    optimizers,
)
from gru_np.callbacks import (
    AverageWeights,
    Callback,
    CSVLogger,
    EarlyStopping,
    ModelCheckpoint,
    ReduceLROnPlateau,
    SkipNonFinite,
    TerminateOnNaN,
    TrainingHealth,
)
from gru_np.health import NonFiniteError
from gru_np.layers import Layer

B, T, F, V = 4, 5, 3, 7  # F features


class Own(Layer):
    """A layer of a user's own: y = W (x + s), s the mean over time of the batch before."""

    random = False
    stateful = True

    def parameters(self, input_shape):
        return {**super().parameters(input_shape)}

    def forward(self, x, mask=None, training=False, rng=None):
        self.ensure_built(x)
        y = x if self.state is None else x + self.state[:, None]
        self.state = y.mean(axis=1)
        return y, None

    def backward(self, dy, saved):
        return dy, {}


LAYERS = {
    "gru": lambda: [GRU(4, stateful=True, return_sequences=True)],
    "two grus": lambda: [
        GRU(4, stateful=True, return_sequences=True, recurrent_dropout=0.2),
        GRU(2, stateful=True, learn_initial_state=True, return_sequences=True),
    ],
    "bidirectional": lambda: [Bidirectional(GRU(4, stateful=True, return_sequences=True))],
    "one way": lambda: [
        Bidirectional(
            GRU(4, stateful=True, return_sequences=True),
            backward_layer=GRU(4, go_backwards=True, return_sequences=True),
        )
    ],
    "own": lambda: [Own(), GRU(4, return_sequences=True)],
}
KINDS = sorted(LAYERS)


def stateful(kind, seed=0):
    model = Sequential([*LAYERS[kind](), Dropout(0.1), Dense(2)], dtype="float64", seed=seed)
    model.compile("mse", optimizers.Adam(0.01), ["mae"])
    return model


def data(batches=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((batches * B, T, F)), rng.standard_normal((batches * B, T, 2))


def carried(model):
    """Give copies of all carried arrays."""
    return copy.deepcopy([layer.state for layer in model.layers])


def assert_carried(model, expected):
    for ours, theirs in zip(carried(model), expected, strict=True):
        assert_close(ours, theirs, "exact")


class StopAfter(Callback):
    def __init__(self, batches):
        super().__init__()
        self.left = batches

    def on_train_batch_end(self, batch, logs):
        self.left -= 1
        self.model.stop_training = self.model.stop_training or self.left == 0


# ------------------------------------------------------------------------------- carried states


LOOKS = {
    "evaluate": lambda m, x, y: m.evaluate(x, y, batch_size=B),
    "evaluate in pieces": lambda m, x, y: m.evaluate(x[:B], y[:B], batch_size=B, tbptt=None),
    "compute_loss": lambda m, x, y: m.compute_loss(x[:B], y[:B]),
    "compute_gradients": lambda m, x, y: m.compute_gradients(x[:B], y[:B]),
    "check_gradients": lambda m, x, y: check_gradients(m, x[:B], y[:B]),
    "call": lambda m, x, y: m(x[:B]),
    "call in training": lambda m, x, y: m(x[:B], training=True),
    "summary": lambda m, x, y: m.summary(print_fn=str),
    "get_weights": lambda m, x, y: m.get_weights(),
    "get_config": lambda m, x, y: m.get_config(),
    "copy": lambda m, x, y: copy.deepcopy(m).predict(x, batch_size=B),
    "built": lambda m, x, y: (m.built, m.params, m.count_params(), repr(m)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_only_fit_predict_and_reset_states_change_what_is_carried(kind, tmp_path):
    x, y = data()
    model = stateful(kind)
    model.fit(x, y, batch_size=B, verbose=0)
    before = carried(model)
    assert any(state is not None for state in before)
    for name, look in LOOKS.items():
        if (kind, name) not in [("own", "get_config"), ("own", "check_gradients")]:
            look(model, x, y)
        assert_carried(model, before)
    model.predict(x, batch_size=B)
    with pytest.raises(AssertionError):
        assert_carried(model, before)
    model.reset_states()
    assert_carried(model, [None] * len(model.layers))


CARRY = {
    "fit": lambda m, x, y: m.fit(x, y, batch_size=B, verbose=0),
    "predict": lambda m, x, y: m.predict(x[:B], batch_size=B),
    "train_on_batch": lambda m, x, y: m.train_on_batch(x[B : 2 * B], y[B : 2 * B]),
    "reset_states": lambda m, x, y: m.reset_states(),
}


@settings(max_examples=12)
@given(
    kind=st.sampled_from(sorted(set(KINDS) - {"own"})),
    calls=st.lists(
        st.sampled_from([*CARRY, *sorted(set(LOOKS) - {"check_gradients"})]), max_size=6
    ),
)
def test_calls_that_only_look_may_stand_anywhere_between_the_others(kind, calls):
    x, y = data()
    watched, plain = stateful(kind), stateful(kind)
    for model in (watched, plain):
        model.fit(x, y, batch_size=B, verbose=0)
    for call in calls:
        (CARRY | LOOKS)[call](watched, x, y)
        if call in CARRY:
            CARRY[call](plain, x, y)
    assert_carried(watched, carried(plain))
    assert_close(watched.get_weights(), plain.get_weights(), "exact")


@pytest.mark.parametrize("kind", KINDS)
def test_validation_does_not_change_how_a_stateful_model_trains(kind):
    x, y = data()
    plain, watched = stateful(kind), stateful(kind)
    plain.fit(x, y, batch_size=B, epochs=2, verbose=0)
    watched.fit(x, y, batch_size=B, epochs=2, verbose=0, validation_data=data(2, seed=1))
    assert_close(watched.get_weights(), plain.get_weights(), "exact")
    assert_carried(watched, carried(plain))


@settings(max_examples=12)
@given(
    kind=st.sampled_from([*((kind, None) for kind in KINDS), ("gru", 2), ("two grus", 2)]),
    stop=st.integers(1, 5),
)
def test_a_stateful_run_that_is_resumed_anywhere_ends_with_the_same_bits(
    tmp_path_factory, kind, stop
):
    kind, tbptt = kind
    path = tmp_path_factory.mktemp("run") / "run.safetensors"
    x, y = data()

    def run(model, *callbacks, **options):
        return model.fit(
            x, y, batch_size=B, epochs=2, verbose=0, validation_data=(x[:B], y[:B]),
            callbacks=[ModelCheckpoint(path, save_freq=1), *callbacks], tbptt=tbptt, **options,
        )  # fmt: skip

    whole = stateful(kind)
    history = run(whole, StopAfter(-1))
    run(stateful(kind), StopAfter(stop))
    again = stateful(kind, seed=9)
    resumed = run(again, StopAfter(-1), resume=path)
    assert_close(again.get_weights(), whole.get_weights(), "exact")
    assert_carried(again, carried(whole))
    assert resumed.history == history.history and resumed.epoch == [0, 1]


def test_a_file_gives_back_what_its_model_carried(tmp_path):
    x, y = data()
    for kind in set(KINDS) - {"own"}:
        model = stateful(kind)
        model.fit(x, y, batch_size=B, verbose=0)
        model.save(tmp_path / "model.safetensors")
        again = Sequential.load(tmp_path / "model.safetensors")
        assert_carried(again, carried(model))
        expected = model.predict(x, batch_size=B)
        assert_close(again.predict(x, batch_size=B), expected, "exact")


def test_a_file_of_an_earlier_version_is_resumed(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((12, T, F)), rng.standard_normal((12, 1))
    path = tmp_path / "run.safetensors"

    def run(*callbacks, **options):
        model = network()
        checkpoints = ModelCheckpoint(path, save_freq=1)
        model.fit(
            x, y, batch_size=4, epochs=3, verbose=0, callbacks=[checkpoints, *callbacks], **options
        )
        return model

    whole = run(StopAfter(-1))
    run(StopAfter(5))
    config, arrays = checkpoint.load(path)
    for entry in ("passes", "carried"):  # as files were before there were these
        del config["training"][entry]
    checkpoint.save(path, config, arrays)
    assert Sequential.load(path).progress.passes == 1
    assert_close(run(StopAfter(-1), resume=path).get_weights(), whole.get_weights(), "exact")


@pytest.mark.parametrize(
    "carried",
    [
        ["carried/0", None],
        [[], None, None],
        [None, "carried/0", None],
        ["elsewhere", None, None],
        [["carried/0"], None, None],
        ["optimizer/m/gru/W_hh", None, None],
    ],
)
def test_a_file_that_says_nonsense_of_what_is_carried_is_refused(carried, tmp_path):
    x, y = data()
    path = tmp_path / "odd.safetensors"
    model = stateful("gru")
    model.fit(x, y, batch_size=B, verbose=0)
    model.save(path)
    config, arrays = checkpoint.load(path)
    assert config["training"]["carried"] == ["carried/0", None, None]
    config["training"]["carried"] = carried
    checkpoint.save(path, config, arrays)
    with pytest.raises(CheckpointError, match=r"odd\.safetensors"):
        Sequential.load(path)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_after_a_step_that_failed_no_layer_carries_what_is_not_finite(kind):
    x, y = data()
    x[-1, 0, 0] = np.nan
    model = stateful(kind)
    guard = SkipNonFinite()
    model.fit(x, y, batch_size=B, verbose=0, callbacks=[guard])
    assert guard.skipped == 1
    for state in carried(model):
        for array in state if isinstance(state, tuple) else [state]:
            assert array is None or np.isfinite(array).all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_step_that_raises_leaves_the_states_of_the_step_before():
    x, y = data()
    model = stateful("bidirectional")
    model.fit(x, y, batch_size=B, verbose=0)
    before = carried(model)
    with pytest.raises(NonFiniteError):
        model.train_on_batch(np.full_like(x[:B], np.nan), y[:B])
    assert_carried(model, before)


def test_a_prediction_that_fails_half_way_leaves_what_was_carried():
    x, y = data()
    model = stateful("bidirectional")
    model.fit(x, y, batch_size=B, verbose=0)
    before = carried(model)
    with pytest.raises(ValueError, match="carries 4 rows, got a batch of 3"):
        model.predict(x[:-1], batch_size=B)
    assert_carried(model, before)


def test_rows_of_a_stateful_model_are_never_shuffled():
    x, y = data()
    asked, left = stateful("gru"), stateful("gru")
    with pytest.raises(
        ValueError, match=r"shuffle must be off with a stateful layer.*True and gru"
    ):
        asked.fit(x, y, batch_size=B, shuffle=True, verbose=0)
    with pytest.raises(ValueError, match="got 'by_length' and bidirectional"):
        stateful("bidirectional").fit(x, y, batch_size=B, shuffle="by_length", verbose=0)
    asked.fit(x, y, batch_size=B, shuffle=False, verbose=0)
    left.fit(x, y, batch_size=B, verbose=0)
    assert_close(left.get_weights(), asked.get_weights(), "exact")


@pytest.mark.parametrize("rows", ["x", "validation_data"])
def test_a_stateful_model_says_before_training_that_the_last_batch_is_short(rows):
    x, y = data()
    model = stateful("gru")
    model.build((None, None, F))
    before = model.get_weights()
    short = (x[:-1], y[:-1])
    given, held_out = (short, None) if rows == "x" else ((x, y), short)
    with pytest.raises(ValueError, match=f"{rows} must have a multiple of 4 rows, got 11"):
        model.fit(*given, batch_size=B, validation_data=held_out, verbose=0)
    assert_close(model.get_weights(), before, "exact")


def test_a_state_of_another_shape_is_refused_where_it_is_set():
    gru, both = GRU(4, stateful=True), Bidirectional(GRU(4, stateful=True))
    with pytest.raises(ValueError, match=r"gru: state must have shape \(batch, 4\), got \(2, 3\)"):
        gru.state = np.zeros((2, 3))
    with pytest.raises(ValueError, match="bidirectional: state must be a pair"):
        both.state = np.zeros((2, 4))
    both.state = (np.ones((2, 4)), None)
    assert both.layer.state.shape == (2, 4) and both.backward_layer.state is None


def test_a_several_output_layer_gives_several_shapes():
    x = np.zeros((2, T, F))
    for states in (False, True):
        for mode in ("concat", "sum", None):
            layer = Bidirectional(GRU(4, return_state=states), merge_mode=mode)
            y = layer(x)
            shapes = [a.shape for a in y] if isinstance(y, tuple) else y.shape
            assert layer.output_shape(x.shape) == shapes
    layer = GRU(4, return_state=True, return_sequences=True)
    assert layer.output_shape(x.shape) == [a.shape for a in layer(x)]


# --------------------------------------------------------------------------- several fits, one run


def network(seed=3, dropout=0.3):
    model = Sequential([GRU(4, dropout=dropout), Dropout(dropout), Dense(1)], seed=seed)
    model.compile("mse", optimizers.Adam(0.01), ["mae"])
    return model


@pytest.mark.parametrize("how", ["again", "save and load", "initial_epoch"])
def test_four_fits_of_one_epoch_are_one_fit_of_four(how, tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((10, T, F)), rng.standard_normal((10, 1))
    options = {"batch_size": 4, "verbose": 0}
    whole, parts = network(), network()
    history = whole.fit(x, y, epochs=4, **options).history["loss"]
    losses = []
    for epoch in range(4):
        more = {"epochs": epoch + 1, "initial_epoch": epoch} if how == "initial_epoch" else {}
        losses += parts.fit(x, y, **options, **more).history["loss"]
        if how == "save and load":
            parts.save(tmp_path / "m.safetensors")
            parts = Sequential.load(tmp_path / "m.safetensors")
    assert_close(parts.get_weights(), whole.get_weights(), "exact")
    assert losses == history
    # an epoch that was stopped half way is not begun with the same rows again
    seen = []

    class Note(Callback):
        def on_gradient(self, norm, saved):
            seen.append(saved[0].h[-1][:, 0].copy())
            self.model.stop_training = True

    parts.fit(x, y, callbacks=[Note()], **options)
    parts.fit(x, y, callbacks=[Note()], **options)
    assert parts.progress.passes == 5


def test_every_call_in_training_draws_masks_of_its_own_compiled_or_not():
    x = np.random.default_rng(0).standard_normal((3, T, F))
    for compiled in (False, True):
        model = Sequential([GRU(4, dropout=0.5), Dropout(0.5), Dense(1)], seed=3)
        again = Sequential([GRU(4, dropout=0.5), Dropout(0.5), Dense(1)], seed=3)
        if compiled:
            model.compile("mse", "adam")
        calls = [model(x, training=True) for _ in range(5)]
        assert len({call.tobytes() for call in calls}) == 5
        assert_close([again(x, training=True) for _ in range(5)], calls, "exact")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_layer_alone_draws_masks_of_its_own_in_every_call():
    x = np.random.default_rng(0).standard_normal((3, T, F))
    makers = {
        "dropout": lambda: Dropout(0.5, seed=1),
        "gru": lambda: GRU(4, dropout=0.5, seed=1),
        "recurrent": lambda: GRU(4, recurrent_dropout=0.5, seed=1),
        "zoneout": lambda: GRU(4, zoneout=0.5, seed=1),
        "bidirectional": lambda: Bidirectional(GRU(4, dropout=0.5, seed=1), seed=2),
    }
    for make in makers.values():
        first, again = make(), make()
        calls = [first(x, training=True) for _ in range(4)]
        assert len({call.tobytes() for call in calls}) == 4
        assert_close([again(x, training=True) for _ in range(4)], calls, "exact")


def test_a_run_that_stops_within_an_epoch_notes_what_was_done():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((12, T, F)), rng.standard_normal((12, 1))

    class Last(Callback):
        def on_train_end(self, logs):
            self.logs = dict(logs)

    model, last = network(), Last()
    history = model.fit(
        x, y, batch_size=4, epochs=3, verbose=0, callbacks=[StopAfter(5), last],
        validation_data=(x, y),
    )  # fmt: skip
    assert history.epoch == [0, 1]
    assert {name: len(values) for name, values in history.history.items()} == {
        "loss": 2, "mae": 2, "val_loss": 2, "val_mae": 2,
    }  # fmt: skip
    assert np.isnan(history.history["val_loss"][1]) and "nan" in repr(history)
    assert last.logs == {name: history.history[name][1] for name in ("loss", "mae")}
    # a run to its end: the last epoch's numbers, validation too
    whole = network().fit(x, y, verbose=0, callbacks=[last], validation_data=(x, y)).history
    assert last.logs == {name: values[-1] for name, values in whole.items()}

    x[8:] = np.nan
    broken = network(dropout=0)
    history = broken.fit(
        x, y, batch_size=4, verbose=0, shuffle=False, callbacks=[TerminateOnNaN()]
    )  # fmt: skip
    assert history.epoch == [0] and np.isfinite(history.history["loss"]).all()


# ------------------------------------------------------------------------- the callbacks of a run


class Interrupt(Callback):
    def __init__(self, event, epoch=1):
        super().__init__()
        self.event, self.epoch = event, epoch

    def _strike(self, event):
        if event == self.event and self.model.progress.epoch == self.epoch:
            raise KeyboardInterrupt

    def on_train_batch_end(self, batch, logs):
        self._strike("batch")

    def on_test_begin(self, logs):
        self._strike("test")


@pytest.mark.parametrize("event", ["batch", "test"])
def test_averages_of_a_dead_run_reach_no_file(event, tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((12, T, F)), rng.standard_normal((12, 1))
    model, plain = network(), network()
    options = {"batch_size": 4, "verbose": 0, "validation_data": (x, y)}
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, epochs=2, callbacks=[AverageWeights(0.9), Interrupt(event)], **options)
    assert model.callbacks == []
    with pytest.raises(KeyboardInterrupt):
        plain.fit(x, y, epochs=2, callbacks=[Interrupt(event)], **options)
    assert_close(model.get_weights(), plain.get_weights(), "exact")
    model.fit(x, y, **options)
    model.save(tmp_path / "model.safetensors")
    again = Sequential.load(tmp_path / "model.safetensors")
    assert_close(again.get_weights(), model.get_weights(), "exact")


def test_a_copy_made_in_a_run_is_in_no_run(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((12, T, F)), rng.standard_normal((12, 1))
    copies = []

    class Copy(Callback):
        def on_epoch_end(self, epoch, logs):
            copies.append(copy.deepcopy(self.model))

    network().fit(x, y, batch_size=4, verbose=0, callbacks=[AverageWeights(0.5), Copy()])
    one = copies[0]
    assert one.callbacks == []
    one.train_on_batch(x, y)
    one.save(tmp_path / "model.safetensors")
    again = Sequential.load(tmp_path / "model.safetensors")
    assert_close(again.get_weights(), one.get_weights(), "exact")


def test_a_file_saved_after_a_fit_goes_on_from_its_end(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((12, T, F)), rng.standard_normal((12, 1))
    path = tmp_path / "model.safetensors"
    whole, model = network(), network()
    history = whole.fit(x, y, batch_size=4, epochs=4, verbose=0)
    model.fit(x, y, batch_size=4, epochs=2, verbose=0)
    model.save(path)
    for again in (network(seed=8), Sequential.load(path)):
        more = again.fit(
            x, y, batch_size=4, epochs=4, verbose=0, resume=path,
            callbacks=[EarlyStopping("loss", patience=9)],
        )  # fmt: skip
        assert_close(again.get_weights(), whole.get_weights(), "exact")
        assert more.history == history.history and more.epoch == [0, 1, 2, 3]
    # stopped within an epoch, and saved afterwards: its entry is replaced by the whole one
    stopped = network()
    stopped.fit(x, y, batch_size=4, epochs=4, verbose=0, callbacks=[StopAfter(5)])
    stopped.save(path)
    again = Sequential.load(path)
    again.save(path)  # a copy stands where the first stood
    more = again.fit(x, y, batch_size=4, epochs=4, verbose=0, resume=path)
    assert_close(again.get_weights(), whole.get_weights(), "exact")
    assert more.history == history.history and more.epoch == [0, 1, 2, 3]


def test_what_was_best_in_one_run_is_no_measure_for_another(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((12, T, F)), rng.standard_normal((12, 1))
    path = tmp_path / "best.safetensors"
    best = ModelCheckpoint(path, monitor="loss", save_best_only=True)
    plateau = ReduceLROnPlateau(monitor="loss", patience=1, min_delta=0)
    guards = [best, plateau, SkipNonFinite()]
    network().fit(x, y, verbose=0, callbacks=guards)
    path.unlink()
    plateau.wait = plateau.cooling = 5
    model = network()
    model.fit(x, 100 * y, verbose=0, callbacks=guards)
    assert path.exists() and best.best > 100
    assert plateau.best == best.best and plateau.wait == plateau.cooling == 0
    assert model.optimizer.learning_rate == 0.01
    # unless one goes on with the other
    good = best.best
    network().fit(x, 1000 * y, epochs=2, verbose=0, callbacks=guards, resume=path)
    assert best.best == good


def test_a_csv_log_has_each_epoch_once_and_each_number_in_its_column(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((12, T, F)), rng.standard_normal((12, 1))
    path, log = tmp_path / "run.safetensors", tmp_path / "log.csv"

    def run(model, *extra, epochs=3, **options):
        watching = [CSVLogger(log), ModelCheckpoint(path)]
        model.fit(
            x, y, batch_size=4, epochs=epochs, verbose=0, callbacks=[*watching, *extra], **options
        )

    def rows():
        with open(log, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    run(network())
    expected = rows()
    run(network(), epochs=2)
    with open(log, "a", encoding="utf-8") as file:
        file.write("2,0.5,0.5\r\n3,0.4")  # logged beyond the checkpoint, the last line cut
    run(network(), resume=path)
    assert rows() == expected and [row["epoch"] for row in expected] == ["0", "1", "2"]
    run(network(), epochs=4, resume=path, validation_data=(x, y))
    assert list(rows()[0]) == ["epoch", "loss", "mae", "val_loss", "val_mae"]
    assert rows()[2] == {**expected[2], "val_loss": "", "val_mae": ""}
    assert float(rows()[3]["val_loss"]) > 0 and len(rows()) == 4
    log.write_text("a;b\r\n1;2\r\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"first column must be epoch.*name another"):
        network().fit(x, y, verbose=0, callbacks=[CSVLogger(log, append=True)])


def test_a_model_trains_in_one_thread_at_a_time_and_serves_all_others(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((12, T, F)), rng.standard_normal((12, 1))
    model, found = network(), []

    class Intrude(Callback):
        def on_train_batch_end(self, batch, logs):
            thread = threading.Thread(target=intrude)
            thread.start()
            thread.join()
            with pytest.raises(RuntimeError, match="fit already"):
                model.fit(x, y, verbose=0)

    def intrude():
        try:
            model.fit(x, y, verbose=0)
        except RuntimeError as error:
            found.append(str(error))
        model.predict(x)
        model.save(tmp_path / "model.safetensors")
        copy.deepcopy(model).fit(x, y, verbose=0)

    model.fit(x, y, batch_size=4, epochs=2, verbose=0, callbacks=[Intrude()])
    assert len(found) == 6 and "in a fit already" in found[0]
    plain = network()
    plain.fit(x, y, batch_size=4, epochs=2, verbose=0)
    assert_close(model.get_weights(), plain.get_weights(), "exact")
    model.fit(x, y, verbose=0)  # and it is free again


# ------------------------------------------------------------------------------------- structure


def language_model(**settings):
    layers = [Embedding(V, 3), GRU(4, return_sequences=True), GRU(5), Dense(V)]
    return Sequential(layers, **settings)


def test_a_model_from_its_config_is_as_good_as_new(tmp_path):
    rng = np.random.default_rng(0)
    ids, y = rng.integers(0, V, (6, T)), rng.standard_normal((6, V))
    model = language_model(seed=4)
    model.build((None, None))
    again = Sequential.from_config(model.get_config())
    assert not again.built and again.params == {}
    with pytest.raises(ValueError, match="built first"):
        again.step(ids[:, 0])
    with pytest.raises(ValueError, match="built first"):
        again.save(tmp_path / "model.safetensors")
    for one in (model, again):
        one.compile("mse", "adam")
        one.fit(ids, y, verbose=0)
    assert again.built
    assert_close(again.params, model.params, "exact")


def test_layers_may_be_taken_out_put_in_and_exchanged_as_in_a_new_model(tmp_path):
    rng = np.random.default_rng(0)
    ids, y = rng.integers(0, V, (6, T)), rng.standard_normal((6, 2))
    path = tmp_path / "model.safetensors"
    new = Sequential([*language_model().layers[:-1], Dense(2)], seed=4)
    new.build((None, None))
    changes = {
        "pop and add": lambda m: (m.pop(), m.add(Dense(2))),
        "layers.pop, layers.append": lambda m: (m.layers.pop(), m.layers.append(Dense(2))),
        "exchange": lambda m: m.layers.__setitem__(-1, Dense(2)),
    }
    for change in changes.values():
        model = language_model(seed=4)
        model.compile("mse", "adam")
        model.fit(ids, rng.standard_normal((6, V)), epochs=0, verbose=0)
        state = model.step(ids[:, 0])[1]
        change(model)
        assert not model.built
        model.build((None, None))
        assert_close(model.params, new.params, "exact")
        assert model.step(ids[:, 0], state)[0].shape == (6, 2)
        model.fit(ids, y, verbose=0)
        model.save(path)
        assert_close(Sequential.load(path).predict(ids), model.predict(ids), "exact")
    # without its last layer a model is ready at once
    trained = model.predict(ids)
    model.pop()
    assert model.built and model.predict(ids).shape == (6, 5)
    model.save(path)
    # the optimiser begins anew with a new layer, and goes on with the others
    model.add(Dense(3))
    model.fit(ids, rng.standard_normal((6, 3)), verbose=0)
    assert model.optimizer.state["m/dense/W"].shape == (3, 5) and trained.shape == (6, 2)


def test_layers_that_do_not_fit_together_are_refused_in_a_sentence():
    ids = np.random.default_rng(0).integers(0, V, (6, T))
    model = language_model(seed=4)
    model.predict(ids)
    model.layers[2] = GRU(6)
    with pytest.raises(ValueError, match=r"dense has W \(7, 5\).*needs \(7, 6\); put a new layer"):
        model.predict(ids)
    model.layers[2] = "gru"
    with pytest.raises(TypeError, match="layers must be gru_np layers, got 'gru'"):
        model.predict(ids)
    model = language_model()
    model.layers.append(model.layers[-1])
    with pytest.raises(ValueError, match="dense is in the model already"):
        model.predict(ids)
    model = Sequential([Dense(2)])
    model.layers.append(Dense(3))
    assert model.predict(np.ones((2, 4))).shape == (2, 3)
    assert sorted(model.params) == ["dense/W", "dense/b", "dense_1/W", "dense_1/b"]
    with pytest.raises(ValueError, match="no layers"):
        Sequential().pop()


def test_looking_at_the_loss_of_a_new_model_builds_it_by_its_seed():
    ids, y = np.ones((6, T), int), np.ones((6, V))
    model, other = language_model(seed=4), language_model(seed=4)
    model.compile("mse", "adam")
    model.compute_loss(ids, y)
    other.build((None, None))
    assert_close(model.params, other.params, "exact")


# ----------------------------------------------------------------------------- methods of one's own


class Doubled(GRU):
    """Twice the state of a GRU: any way round its forward shows."""

    def run_forward(self, *args, **options):
        h, saved = GRU.run_forward(*args, **options)
        return 2 * h, saved


class Halved(Dense):
    def forward(self, x, mask=None, training=False, rng=None):
        y, saved = super().forward(x)
        return y / 2, saved

    def backward(self, dy, saved):
        return super().backward(dy / 2, saved)


class Smoothed(Dense):
    def forward(self, x, mask=None, training=False, rng=None):
        y, saved = super().forward(x)
        return y + 0.1, saved


class Shifted(Embedding):
    def forward(self, x, mask=None, training=False, rng=None):
        y, saved = super().forward(x)
        return y + 1, saved


class Flipped(Dropout):
    def forward(self, x, mask=None, training=False, rng=None):
        return -x, None


def test_both_directions_of_a_subclass_are_of_the_subclass():
    x = np.random.default_rng(0).standard_normal((2, T, F))
    both = Bidirectional(Doubled(4, seed=0))
    y = both(x)
    for layer, half in zip((both.layer, both.backward_layer), np.split(y, 2, axis=-1), strict=True):
        assert type(layer) is Doubled
        assert_close(half, layer(x), "exact")
    assert both.get_config()["backward_layer"]["class"] == "Doubled"


@pytest.mark.parametrize("wrong", [Doubled, Halved])
def test_what_does_a_layers_work_in_its_place_refuses_a_subclass(wrong, tmp_path):
    layers = [Doubled(4), Dense(2)] if wrong is Doubled else [GRU(4), Halved(2)]
    model = Sequential(layers, seed=0)
    model.build((None, None, F))
    with pytest.raises(interop.ConversionError, match=wrong.__name__):
        interop.export_standalone(model, tmp_path / "model.py")
    if wrong is Doubled:
        with pytest.raises(ValueError, match=r"doubled \(Doubled\) has methods of its own"):
            gates.trace(model, np.ones((1, T, F)))


@pytest.mark.parametrize(
    "stateful_layer", [GRU(4, stateful=True), Bidirectional(GRU(4, stateful=True))]
)
def test_a_stateful_model_is_not_exported_as_one_that_forgets(stateful_layer, tmp_path):
    model = Sequential([stateful_layer, Dense(2)], seed=0)
    model.build((None, None, F))
    with pytest.raises(interop.ConversionError, match="gru has stateful=True"):
        interop.export_standalone(model, tmp_path / "model.py")


def test_health_and_tbptt_take_a_forward_of_its_own_for_what_it_is():
    class Whole(GRU):
        def forward(self, x, mask=None, training=False, rng=None):
            y, saved = super().forward(x)
            return y, {"inner": saved}

        def backward(self, dy, saved):
            return super().backward(dy, saved["inner"])

    x, y = data()
    model = Sequential([Whole(4, return_sequences=True), Dense(2)], seed=0)
    model.compile("mse", "sgd")
    history = model.fit(x, y, verbose=0, callbacks=[TrainingHealth()])
    assert "gradient_norm" in history.history
    with pytest.raises(ValueError, match=r"whole \(Whole\) has a forward of its own"):
        model.fit(x, y, tbptt=2, verbose=0)


@pytest.mark.parametrize("rows", [1, 6, 40])
@pytest.mark.parametrize(
    "layers",
    [
        lambda: [Embedding(V, 3), Doubled(4, return_sequences=True), Dense(V)],
        lambda: [Shifted(V, 3), GRU(4, return_sequences=True), Dense(V)],
        lambda: [Embedding(V, 3), GRU(4, return_sequences=True), Halved(V)],
        lambda: [Embedding(V, 3), Flipped(0.1), GRU(4, return_sequences=True), Dense(V)],
    ],
    ids=["gru", "embedding", "dense", "dropout"],
)
def test_a_step_takes_a_subclass_at_its_word(layers, rows):
    ids = np.random.default_rng(0).integers(0, V, (rows, 1))
    model = Sequential(layers(), dtype="float64", seed=0)
    expected = model.predict(ids)[:, 0]
    for _ in range(3):
        assert_close(model.step(ids[:, 0])[0], expected, "kernel")
        assert_close(model.step(ids[:, 0], logits=True)[0], expected, "kernel")


def test_a_method_set_on_one_layer_is_taken_at_its_word():
    ids = np.random.default_rng(0).integers(0, V, (2, 1))
    model = language_model(dtype="float64", seed=0)
    model.build((None, None))
    plain = model.step(ids[:, 0])[0]
    gru = model.layers[1]
    gru.step = lambda x, state=None: tuple(2 * a for a in GRU.step(gru, x, state))
    assert not np.allclose(model.step(ids[:, 0])[0], plain)


def test_training_takes_a_subclass_at_its_word():
    rng = np.random.default_rng(0)
    ids, y = rng.integers(0, V, (3, T)), rng.integers(0, V, (3, T))
    layers = [Embedding(V, 3), GRU(4, return_sequences=True), Smoothed(V, activation="softmax")]
    model = Sequential(layers, dtype="float64", seed=0)
    model.compile("sparse_categorical_crossentropy", "sgd")
    loss = model.compute_loss(ids, y)
    expected = model.loss(y, model(ids))[0]
    assert_close(loss, expected, "rounding")
    assert_close(model.train_on_batch(ids, y), expected, "rounding")
    with pytest.raises(
        ValueError, match=r"step: logits need .* smoothed \(Smoothed\) has a forward"
    ):
        model.step(ids[:, 0], logits=True)


def test_a_step_begins_those_layers_that_have_no_state():
    ids = np.random.default_rng(0).integers(0, V, (2, 4))
    model = language_model(dtype="float64", seed=0)
    model.build((None, None))
    _, states = model.step(ids[:, 0])
    for absent in (1, 2):
        given = list(states)
        given[absent] = None
        zeros = list(states)
        zeros[absent] = np.zeros_like(states[absent])
        expected, after = model.step(ids[:, 1], zeros)
        y, found = model.step(ids[:, 1], given)
        assert_close(y, expected, "exact")
        assert_close(found[1:3], after[1:3], "exact")
