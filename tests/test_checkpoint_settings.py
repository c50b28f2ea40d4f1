"""A rightly signed file with settings that make no sense is refused when it is loaded.

Digests find damage, not malice: whoever writes a file can sign it. So every setting of files of
three models is replaced by what does not belong there. Either `load` (or `fit(resume=...)`) says so
with a CheckpointError, or the model works. Right is what a user needs: no later, raw exception.
"""

import copy
import random

import numpy as np
import pytest

from gru_np import (
    GRU,
    Bidirectional,
    Dense,
    Embedding,
    Sequential,
    _schema,
    callbacks,
    checkpoint,
    layers,
    optimizers,
    schedules,
    text,
)
from gru_np.callbacks import ModelCheckpoint
from gru_np.checkpoint import CheckpointError
from gru_np.series import Forecaster
from gru_np.series.demo import mackey_glass
from gru_np.speech import Alphabet, Features, Transcriber

WRONG = [
    None, True, -1, 0, 7, -(10**6), 10**6, 10**30, 1.5, -0.5, float("nan"), float("inf"), "x", "",
    "relu", [], {}, [1], ["a"], {"a": 1}, [None], "../x", [[1.0]],
]  # fmt: skip
IDS = np.random.default_rng(5).integers(1, 9, (6, 8))


def language_model():
    model = Sequential(
        [
            Embedding(9, 4, mask_zero=True, dropout=0.1),
            GRU(5, return_sequences=True, kernel_regularizer="l2", recurrent_constraint="max_norm"),
            layers.Dropout(0.1),
            layers.LayerNormalization(),
            Dense(9, activation="softmax"),
        ],
        seed=1,
    )
    rate = schedules.CosineDecay(0.01, 100, warmup_target=0.02, warmup_steps=10)
    optimizer = optimizers.AdamW(rate, global_clipnorm=1.0, no_decay=["/b"])
    metrics = ["accuracy", "perplexity"]
    model.compile("sparse_categorical_crossentropy", optimizer, metrics)
    model.tokenizer = text.CharTokenizer(list("abcdefgh"), unknown="h")
    model.labels = list("abcdefghi")
    return model, IDS, IDS, [], {"tbptt": 4, "shuffle": False}


def regression():
    both = Bidirectional(GRU(3, return_sequences=True))
    model = Sequential(
        [layers.Masking(0.0), both, layers.GlobalAveragePooling1D(), Dense(1)], seed=1
    )
    model.compile("huber", optimizers.SGD(0.01, momentum=0.9), ["mae"])
    rng = np.random.default_rng(6)
    return model, rng.standard_normal((6, 5, 2)), rng.standard_normal((6, 1)), [], {}


def watched():
    layers_ = [
        Embedding(9, 5),
        GRU(5, return_sequences=True, reset_after=False),
        Dense(9, activation="softmax", tied_to="embedding"),
    ]
    model = Sequential(layers_, seed=1)
    model.compile("sparse_categorical_crossentropy", optimizers.RMSprop(0.01, clipnorm=1.0))
    several = [
        callbacks.EarlyStopping("loss", patience=9, restore_best_weights=True),
        callbacks.ReduceLROnPlateau("loss", patience=9),
        callbacks.AverageWeights(0.9),
        callbacks.SkipNonFinite(),
        callbacks.TrainingHealth(),
    ]
    return model, IDS, IDS, several, {}


def leaves(value, at=()):
    """The place of everything in a config, but of no more than three of a list."""
    if at:
        yield at
    if isinstance(value, dict):
        for key in value:
            yield from leaves(value[key], (*at, key))
    elif isinstance(value, list):
        for i in range(min(len(value), 3)):
            yield from leaves(value[i], (*at, i))


def replaced(config, at, new):
    config = copy.deepcopy(config)
    inner = config
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = new
    return config


def train(model, x, y, watchers, options, path, resume=None):
    saves = ModelCheckpoint(str(path), save_freq=1)
    options = {"batch_size": 2, "epochs": 3, "verbose": 0, **options}
    return model.fit(x, y, callbacks=[*watchers, saves], resume=resume, **options)


def saved_in_mid_epoch(make, folder):
    """The config and the arrays of a run that was interrupted in its second epoch."""
    model, x, y, watchers, options = make()

    class Interrupt(callbacks.Callback):
        turn = 1

        def on_train_batch_end(self, batch, logs):
            if (self.model.progress.epoch, batch) == (1, 2):
                raise KeyboardInterrupt

    model.optimizer.iterations = 0
    with pytest.raises(KeyboardInterrupt):
        saves = ModelCheckpoint(str(folder / "good.st"), save_freq=1)
        options = {"batch_size": 2, "epochs": 3, "verbose": 0, **options}
        model.fit(x, y, callbacks=[*watchers, saves, Interrupt()], **options)
    config, arrays = checkpoint.load(folder / "good.st")
    at = [entry["class"] for entry in config["training"]["callbacks"]].index("Interrupt")
    del config["training"]["callbacks"][at]
    return config, arrays


def use(make, folder, path):
    """Do with a file what one does with it."""
    _, x, y, watchers, options = make()
    model = Sequential.load(path)
    model.predict(x)
    repr(model), repr(model.history), repr(model.optimizer)
    model.summary(lambda line: None)
    for layer in model.layers:  # rows of another number come now
        if getattr(layer, "stateful", False):
            return
    model.evaluate(x, y)
    model.fit(x, y, batch_size=2, epochs=1, verbose=0, **options)
    model.save(folder / "again.st")
    Sequential.load(folder / "again.st", allow_nonfinite=True)
    if model.tokenizer is not None:
        list(text.generate(model, "a", 3, seed=1))
    train(make()[0], x, y, watchers, options, folder / "again.st", resume=path)


@pytest.mark.parametrize("make", [language_model, regression, watched])
def test_a_file_with_a_mistyped_setting_is_refused_or_works(make, tmp_path):
    config, arrays = saved_in_mid_epoch(make, tmp_path)
    path = tmp_path / "mutated.st"
    checkpoint.save(path, config, arrays)
    use(make, tmp_path, path)  # as it is, it is right
    everything = [(at, new) for at in leaves(config) for new in WRONG]
    refused = 0
    for at, new in random.Random(8).sample(everything, 150):
        checkpoint.save(path, replaced(config, at, new), arrays)
        try:
            use(make, tmp_path, path)
        except CheckpointError as error:
            assert str(error).startswith(str(path)) and "\n" not in str(error)
            refused += 1
        except (ValueError, FloatingPointError) as error:
            # What is well formed and of another run, or diverges, is found when it is used.
            found = ("to resume", "noise_shape must have one entry", "step ", "monitor must be")
            assert any(words in str(error) for words in found), (at, new)
    assert refused > 75


@pytest.mark.parametrize(
    ("at", "new"),
    [
        (("training", "batch"), -(10**6)),  # ran for ever
        (("training", "batch"), 10**9),
        (("training", "epoch"), -1),
        (("training", "iterations"), 10**30),
        (("training", "history", "epoch"), 3),
        (("training", "history", "history"), {"loss": 3}),
        (("training", "metrics", 0, "config", "name"), {}),
        (("training", "callbacks", 0, "state"), []),
        (("model", "seed"), "x"),
        (("model", "seed"), -1),
        (("model", "layers", 1, "config", "return_sequences"), {}),
        (("model", "layers", 1, "config", "seed"), -1),
        (("model", "layers", 1, "config", "recurrent_constraint", "config", "axis"), 7),
        (("model", "layers", 2, "config", "noise_shape"), 1.5),
        (("model", "surprise"), 1),
        (("training", "surprise"), 1),
        (("surprise",), 1),
    ],
)
def test_what_was_found_late_is_found_when_the_file_is_loaded(at, new, tmp_path):
    config, arrays = saved_in_mid_epoch(language_model, tmp_path)
    path = tmp_path / "mutated.st"
    checkpoint.save(path, replaced(config, at, new), arrays)
    with pytest.raises(CheckpointError):
        Sequential.load(path)
    model, x, y, watchers, options = language_model()
    if at[0] != "model" and "metrics" not in at:  # of these a model that resumes has its own
        with pytest.raises(CheckpointError):
            train(model, x, y, watchers, options, tmp_path / "again.st", resume=path)


def test_an_empty_name_of_an_activation_is_linear():
    dense = [Dense(3, activation=name, seed=0) for name in ("", None)]
    x = np.arange(8.0).reshape(2, 4)
    np.testing.assert_array_equal(dense[0](x), dense[1](x))


def test_what_callbacks_of_ones_own_put_among_the_numbers_is_kept(tmp_path):
    model, x, y, _, options = language_model()

    class Note(callbacks.Callback):
        def on_epoch_end(self, epoch, logs):
            logs |= {"note": "fine", "rates": [0.5, 0.25]} if epoch else {}

    model.fit(x, y, epochs=2, verbose=0, callbacks=[Note()], **options)
    model.save(tmp_path / "m.st")
    history = Sequential.load(tmp_path / "m.st").history
    assert history.history["note"][-1] == "fine" and "fine" in repr(history)


@pytest.mark.parametrize(
    ("value", "kind", "right"),
    [
        (1, bool, True), (2, bool, False), (None, bool, False), (3.0, int, True), (3.5, int, False),
        (True, int, False), (3, float, True), (True, float, False), ("a", float, False),
        (np.float32(2), float, True), (None, int | None, True), ([1, 2], list[int], True),
        ([1, "a"], list[int], False), ("ab", list[str], False), ({"a": 1}, dict[str, int], True),
        ({"a": "b"}, dict[str, int], False), (-1, _schema.Count, False), (5, _schema.Count, True),
        (2**63, _schema.Count, False), ([1, None], tuple[int | None, ...], True),
    ],
)  # fmt: skip
def test_a_value_is_of_a_kind_or_not(value, kind, right):
    assert _schema.fits(value, kind) is right


# ------------------------------------------------------ what is kept beside a model, for its use


def transcriber(path):
    made = Transcriber.create(
        Features("spectrogram", 8000, 16, stack=2), Alphabet(" ab"), 4, 1, seed=0
    )
    made.save(path)
    return Transcriber, lambda one: one.log_probabilities(one.features(np.ones(4000)))


def forecaster(path):
    data = mackey_glass(200)
    made = Forecaster(data.columns, 6, 20, units=4, epochs=1, seed=0)
    made.fit(data, verbose=0)
    made.save(path)
    return Forecaster, lambda one: one.forecast(data)


@pytest.mark.filterwarnings("ignore:invalid value|overflow|divide:RuntimeWarning")
@pytest.mark.parametrize("make", [transcriber, forecaster])
def test_settings_of_a_transcriber_and_a_forecaster_are_refused_or_work(make, tmp_path):
    path = tmp_path / "good.st"
    cls, use = make(path)
    config, arrays = checkpoint.load(path)
    use(cls.load(path))
    everything = [(at, new) for at in leaves(config) if at[0] == "extras" for new in WRONG]
    refused = 0
    for at, new in random.Random(9).sample(everything, 150):
        checkpoint.save(path, replaced(config, at, new), arrays)
        try:
            use(cls.load(path))
        except ValueError as error:
            refused += str(path) in str(error)
            assert "\n" not in str(error), (at, new)
    assert refused > 75
