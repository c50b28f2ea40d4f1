"""What a run needs at its end is checked at its beginning: no epoch is lost to a wrong setting.

Right is plain sense: the error that would come after the first epoch comes before the first step,
in a sentence, and leaves the weights and the files as they were.
"""

import os

import numpy as np
import pytest
from conftest import assert_close

from gru_np import GRU, Bidirectional, Dense, Embedding, Sequential, metrics
from gru_np.callbacks import (
    AverageWeights,
    Callback,
    CSVLogger,
    EarlyStopping,
    JSONLogger,
    LambdaCallback,
    ModelCheckpoint,
    ReduceLROnPlateau,
    SkipNonFinite,
    StopOnSignal,
    TrainingHealth,
)
from gru_np.callbacks.monitors import direction
from gru_np.optimizers import SGD
from gru_np.schedules import CosineDecay


def network(optimizer="sgd", layer=None, kinds=("mae",), **options):
    model = Sequential([layer or GRU(3), Dense(1)], seed=0)
    model.compile("mse", optimizer, list(kinds), **options)
    return model


def data(rng):
    return rng.normal(size=(9, 4, 2)), rng.normal(size=(9, 1))


def refused(model, rng, callbacks, error, message, **options):
    """The fit is refused in this sentence, before anything has happened."""
    x, y = data(rng)
    model.build((None, 4, 2))
    before = model.get_weights()
    with pytest.raises(error, match=message):
        model.fit(x, y, batch_size=3, epochs=2, verbose=0, callbacks=callbacks, **options)
    assert model.optimizer.iterations == 0
    assert_close(model.get_weights(), before, "exact")


# ----------------------------------------------------------------------------------- directions


@pytest.mark.parametrize(
    ("mode", "names"),
    [
        (
            "max",
            "accuracy acc auc precision recall f1 f1_score macro_f1 f1_macro r2 bleu "
            "sparse_categorical_accuracy top_k_categorical_accuracy top_5 top_3_accuracy "
            "SparseCategoricalAccuracy accuracy_1 weighted_accuracy recall_at_5 recall@10 auc_2 "
            "mean_iou cosine_similarity log_likelihood ROUGE_L exact_match loss_accuracy miou",
        ),
        (
            "min",
            "loss error mae mse rmse mean_absolute_error perplexity weighted_perplexity wer cer "
            "inaccuracy binary_crossentropy log_loss nll negative_log_likelihood error_rate "
            "word_error_rate gaussian_nll crps brier_score root_mean_squared_error ctc pinball "
            "mae_1 false_positives accuracy_loss huber dissimilarity unlikelihood quantile_loss",
        ),
    ],
)
def test_known_names_decide_the_direction_at_construction(mode, names):
    # "inaccuracy" was maximised for the "acc" within it; F1, recall, R² and BLEU were minimised
    for name in names.split():
        for monitor in (name, f"val_{name}"):
            assert EarlyStopping(monitor=monitor).mode == mode, monitor
    assert ReduceLROnPlateau(monitor="val_" + names.split()[0]).mode == mode


@pytest.mark.parametrize("name", ["score", "power", "lower", "tower", "gru/r_saturated", "x", ""])
def test_an_unknown_name_asks_for_the_mode(name, tmp_path):
    assert direction(name) is None
    for make in (
        lambda **o: EarlyStopping(name, **o),
        lambda **o: ReduceLROnPlateau(name, **o),
        lambda **o: ModelCheckpoint(tmp_path / "m.st", name, save_best_only=True, **o),
    ):
        with pytest.raises(ValueError, match=f"mode must be given for monitor {name!r}, whose"):
            make()
        assert make(mode="max").mode == "max"
    ModelCheckpoint(tmp_path / "m.st", name)  # never looks at it


def test_what_should_grow_is_watched_growing(rng):
    stop = EarlyStopping("f1", patience=1)
    stop.model = network()
    stop.on_train_begin({})
    for epoch, value in enumerate([0.2, 0.4, 0.3]):
        stop.on_epoch_end(epoch, {"f1": value})
    assert (stop.best, stop.stopped_epoch) == (0.4, 2)


# ------------------------------------------------------------------------------- absent numbers


@pytest.mark.parametrize(
    "make",
    [
        lambda p: EarlyStopping(),
        lambda p: EarlyStopping("val_mse"),
        lambda p: ReduceLROnPlateau("accuracy"),
        lambda p: AverageWeights(patience=2),
        lambda p: ModelCheckpoint(p / "m.st", save_best_only=True),
    ],
)
def test_a_number_that_will_never_be_there_is_refused(make, rng, tmp_path):
    refused(network(), rng, [make(tmp_path)], ValueError, "monitor must be one of 'loss', 'mae'")


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("absent", "{epoch}-{accuracy:.2f}.st"),
        ("validation", "{val_loss}.st"),
        ("format", "{epoch:.2q}.st"),
        ("kind", "{loss:d}.st"),
    ],
)
def test_a_pattern_that_cannot_be_filled_in_is_refused(name, pattern, rng, tmp_path):
    refused(
        network(), rng, [ModelCheckpoint(tmp_path / pattern)], ValueError,
        "ModelCheckpoint: filepath must have fields among loss, mae, epoch, batch, with formats",
    )  # fmt: skip
    assert os.listdir(tmp_path) == []


def test_files_within_an_epoch_know_nothing_of_validation(rng, tmp_path):
    held_out = data(rng)
    options = {"validation_data": held_out}
    keep = ModelCheckpoint(tmp_path / "{val_loss}.st", save_freq=1)
    refused(network(), rng, [keep], ValueError, "fields among loss, mae, epoch, batch", **options)
    keep = ModelCheckpoint(tmp_path / "m.st", save_freq=2, save_best_only=True)
    refused(network(), rng, [keep], ValueError, "monitor must be one of 'loss', 'mae'", **options)
    # three batches an epoch: this one writes at the end of epochs only
    keep = ModelCheckpoint(tmp_path / "{val_loss:.1f}.st", save_freq=3)
    x, y = data(rng)
    network().fit(x, y, batch_size=3, verbose=0, callbacks=[keep], **options)
    assert len(os.listdir(tmp_path)) == 1


def test_every_field_there_is_can_be_filled_in(rng, tmp_path):
    # {batch} counts those done of the epoch, as in Keras
    x, y = data(rng)
    name = "{epoch:02d}-{batch}-{loss:.1e}-{val_mae:5.3f}-{learning_rate:g}-{gradient_norm:.1f}.st"
    callbacks = [
        ModelCheckpoint(tmp_path / name),
        ReduceLROnPlateau(),
        TrainingHealth(),
        EarlyStopping("gradient_norm_max", mode="min"),
        EarlyStopping("bidirectional/forward/z_saturated", mode="min", patience=9),
    ]
    model = network(SGD(0.125), Bidirectional(GRU(3), name="bidirectional"))
    model.fit(
        x, y, batch_size=4, verbose=0, callbacks=callbacks, validation_data=(x, y)
    )  # fmt: skip
    (found,) = os.listdir(tmp_path)
    assert found.startswith("01-3-")
    assert "-0.125-" in found


def test_numbers_that_a_callback_of_ones_own_adds_can_be_watched(rng, tmp_path):
    class F1(Callback):
        def on_epoch_end(self, epoch, logs):
            logs["val_f1"] = 0.25

    class More(TrainingHealth):
        def on_epoch_end(self, epoch, logs):
            super().on_epoch_end(epoch, logs)
            logs["val_f1"] = 0.25

    x, y = data(rng)
    for own in (F1(), More(), LambdaCallback(lambda epoch, logs: None)):
        watching = [EarlyStopping("val_f1"), ModelCheckpoint(tmp_path / "{val_f1}.st")]
        if isinstance(own, LambdaCallback):
            own = LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(val_f1=0.25))
        network().fit(x, y, verbose=0, callbacks=[own, *watching])
    assert os.listdir(tmp_path) == ["0.25.st"]
    with pytest.raises(ValueError, match="monitor must be one of 'loss', 'mae', 'val_f1', got 'r2"):
        network().fit(x, y, verbose=0, callbacks=[F1(), EarlyStopping("r2")])


# ---------------------------------------------------------------------------- places for files


@pytest.mark.parametrize("make", [ModelCheckpoint, StopOnSignal])
def test_a_folder_that_is_not_there_is_refused(make, rng, tmp_path):
    path = tmp_path / "none" / "m.st"
    name = make.__name__
    refused(network(), rng, make(path), FileNotFoundError, f"{name}: cannot save there, there is")


def test_a_folder_whose_name_is_filled_in_must_be_there_too(rng, tmp_path):
    keep = ModelCheckpoint(tmp_path / "{epoch}" / "m.st")
    refused(network(), rng, keep, FileNotFoundError, "there is no folder .*1:?")


@pytest.mark.parametrize("make", [ModelCheckpoint, StopOnSignal])
def test_a_place_that_must_not_be_written_to_is_refused(make, rng, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    refused(network(), rng, make(tmp_path / "m.st"), PermissionError, "folder .* write-protected")
    (tmp_path / "m.st").write_bytes(b"")
    refused(network(), rng, make(tmp_path / "m.st"), PermissionError, "file is write-protected")


def test_a_folder_in_the_place_of_the_file_is_refused(rng, tmp_path):
    keep = ModelCheckpoint(tmp_path / "{epoch}")
    (tmp_path / "1").mkdir()
    refused(network(), rng, keep, ValueError, "expected a regular file to replace, found a direct")


@pytest.mark.parametrize("make", [CSVLogger, JSONLogger])
def test_a_log_that_cannot_be_written_is_refused(make, rng, tmp_path):
    refused(network(), rng, make(tmp_path / "none" / "log"), FileNotFoundError, "none")


# ------------------------------------------------------------------ what a file cannot hold


class Ones(metrics.MeanSquaredError):
    """A metric of one's own."""


class Remembers(Callback):
    """A callback whose state comes to be as training begins."""

    def on_train_begin(self, logs):
        self.seen = {1, 2}

    def get_state(self):
        return {"seen": self.seen}


@pytest.mark.parametrize("make", [ModelCheckpoint, StopOnSignal])
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: network(SGD(lambda step: 0.1)), "only a schedule of gru_np's own, got <function"),
        (lambda: network(kinds=[Ones()]), "can hold only a metric of gru_np's own, got Ones"),
        (lambda: network(weighted_metrics=[Ones()]), "can hold only a metric of gru_np's own"),
        (lambda: with_extras({"seen": {1}}), r"config\['extras'\]\['seen'\] must be .* got set"),
        (lambda: with_extras({"mean": np.ones(2)}), r"\['mean'\] must be a JSON value, got ndarr"),
        (lambda: with_extras({3: "a"}), "keys of .*extras.* must be str, got 3"),
    ],
)
def test_a_model_that_no_file_can_hold_is_refused(make, build, message, rng, tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("of the run before\n")
    callbacks = [CSVLogger(log), make(tmp_path / "m.st")]
    refused(build(), rng, callbacks, TypeError, f"{make.__name__}: the model cannot .*{message}")
    assert log.read_text() == "of the run before\n"


def with_extras(extras):
    model = network()
    model.extras |= extras
    return model


def test_the_state_of_a_callback_that_no_file_can_hold_is_refused(rng, tmp_path):
    keep = ModelCheckpoint(tmp_path / "m.st")
    refused(network(), rng, [keep, Remembers()], TypeError, r"\['seen'\] must be a JSON value")


def test_without_a_file_all_these_train(rng):
    x, y = data(rng)
    for model in (network(SGD(lambda step: 0.1), kinds=[Ones()]), with_extras({"seen": {1}})):
        model.fit(x, y, verbose=0, callbacks=[Remembers()])
        assert model.optimizer.iterations == 1


# ------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: EarlyStopping(patience="3"), TypeError, "patience must be an integer, got '3'"),
        (lambda: EarlyStopping(patience=-1), ValueError, "patience must be at least 0, got -1"),
        (lambda: EarlyStopping(min_delta="a"), TypeError, "min_delta must be a number, got 'a'"),
        (lambda: EarlyStopping(baseline=[1]), TypeError, "baseline must be a number"),
        (lambda: EarlyStopping(start_from_epoch=0.5), TypeError, "start_from_epoch must be an int"),
        (lambda: ReduceLROnPlateau(factor="half"), TypeError, "factor must be a number"),
        (lambda: ReduceLROnPlateau(factor=1.0), ValueError, r"factor must be in \(0, 1\), got 1"),
        (lambda: ReduceLROnPlateau(cooldown=None), TypeError, "cooldown must be an integer"),
        (lambda: ReduceLROnPlateau(min_lr=-1), ValueError, "min_lr must be finite and at least 0"),
        (lambda: ModelCheckpoint("m", initial_value_threshold="a"), TypeError, "must be a number"),
        (lambda: SkipNonFinite("two"), TypeError, "in_a_row must be an integer, got 'two'"),
        (lambda: LambdaCallback(3), TypeError, "on_epoch_begin must be callable, got 3"),
        (lambda: AverageWeights(patience=5, monitor="val_accuracy"), ValueError, "less is better"),
    ],
)
def test_settings_are_checked_when_they_are_given(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_plateau_needs_a_rate_that_can_be_lowered(rng):
    model = network(SGD(CosineDecay(0.1, 10)))
    refused(model, rng, ReduceLROnPlateau("loss"), ValueError, "got the schedule CosineDecay")


def test_numpy_numbers_that_a_callback_adds_can_be_logged(rng, tmp_path):
    def add(epoch, logs):
        logs["norm"] = np.float32(0.5)

    log = tmp_path / "log.jsonl"
    x, y = data(rng)
    network().fit(x, y, verbose=0, callbacks=[LambdaCallback(on_epoch_end=add), JSONLogger(log)])
    assert '"norm": 0.5' in log.read_text()


def test_a_number_must_be_added_before_it_is_watched_unless_health_adds_it(rng):
    def add(epoch, logs):
        logs["f1"] = 0.5

    own, stop = LambdaCallback(on_epoch_end=add), EarlyStopping("f1")
    refused(
        network(), rng, [stop, own], ValueError,
        "monitor must be one of .*got 'f1'; if LambdaCallback adds it to the logs, put that first",
    )  # fmt: skip
    x, y = data(rng)
    network().fit(x, y, verbose=0, callbacks=[own, stop])
    # in any order
    stop = EarlyStopping("gradient_norm")
    network().fit(x, y, verbose=0, callbacks=[stop, TrainingHealth()])
    assert stop.best > 0


def test_a_refused_fit_leaves_the_record_of_the_last_one(rng):
    model, (x, y) = network(), data(rng)
    history = model.fit(x, y, verbose=0)
    progress = model.progress
    with pytest.raises(ValueError, match="monitor must be one of"):
        model.fit(x, y, verbose=0, callbacks=EarlyStopping())
    assert (model.history, model.progress) == (history, progress)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"verbose": "loud"}, ValueError, "verbose must be 'auto', 0, 1 or 2, got 'loud'"),
        ({"initial_epoch": "1"}, TypeError, "initial_epoch must be an integer, got '1'"),
        ({"initial_epoch": -1}, ValueError, "initial_epoch must be at least 0, got -1"),
        ({"validation_split": "0.2"}, TypeError, "validation_split must be a number, got '0.2'"),
        ({"validation_split": 1.0}, ValueError, r"validation_split must be in \(0, 1\), got 1"),
    ],
)
def test_arguments_of_fit_get_one_sentence(options, error, message, rng):
    with pytest.raises(error, match=f"^fit: {message}"):
        network().fit(*data(rng), **options)


def test_callbacks_of_ones_own_that_see_no_logs_hide_no_mistake(rng):
    class Begins(Callback):
        def on_epoch_begin(self, epoch, logs):
            pass

    own = [Begins(), LambdaCallback(on_train_begin=print)]
    refused(network(), rng, [*own, EarlyStopping()], ValueError, "'mae', got 'val_loss'; give val")


class Told(Callback):
    """What a callback may take: more than it must, or whatever comes."""

    def on_epoch_end(self, epoch, logs=None, more=3):
        pass

    def on_train_end(self, *args):
        pass

    on_train_begin = staticmethod(lambda logs: None)


@pytest.mark.parametrize(
    ("event", "method", "wanted"),
    [
        ("on_epoch_end", lambda self, epoch: None, r"\(epoch, logs\)"),
        ("on_train_end", lambda self: None, r"\(logs\)"),
        ("on_train_error", lambda self, error: None, r"\(\)"),
        ("on_test_end", lambda self, epoch, logs: None, r"\(logs\)"),
        ("on_gradient", lambda self, norm: None, r"\(norm, saved\)"),
        ("on_nonfinite", None, r"\(batch, error\)"),
    ],
)
def test_an_event_that_cannot_be_told_is_refused_before_training(event, method, wanted, rng):
    x, y = data(rng)
    model = network()
    model.build((None, 4, 2))
    before = [array.tobytes() for array in model.get_weights()]
    odd = type("Odd", (Callback,), {event: method})()
    with pytest.raises(TypeError, match=f"Odd: {event} must take {wanted}"):
        model.fit(x, y, verbose=0, callbacks=[odd])
    assert [array.tobytes() for array in model.get_weights()] == before
    model.fit(x, y, verbose=0, callbacks=[Told(), LambdaCallback(on_train_end=print)])


@pytest.mark.parametrize("event", ["on_epoch_end", "on_train_end"])
def test_a_function_that_cannot_be_told_is_refused_before_training(event, rng):
    with pytest.raises(TypeError, match=f"LambdaCallback: {event} must take"):
        network().fit(*data(rng), verbose=0, callbacks=[LambdaCallback(**{event: lambda: None})])


def reader(**settings):
    model = Sequential(
        [Embedding(6, 3, **settings), GRU(4, return_sequences=True), Dense(6, "softmax")], seed=0
    )
    model.compile("sparse_categorical_crossentropy", "sgd")
    return model


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda y: np.where(np.arange(45).reshape(9, 5) == 44, 6, y), {}, r"0\.\.5, got 6"),
        (lambda y: np.where(np.arange(45).reshape(9, 5) == 44, -1, y), {}, r"0\.\.5, got -1"),
        (lambda y: np.where(np.arange(45).reshape(9, 5) == 44, 1.5, y), {}, r"0\.\.5, got 1.5"),
        (lambda y: y[:, 0], {"tbptt": 2}, "fit: .*must"),
        (lambda y: y[:, :4], {"tbptt": 2}, "fit: .*must"),
        (lambda y: y[:, :3], {}, "fit: .*must"),
    ],
)
def test_targets_of_any_batch_are_looked_at_before_the_first(change, options, message, rng):
    ids, y = rng.integers(0, 6, (9, 5)), rng.integers(0, 6, (9, 5))
    model = reader()
    model.build((None, 5))
    before = [array.tobytes() for array in model.get_weights()]
    with pytest.raises(ValueError, match=message):
        model.fit(ids, change(y), batch_size=2, shuffle=False, verbose=0, **options)
    assert [array.tobytes() for array in model.get_weights()] == before


def test_labels_of_padding_and_of_weight_zero_may_be_anything(rng):
    ids, y = rng.integers(1, 6, (9, 5)), rng.integers(0, 6, (9, 5))
    weight = np.ones((9, 5))
    ids[3, 2:], y[3, 2:], weight[3, 2:] = 0, -100, 0
    reader(mask_zero=True).fit(ids, y, batch_size=2, verbose=0)
    reader().fit(ids, y, batch_size=2, sample_weight=weight, verbose=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: [EarlyStopping("loss")] * 2, "got one EarlyStopping twice"),
        (lambda p: [AverageWeights(), AverageWeights(momentum=None)], "one AverageWeights at most"),
        (
            lambda p: [ModelCheckpoint(p / "a"), ModelCheckpoint(str(p / "a"), "loss")],
            "of their own",
        ),
        (lambda p: [CSVLogger(p / "a"), JSONLogger(p / "a")], "CSVLogger and JSONLogger"),
        (lambda p: [CSVLogger(p / "a"), ModelCheckpoint(p / "." / "a")], "files of their own"),
    ],
)
def test_callbacks_that_would_undo_each_others_work_are_refused(make, message, rng, tmp_path):
    # One told twice counts every epoch twice; of two that write to one file, one's work is lost.
    with pytest.raises(ValueError, match=message):
        network().fit(*data(rng), verbose=0, callbacks=make(tmp_path))
    assert not list(tmp_path.iterdir())


def test_callbacks_with_files_of_their_own_are_told_side_by_side(rng, tmp_path):
    names = ["best-{epoch}", "last-{epoch}"]
    keep = [ModelCheckpoint(tmp_path / name) for name in names]
    stop = StopOnSignal(tmp_path / "last-1")  # a run that is stopped may leave the last one
    more = [EarlyStopping("loss"), EarlyStopping("mae"), CSVLogger(tmp_path / "csv"), stop]
    network().fit(*data(rng), verbose=0, callbacks=[*keep, *more])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best-1", "csv", "last-1"]
