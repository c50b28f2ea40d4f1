"""What looks on while a model trains: averages, logs, checkpoints that are kept, signals."""

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
from conftest import assert_close

from gru_np import GRU, Bidirectional, Dense, Dropout, Embedding, Sequential, checkpoint, health
from gru_np.callbacks import (
    AverageWeights,
    Callback,
    CSVLogger,
    EarlyStopping,
    JSONLogger,
    ModelCheckpoint,
    ReduceLROnPlateau,
    SkipNonFinite,
    StopOnSignal,
    TrainingHealth,
)

V, B, T = 7, 6, 9


@pytest.fixture
def data(rng):
    return rng.integers(0, V, (B, T)), rng.integers(0, V, (B, T))


def network(dtype="float32"):
    layers = [
        Embedding(V, 3), GRU(4, return_sequences=True, recurrent_dropout=0.2), Dropout(0.3),
        Dense(V, activation="softmax"),
    ]  # fmt: skip
    model = Sequential(layers, dtype=dtype, seed=3)
    model.compile("sparse_categorical_crossentropy", "adam")
    return model


class Spy(Callback):
    """Keep the weights after every step, and those that are there at the end of every epoch."""

    def __init__(self):
        super().__init__()
        self.steps, self.epochs = [], []

    def on_train_batch_end(self, batch, logs):
        self.steps.append(self.model.get_weights())

    def on_epoch_end(self, epoch, logs):
        self.epochs.append(self.model.get_weights())


def fitted(model, data, *callbacks, epochs=3, **options):
    x, y = data
    return model.fit(
        x, y, batch_size=2, epochs=epochs, verbose=0, callbacks=callbacks,
        validation_data=(x[:2], y[:2]), **options,
    )  # fmt: skip


# ------------------------------------------------------------------------- averages of weights


def test_a_plain_average_is_the_mean_of_the_weights_after_every_step(data):
    model, spy = network("float64"), Spy()
    fitted(model, data, AverageWeights(momentum=None, start_epoch=1), spy)
    for k, array in enumerate(model.get_weights()):
        assert_close(array, np.mean([step[k] for step in spy.steps[3:]], axis=0), "kernel")
    without = Spy()
    fitted(network("float64"), data, without)
    assert_close(spy.steps[-1], without.steps[-1], "exact")  # training itself is not changed


def test_an_exponential_average_follows_its_formula(data):
    model, spy = network("float64"), Spy()
    fitted(model, data, AverageWeights(momentum=0.3), spy)
    for k, array in enumerate(model.get_weights()):
        a = spy.steps[0][k]
        for n, step in enumerate(spy.steps[1:], start=1):
            m = min(0.3, (1 + n) / (10 + n))
            a = m * a + (1 - m) * step[k]
        assert_close(array, a, "kernel")


def test_validation_early_stopping_and_files_see_the_average(data, tmp_path):
    model, spy = network(), Spy()
    path = tmp_path / "{epoch}.safetensors"
    watching = [EarlyStopping(patience=9, restore_best_weights=True), ModelCheckpoint(path), spy]
    history = fitted(model, data, AverageWeights(0.5), *watching, epochs=4).history["val_loss"]
    x, y = data
    for epoch in range(4):
        saved = Sequential.load(tmp_path / f"{epoch + 1}.safetensors")
        assert_close(saved.get_weights(), spy.epochs[epoch], "exact")
        assert saved.evaluate(x[:2], y[:2]) == history[epoch]
    assert_close(model.get_weights(), spy.epochs[-1], "exact")


def test_nt_asgd_begins_when_validation_is_worse_than_it_was_some_epochs_ago():
    average = AverageWeights(momentum=None, patience=2, start_epoch=1)
    average.model, began = network(), []
    average.model.build((None, T))
    average.on_train_begin({})
    for epoch, loss in enumerate([5.0, 4.0, 3.0, 4.5, 4.6, 9.0]):
        average.on_epoch_begin(epoch, {})
        average.model.progress.epoch = epoch
        average.on_train_batch_end(0, {})
        began.append(average.count)
        average.on_epoch_end(epoch, {"val_loss": loss})
    # 4.5 > min(5.0); before it 3.0 is better than all, and there is no earlier one for the others
    assert began == [0, 0, 0, 0, 0, 1]
    with pytest.raises(ValueError, match="monitor must be one of 'loss', got 'val_loss'"):
        AverageWeights(patience=1).on_epoch_end(0, {"loss": 1.0})


@pytest.mark.parametrize(("momentum", "message"), [(1.0, r"in \[0, 1\), got 1"), (-1, "momentum")])
def test_a_momentum_without_a_meaning_is_refused(momentum, message):
    with pytest.raises(ValueError, match=message):
        AverageWeights(momentum)


# ------------------------------------------------------------------------- what is resumed


class StopAfter(Callback):
    def __init__(self, batches):
        super().__init__()
        self.left = batches

    def on_train_batch_end(self, batch, logs):
        self.left -= 1
        self.model.stop_training = self.model.stop_training or self.left == 0


@pytest.mark.parametrize("stop", [1, 2, 3, 4, 7, 9])
@pytest.mark.parametrize("momentum", [0.9, None])
def test_a_resumed_run_has_the_same_average_the_same_log_and_the_same_bits(
    data, tmp_path, stop, momentum
):
    def watching(name):
        return [
            AverageWeights(momentum, patience=1, start_epoch=1),
            TrainingHealth(every=2),
            ReduceLROnPlateau(patience=1, min_delta=10),
            JSONLogger(tmp_path / f"{name}.jsonl", every=2),
            ModelCheckpoint(tmp_path / f"{name}.safetensors", save_freq=1),
        ]

    whole = network()
    history = fitted(whole, data, *watching("whole"), StopAfter(-1))
    # More is logged than is in the checkpoint, as after a kill; the last line is cut.
    fitted(network(), data, *watching("killed"), StopAfter(stop))
    kept = (tmp_path / "killed.safetensors").read_bytes()
    with open(tmp_path / "killed.jsonl", "a", encoding="utf-8") as log:
        log.write('{"event": "step", "epoch": 9, "step": 999}\n{"event": "st')
    (tmp_path / "killed.safetensors").write_bytes(kept)
    again = network()
    resumed = fitted(
        again, data, *watching("killed"), StopAfter(-1), resume=tmp_path / "killed.safetensors"
    )
    assert_close(again.get_weights(), whole.get_weights(), "exact")
    assert resumed.history == history.history and "gru/z_saturated" in history.history
    assert entries(tmp_path / "killed.jsonl") == entries(tmp_path / "whole.jsonl")


def entries(path):
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


# ------------------------------------------------------------------------- logs


def test_the_json_log_has_one_object_a_line_and_null_for_nan(data, tmp_path):
    path = tmp_path / "run.jsonl"
    fitted(network(), data, JSONLogger(path, every=2), TrainingHealth(), epochs=2)
    lines = entries(path)
    assert [(e["event"], e["epoch"], e["step"]) for e in lines] == [
        ("step", 1, 2), ("epoch", 1, 3), ("step", 2, 5), ("epoch", 2, 6),
    ]  # fmt: skip
    assert {"loss", "val_loss", "gradient_norm", "gru/r_saturated"} <= set(lines[1])
    log = JSONLogger(path, append=True)
    log.model = network()
    log.on_train_begin({})
    log.on_epoch_end(2, {"loss": float("nan")})
    assert len(entries(path)) == 5 and entries(path)[-1]["loss"] is None
    assert "NaN" not in path.read_text(encoding="utf-8")


def test_a_step_that_is_nan_is_in_the_json_log(rng, tmp_path):
    x = rng.standard_normal((4, 5, 2))
    x[2, 1, 0] = np.nan
    model = Sequential([GRU(3), Dense(1)], seed=0)
    model.compile("mse", "adam")
    path = tmp_path / "run.jsonl"
    watching = [JSONLogger(path), SkipNonFinite()]
    model.fit(
        x, np.ones((4, 1)), batch_size=2, shuffle=False, verbose=0, callbacks=watching
    )  # fmt: skip
    failed, epoch = entries(path)
    assert failed["event"] == "nonfinite" and "row 2" in failed["message"]
    assert epoch["event"] == "epoch"


def test_gradient_norms_of_an_epoch_are_those_of_its_steps(data):
    model, x, y = network("float64"), *data
    model.layers[1].recurrent_dropout = model.layers[2].rate = 0.0
    model.build((None, T))
    model.optimizer.learning_rate = 0.0
    norms = []
    for rows in (slice(0, 2), slice(2, 4), slice(4, 6)):
        gradients = model.compute_gradients(x[rows], y[rows])[1]
        norms.append(np.sqrt(sum((g**2).sum() for g in gradients.values())))
    history = fitted(model, data, TrainingHealth(), epochs=1, shuffle=False).history
    assert_close(history["gradient_norm"][0], np.mean(norms), "kernel")
    assert_close(history["gradient_norm_max"][0], max(norms), "kernel")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_saturation_counts_gates_near_the_ends_of_their_range_at_real_steps(rng, dtype):
    layer = GRU(5, return_sequences=True, seed=1)
    x = 6 * rng.standard_normal((3, 7, 2)).astype(dtype)
    mask = rng.random((3, 7)) < 0.6
    _, keep = layer.forward(x, mask=mask)
    r, z, n = (np.asarray(getattr(keep.saved, gate))[mask.T] for gate in "rzn")
    shares = health.saturation([layer], [keep])
    assert shares["gru/r_saturated"] == ((r < 0.1) | (r > 0.9)).mean() > 0
    assert shares["gru/z_saturated"] == ((z < 0.1) | (z > 0.9)).mean()
    assert shares["gru/n_saturated"] == (np.abs(n) > 0.9).mean()


def test_both_directions_are_looked_at(rng):
    model = Sequential([Bidirectional(GRU(3)), Dense(1)], seed=0)
    model.compile("mse", "adam")
    x, y = rng.standard_normal((4, 5, 2)), rng.standard_normal((4, 1))
    history = model.fit(x, y, verbose=0, callbacks=[TrainingHealth()]).history
    assert "bidirectional/backward/z_saturated" in history
    x[1, 4, 0] = np.nan
    _, saved = model.layers[0].forward(x)
    said = health.blame(model.layers[:1], [saved], {})
    assert said.startswith("bidirectional/forward is not finite, gate r")


def test_what_a_callback_adds_to_the_logs_is_in_history_and_csv(data, tmp_path):
    path = tmp_path / "run.csv"
    history = fitted(network(), data, CSVLogger(path), ReduceLROnPlateau(), epochs=2).history
    assert history["learning_rate"] == [0.001, 0.001]
    assert path.read_text(encoding="utf-8").splitlines()[0].endswith("val_loss,learning_rate")


# ------------------------------------------------------------------------- checkpoints


def test_the_last_k_checkpoints_and_the_best_are_kept_also_after_a_resume(data, tmp_path):
    def keepers():
        return [
            ModelCheckpoint(tmp_path / "last-{epoch}.safetensors", keep=2),
            ModelCheckpoint(tmp_path / "best.safetensors", monitor="loss", save_best_only=True),
        ]

    fitted(network(), data, *keepers(), epochs=4)
    names = {"best.safetensors", "last-3.safetensors", "last-4.safetensors"}
    assert {p.name for p in tmp_path.iterdir()} == names
    newest = tmp_path / "last-4.safetensors"
    fitted(network(), data, *keepers(), epochs=5, resume=newest)
    names = {"best.safetensors", "last-4.safetensors", "last-5.safetensors"}
    assert {p.name for p in tmp_path.iterdir()} == names
    with pytest.raises(ValueError, match="keep must be at least 1, got 0"):
        ModelCheckpoint(tmp_path / "x", keep=0)


def test_a_disk_that_is_full_leaves_the_last_good_checkpoint_names_it_and_the_run_goes_on(
    data, tmp_path, monkeypatch
):
    write, full = os.write, []

    def to_disk(file, block):
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, block)

    class FillDisk(Callback):
        def on_epoch_begin(self, epoch, logs):
            full[:] = [1] * (epoch == 2)

    monkeypatch.setattr(os, "write", to_disk)
    for name, last in (("run-{epoch}", "run-2"), ("one", "one")):
        keep = ModelCheckpoint(tmp_path / f"{name}.safetensors", keep=2)
        with pytest.raises(OSError, match="No space left") as error:
            fitted(network(), data, FillDisk(), keep, epochs=4)
        assert f"the last good checkpoint is {tmp_path / last}.safetensors" in str(error.value)
        full.clear()
    left = ["one.safetensors", "run-1.safetensors", "run-2.safetensors"]
    assert sorted(p.name for p in tmp_path.iterdir()) == left
    whole, resumed = network(), network()
    fitted(whole, data, epochs=4)
    monkeypatch.setattr(os, "write", write)
    path = tmp_path / "one.safetensors"
    assert checkpoint.read_config(path)["training"]["epoch"] == 2
    fitted(resumed, data, FillDisk(), ModelCheckpoint(path), epochs=4, resume=path)
    assert_close(resumed.get_weights(), whole.get_weights(), "exact")


# ------------------------------------------------------------------------- signals


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_training_after_the_step_saves_and_the_run_can_go_on(data, tmp_path, number):
    path = tmp_path / "run.safetensors"

    class Send(Callback):
        def __init__(self, at):
            super().__init__()
            self.at = at

        def on_train_batch_begin(self, batch, logs):
            if (self.model.progress.epoch, batch) == self.at:
                os.kill(os.getpid(), number)

    whole, resumed = network(), network()
    fitted(whole, data)
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    polite = StopOnSignal(path)
    history = fitted(network(), data, polite, Send((1, 1)))
    assert polite.stopped == number
    assert history.epoch == [0, 1]  # what was done of an epoch is in the record, as in Keras
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    fitted(resumed, data, StopOnSignal(path), Send(None), resume=path)
    assert_close(resumed.get_weights(), whole.get_weights(), "exact")


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_signals_are_given_back_after_an_error_and_not_touched_in_other_threads(data):
    class Fail(Callback):
        def on_epoch_end(self, epoch, logs):
            raise RuntimeError

    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(RuntimeError):
        fitted(network(), data, StopOnSignal(), Fail())
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    done = []
    thread = threading.Thread(
        target=lambda: done.append(fitted(network(), data, StopOnSignal(), epochs=1).epoch)
    )
    thread.start()
    thread.join()
    assert done == [[0]]


@pytest.mark.skipif(os.name == "nt", reason="RLIMIT_FSIZE is POSIX")
def test_a_limit_on_the_size_of_files_leaves_the_old_file(tmp_path):
    path = tmp_path / "run.safetensors"
    code = f"""
        import resource, signal
        from gru_np import Dense, Sequential
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        model = Sequential([Dense(9)], seed=0)
        model.build((None, 4))
        model.save({str(path)!r})
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
        big = Sequential([Dense(900)], seed=0)
        big.build((None, 40))
        try:
            big.save({str(path)!r})
        except OSError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert "what was there before is unchanged" in done.stdout
    assert Sequential.load(path).layers[0].units == 9
    assert [p.name for p in tmp_path.iterdir()] == ["run.safetensors"]


# ------------------------------------------------------------- what a resumed file may not decide


def small_run(folder, saves, epochs, resume=None):
    model = Sequential([Dense(1)], seed=0)
    model.compile("mse", "sgd")
    x, y = np.ones((6, 2)), np.ones((6, 1))
    model.fit(x, y, epochs=epochs, verbose=0, callbacks=[saves], resume=resume)


def test_a_resumed_run_removes_only_files_whose_names_its_own_pattern_makes(tmp_path):
    """`written` stands in the file, so whoever wrote the file would choose what is deleted."""
    folder, outside = tmp_path / "run", tmp_path / "outside"
    folder.mkdir(), outside.mkdir()
    victims = [tmp_path / "letter", outside / "e-1.st", folder / "e-x.st", folder / "e-1.st.bak"]
    for victim in victims:
        victim.touch()
    pattern = str(folder / "e-{epoch}.st")
    small_run(folder, ModelCheckpoint(pattern, keep=2), 2)
    config, arrays = checkpoint.load(folder / "e-2.st")
    at = [c["class"] for c in config["training"]["callbacks"]].index("ModelCheckpoint")
    own = [str(folder / "e-1.st"), str(folder / "e-2.st")]
    hostile = [str(v) for v in victims] + [f"{folder}/../outside/e-1.st", f"{folder}/e-..st"]
    config["training"]["callbacks"][at]["state"]["written"] = hostile + own
    checkpoint.save(folder / "e-2.st", config, arrays)
    small_run(folder, ModelCheckpoint(pattern, keep=2), 4, resume=folder / "e-2.st")
    assert all(victim.exists() for victim in victims)
    kept = sorted(p.name for p in folder.iterdir())
    assert kept == ["e-1.st.bak", "e-3.st", "e-4.st", "e-x.st"]


@pytest.mark.parametrize(
    ("pattern", "made", "foreign"),
    [
        ("e-{epoch:03d}.st", ["e-007.st", "e-1234.st"], ["e-a.st", "e-.st", "e-7.st/x", "e-7+.st"]),
        ("{val_loss:.2f}.st", ["0.25.st", "nan.st", "-1.50.st"], ["../0.st", "/.st"]),
        ("{loss:9.1%}_{batch}.st", ["    12.5%_3.st"], ["a_3.st", "12_.st"]),
        ("plain.st", ["plain.st"], ["plainxst", "./plain.st"]),
        ("{{x}}.st", ["{x}.st"], ["x.st", "3.st"]),
        ("{epoch}/m.st", ["3/m.st"], ["../m.st", "./m.st", "3/../m.st"]),
    ],
)
def test_a_pattern_knows_the_names_that_it_makes(pattern, made, foreign):
    saves = ModelCheckpoint(pattern, keep=1)
    saves.set_state({"best": None, "written": made + foreign})
    assert saves.get_state()["written"] == made


@pytest.mark.parametrize("pattern", ["{}", "{0}", "{x", "x}", "{epoch.real}", "{epoch!r}", "{a[0]}",
                                     "{epoch:{batch}}", "", "folder/", "."])  # fmt: skip
def test_a_pattern_of_no_file_is_refused_at_construction(pattern):
    with pytest.raises(ValueError, match="ModelCheckpoint: filepath must"):
        ModelCheckpoint(pattern)


def test_a_name_may_have_the_number_of_the_batch(tmp_path):
    model = Sequential([Dense(1)], seed=0)
    model.compile("mse", "sgd")
    saves = ModelCheckpoint(str(tmp_path / "{epoch}-{batch}.st"), save_freq=2)
    model.fit(np.ones((5, 2)), np.ones((5, 1)), batch_size=1, verbose=0, callbacks=[saves])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1-2.st", "1-4.st", "1-5.st"]
