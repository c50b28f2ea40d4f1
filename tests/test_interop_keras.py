"""Keras 3: live models, archives read without running anything, and everything refused."""

import io
import json
import re
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_close
from hypothesis import given, settings
from hypothesis import strategies as st
from test_interop import everything, language_model, randomised, same_weights

from gru_np import GRU, Bidirectional, Dense, Embedding, Sequential, interop
from gru_np.interop import ConversionError
from gru_np.layers import GlobalAveragePooling1D, GlobalMaxPooling1D, Masking, Reshape

# Keras itself calls NumPy in ways that NumPy has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def h5py():
    return pytest.importorskip("h5py")


@pytest.fixture
def keras():
    try:
        import keras
    except ImportError as error:
        pytest.skip(f"Keras does not import: {error}")
    return keras


# --------------------------------------------------------------------------------- our own files


def test_an_archive_keeps_the_model_to_the_bit(h5py, rng, tmp_path):
    model = everything(rng, mask_zero=False)
    interop.to_keras(model, tmp_path / "m.keras")
    again = interop.from_keras(tmp_path / "m.keras")
    assert [type(a) for a in again.layers] == [type(b) for b in model.layers]
    # Keras has one bias with the reset before the product: the two of ours are added up there.
    x = rng.integers(0, 9, (4, 6))
    assert_close(again.predict(x), model.predict(x), "rounding")
    interop.to_keras(again, tmp_path / "n.keras")
    assert (tmp_path / "m.keras").read_bytes() == (tmp_path / "n.keras").read_bytes()
    same_weights(interop.read(tmp_path / "n.keras"), again)


def test_weights_alone_go_into_a_model_that_is_there(h5py, rng, tmp_path):
    model, other = language_model(rng), language_model(rng)
    interop.write(model, tmp_path / "m.weights.h5")
    assert interop.from_keras(tmp_path / "m.weights.h5", into=other) is other
    same_weights(other, model)
    with pytest.raises(ConversionError, match="no settings"):
        interop.read(tmp_path / "m.weights.h5")
    smaller = Sequential([Embedding(9, 3), GRU(4, return_sequences=True), GRU(4), Dense(8)])
    smaller.build((None, None))
    with pytest.raises(ConversionError, match=r"dense: the settings call for arrays \(4, 8\)"):
        interop.from_keras(tmp_path / "m.weights.h5", into=smaller)
    with pytest.raises(ValueError, match="built first"):
        interop.from_keras(tmp_path / "m.weights.h5", into=Sequential([GRU(4)]))
    interop.to_keras(model, tmp_path / "m.keras")
    with pytest.raises(ValueError, match="into is for"):
        interop.from_keras(tmp_path / "m.keras", into=other)


def test_a_mask_that_keras_would_not_turn_round_is_refused(h5py, rng, tmp_path):
    with pytest.raises(ConversionError, match="in the order of the input in Keras"):
        interop.to_keras(everything(rng), tmp_path / "m.keras")


def masked(rng, pooling):
    layers = [Masking(-1.0), GRU(4, return_sequences=True), pooling, Dense(2)]
    model = Sequential(layers, seed=int(rng.integers(100)))
    model.build((None, None, 3))
    return model


def padded(rng):
    x = rng.standard_normal((4, 6, 3)).astype(np.float32)
    for row, length in enumerate((6, 4, 1, 3)):
        x[row, length:] = -1
    return x


def test_masks_and_pooling_go_there_and_back(h5py, rng, tmp_path):
    model, x = masked(rng, GlobalAveragePooling1D()), padded(rng)
    interop.to_keras(model, tmp_path / "m.keras")
    again = interop.from_keras(tmp_path / "m.keras")
    assert again.layers[0].mask_value == -1
    np.testing.assert_array_equal(again.predict(x), model.predict(x))


def test_a_largest_value_of_padding_is_refused(h5py, rng, tmp_path):
    with pytest.raises(ConversionError, match="pools masked steps in Keras, not here"):
        interop.to_keras(masked(rng, GlobalMaxPooling1D()), tmp_path / "m.keras")


@pytest.mark.parametrize(
    ("layer", "sentence"),
    [
        (GRU(3, zoneout=0.1), "zoneout=0.1 .*Keras cannot express"),
        (GRU(3, layer_norm=True), "layer_norm=True"),
        (GRU(3, learn_initial_state=True), "learn_initial_state=True"),
        (Reshape((-1, 2)), "no layer of Keras' is known for reshape"),
    ],
)
def test_what_keras_cannot_express_is_refused(h5py, tmp_path, layer, sentence):
    model = Sequential([layer])
    model.build((None, None, 2))
    with pytest.raises(ConversionError, match=sentence):
        interop.to_keras(model, tmp_path / "m.keras")


def test_settings_that_are_packed_to_fill_the_memory_are_not_unpacked(h5py, rng, tmp_path):
    path = tmp_path / "m.keras"
    interop.to_keras(language_model(rng), path)
    archive(path, lambda text: b" " * 2**26 + text, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**18
    with pytest.raises(ConversionError, match="must have at most 16777216 bytes"):
        interop.from_keras(path)


def test_names_in_an_archive_lead_nowhere(h5py, rng, tmp_path):
    path = tmp_path / "m.keras"
    interop.to_keras(language_model(rng), path)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("../../out.txt", "gone")
        file.writestr("assets/evil.pkl", b"cos\nsystem\n(S'touch gone'\ntR.")
    before = sorted(tmp_path.parent.rglob("*"))
    interop.from_keras(path)
    assert sorted(tmp_path.parent.rglob("*")) == before


# ------------------------------------------------------------------------------- hostile archives


def archive(path, config=None, weights=None, compression=zipfile.ZIP_STORED):
    """Write an archive anew with its settings or its weights changed."""
    with zipfile.ZipFile(path) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    if config is not None:
        parts["config.json"] = config(parts["config.json"])
    if weights is not None:
        parts["model.weights.h5"] = weights(parts["model.weights.h5"])
    with zipfile.ZipFile(path, "w", compression) as new:
        for name, content in parts.items():
            if content is not None:
                new.writestr(name, content)
    return path


def edit(change):
    def config(text):
        tree = json.loads(text)
        change(tree)
        return json.dumps(tree)

    return config


def gru_entry(tree):
    return tree["config"]["layers"][2]


def set_class(name):
    def change(tree):
        gru_entry(tree)["class_name"] = name

    return edit(change)


def set_config(**settings):
    return edit(lambda tree: gru_entry(tree)["config"].update(settings))


BAD_CONFIGS = {
    "a lambda": (set_class("Lambda"), r"\(Lambda\); code in it is never run"),
    "an LSTM": (set_class("LSTM"), r"no layer for gru \(LSTM\)"),
    "a module to import": (set_class("os.system"), "no layer"),
    "an activation": (set_config(activation="swish"), "activation 'swish'"),
    "a custom activation": (
        set_config(activation={"class_name": "function", "config": "evil", "module": "os"}),
        "activation 'function'",
    ),
    "a wrapper around another layer": (
        edit(lambda t: gru_entry(t).update(
            class_name="TimeDistributed",
            config={"name": "t", "layer": {"class_name": "GRU", "config": {}}},
        )),
        "TimeDistributed around GRU",
    ),
    "a norm without a mean": (
        edit(lambda t: gru_entry(t).update(
            class_name="LayerNormalization", config={"name": "n", "rms_scaling": True}
        )),
        "rms_scaling=True; gru_np computes with",
    ),
    "more settings than memory": (lambda text: b" " * 2**24 + text, "must have at most 16777216"),
    "other units": (set_config(units=5), r"gru: the settings call for arrays \(3, 15\)"),
    "huge units": (set_config(units=10**9), "the settings call for arrays"),
    "units that would fill the memory": (set_config(units=10**5), "the settings call for arrays"),
    "negative units": (set_config(units=-1), "cannot be read"),
    "the other form": (set_config(reset_after=False), "the settings call for arrays"),
    "half precision": (set_config(dtype="mixed_float16"), "computes in mixed_float16"),
    "quantised": (set_config(quantization_config={"mode": "int8"}), "quantization_config=.* lost"),
    "not a model": (edit(lambda t: t.update(class_name="Evil")), "whose call may do anything"),
    "no layers": (edit(lambda t: t["config"].update(layers=[])), "found none"),
    "not JSON": (lambda text: b"{", "cannot be read"),
    "too deep": (lambda text: b"[" * 100_000, "cannot be read"),
    "a list": (lambda text: b"[]", "cannot be read"),
    "two inputs": (
        edit(lambda t: t["config"]["layers"].insert(0, t["config"]["layers"][0])), "second input",
    ),
    "absent": (lambda text: None, "cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_settings_that_gru_np_cannot_follow_are_refused(h5py, rng, tmp_path, case):
    config, sentence = BAD_CONFIGS[case]
    path = tmp_path / "m.keras"
    interop.to_keras(language_model(rng), path)
    with pytest.raises(ConversionError, match=sentence) as caught:
        interop.from_keras(archive(path, config))
    assert "m.keras" in str(caught.value)


def h5(change):
    """Change an HDF5 file in memory."""

    def weights(content):
        import h5py

        file = io.BytesIO(content)
        with h5py.File(file, "r+") as open_file:
            change(open_file, "layers/gru/cell/vars")
        return file.getvalue()

    return weights


def soft_link(file, at):
    import h5py

    del file[f"{at}/0"]
    file[f"{at}/0"] = h5py.SoftLink("/layers/embedding/vars/0")


def external_link(file, at):
    import h5py

    del file[at]
    file[at] = h5py.ExternalLink("/etc/passwd", "/")


def external_data(file, at):
    del file[f"{at}/0"]
    file.create_dataset(f"{at}/0", (3, 12), "f4", external=[("/etc/passwd", 0, 144)])


def compressed(file, at):
    del file[f"{at}/0"]
    file.create_dataset(f"{at}/0", data=np.ones((3, 12), "f4"), compression="gzip")


def never_written(file, at):
    del file[f"{at}/0"]
    file.create_dataset(f"{at}/0", (3, 12), "f4")


def virtual(file, at):
    import h5py

    del file[f"{at}/0"]
    layout = h5py.VirtualLayout((3, 12), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (3, 12))
    file.create_virtual_dataset(f"{at}/0", layout)


def integers(file, at):
    del file[f"{at}/0"]
    file[f"{at}/0"] = np.ones((3, 12), int)


def one_more(file, at):
    file[f"{at}/3"] = np.ones(3)


def gone(file, at):
    del file[at]


def a_group(file, at):
    del file[f"{at}/0"]
    file.create_group(f"{at}/0")


BAD_WEIGHTS = {
    soft_link: "SoftLink, which is not followed",
    external_link: "ExternalLink, which is not followed",
    external_data: "in another file",
    virtual: "in another file",
    compressed: "compressed",
    never_written: "longer than what the file holds",
    integers: "must hold floats",
    one_more: "the settings call for arrays",
    gone: "found no vars",
    a_group: "to be a Dataset",
}


@pytest.mark.parametrize("change", BAD_WEIGHTS, ids=lambda change: change.__name__)
def test_weights_that_are_not_what_the_settings_call_for_are_refused(h5py, rng, tmp_path, change):
    path = tmp_path / "m.keras"
    interop.to_keras(language_model(rng), path)
    with pytest.raises(ConversionError, match=BAD_WEIGHTS[change]):
        interop.from_keras(archive(path, weights=h5(change)))


def test_archives_that_are_no_archives_are_refused(h5py, rng, tmp_path):
    path = tmp_path / "m.keras"
    interop.to_keras(language_model(rng), path)
    with pytest.raises(ConversionError, match="uncompressed"):
        interop.from_keras(archive(path, compression=zipfile.ZIP_DEFLATED))
    interop.to_keras(language_model(rng), path)
    whole = path.read_bytes()
    with pytest.raises(ConversionError, match="cannot be read"):
        interop.from_keras(archive(path, weights=lambda content: content[:3000]))
    for size in range(0, len(whole), 997):
        path.write_bytes(whole[:size])
        with pytest.raises(ConversionError, match="cannot be read"):
            interop.from_keras(path)
    with pytest.raises(ConversionError, match="must end in"):
        interop.from_keras(tmp_path / "m.h5")
    with pytest.raises(ConversionError, match="cannot be read"):
        interop.from_keras(tmp_path / "nothing.keras")
    with pytest.raises(TypeError, match="source must be"):
        interop.from_keras(3)
    with pytest.raises(ValueError, match="must end in"):
        interop.to_keras(language_model(rng), tmp_path / "m.h5")


def test_an_archive_with_two_files_of_one_name_is_refused(h5py, rng, tmp_path):
    path = tmp_path / "m.keras"
    interop.to_keras(language_model(rng), path)
    with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("config.json", "{}")
    with pytest.raises(ConversionError, match="two files of one name"):
        interop.from_keras(path)


def test_without_h5py_the_extra_is_named(rng, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"pip install 'gru_np\[keras\]'"):
        interop.to_keras(language_model(rng), tmp_path / "m.keras")
    with pytest.raises(ImportError, match=r"pip install 'gru_np\[keras\]'"):
        interop.from_keras(tmp_path / "m.keras")


# ------------------------------------------------------------------------------------ live Keras


def live_model(keras, rng):
    L = keras.layers
    model = keras.Sequential([
        keras.Input((None,), dtype="int32"),
        L.Embedding(9, 4, mask_zero=True),
        L.Bidirectional(L.GRU(3, return_sequences=True, kernel_regularizer="l2")),
        L.LayerNormalization(),
        L.GRU(5, reset_after=False, return_sequences=True, activation="relu"),
        L.GRU(5, return_sequences=True, recurrent_activation="hard_sigmoid", name="mine"),
        L.Dropout(0.5),
        L.SpatialDropout1D(0.5),
        L.TimeDistributed(L.Dense(3)),
        L.RNN(L.GRUCell(3), return_sequences=True),
        L.Bidirectional(L.GRU(3), merge_mode="mul"),
        L.Dense(2),
        L.Activation("softmax"),
    ])  # fmt: skip
    for weight in model.weights:
        if "seed" not in weight.path:
            weight.assign(0.6 * rng.standard_normal(weight.shape))
    return model


def test_live_models_come_in_and_their_files_too(keras, h5py, rng, tmp_path):
    theirs = live_model(keras, rng)
    model = interop.from_keras(theirs)
    x = rng.integers(0, 9, (4, 6))
    assert_close(model.predict(x), theirs.predict(x, verbose=0), "foreign")
    theirs.save(tmp_path / "m.keras")
    same_weights(interop.from_keras(tmp_path / "m.keras"), model)
    other = interop.from_keras(tmp_path / "m.keras")
    for array in other.params.values():
        array[...] = 0
    theirs.save_weights(tmp_path / "m.weights.h5")
    # Its names are those of classes, TimeDistributed and RNN among them: shapes say which is which.
    same_weights(interop.from_keras(tmp_path / "m.weights.h5", into=other), model)


def test_keras_loads_what_we_write(keras, h5py, rng, tmp_path):
    model = everything(rng, mask_zero=False)
    x = rng.integers(0, 9, (4, 6))
    live = interop.to_keras(model)
    assert_close(live.predict(x, verbose=0), model.predict(x), "foreign")
    interop.to_keras(model, tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert_close(loaded.predict(x, verbose=0), model.predict(x), "foreign")
    model = language_model(rng)
    live = interop.to_keras(language_model(rng))
    interop.to_keras(model, tmp_path / "m.weights.h5")
    live.load_weights(tmp_path / "m.weights.h5")
    assert_close(live.predict(x, verbose=0), model.predict(x), "foreign")
    live.save_weights(tmp_path / "n.weights.h5")
    again = interop.from_keras(tmp_path / "n.weights.h5", into=language_model(rng))
    same_weights(again, model)
    same_weights(interop.from_keras(live), model)


def test_keras_masks_and_pools_alike(keras, h5py, rng, tmp_path):
    model, x = masked(rng, GlobalAveragePooling1D()), padded(rng)
    assert_close(interop.to_keras(model).predict(x, verbose=0), model.predict(x), "foreign")
    L = keras.layers
    theirs = keras.Sequential([
        keras.Input((None, 3)),
        L.Bidirectional(L.GRU(4, return_sequences=True)),
        L.GlobalMaxPooling1D(),
        L.Dense(2),
    ])  # fmt: skip
    theirs.save(tmp_path / "m.keras")
    assert_close(
        interop.from_keras(tmp_path / "m.keras").predict(x), theirs.predict(x, verbose=0), "foreign"
    )
    with pytest.raises(ConversionError, match="keepdims=False"):
        kept = [
            keras.Input((None, 3)),
            L.GRU(4, return_sequences=True),
            L.GlobalMaxPooling1D(keepdims=True),
        ]
        interop.from_keras(keras.Sequential(kept))


def test_a_functional_row_comes_in(keras, h5py, rng, tmp_path):
    L = keras.layers
    x = keras.Input((None,), dtype="int32")
    y = L.Embedding(9, 4, mask_zero=True)(x)
    y = L.GRU(3, return_sequences=True)(y)
    y = L.Dense(2)(L.GRU(3)(y))
    theirs = keras.Model(x, y)
    theirs.save(tmp_path / "m.keras")
    ids = rng.integers(0, 9, (4, 6))
    for model in (interop.from_keras(theirs), interop.from_keras(tmp_path / "m.keras")):
        assert_close(model.predict(ids), theirs.predict(ids, verbose=0), "foreign")


def test_live_layers_come_in(keras, rng):
    layer = keras.layers.GRU(4, return_sequences=True, reset_after=False)
    x = rng.standard_normal((3, 5, 2)).astype(np.float32)
    y = keras.ops.convert_to_numpy(layer(x))
    ours = interop.from_keras(layer)
    assert isinstance(ours, GRU)
    assert_close(ours(x), y, "foreign")
    both = keras.layers.Bidirectional(keras.layers.GRU(4))
    y = keras.ops.convert_to_numpy(both(x))
    ours = interop.from_keras(both)
    assert isinstance(ours, Bidirectional)
    assert_close(ours(x), y, "foreign")


def test_live_models_without_a_counterpart_are_refused(keras):
    L = keras.layers
    x = keras.Input((5, 3))
    branched = keras.Model(x, L.Add()([L.GRU(4)(x), L.GRU(4)(x)]))
    twice = L.Dense(3)
    shared = keras.Model(x, twice(twice(x)))
    stacked = keras.Sequential([x, L.RNN([L.GRUCell(3), L.GRUCell(2)])])

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.gru = L.GRU(4)

        def call(self, x):
            return 2 * self.gru(x)

    own = Own()
    own(np.ones((1, 2, 3)))
    for model, sentence in (
        (branched, "layers in a row"),
        (shared, "layers in a row"),
        (stacked, "StackedRNNCells"),
        (own, "whose call may do anything|no layer"),
        (keras.Sequential([x, L.LSTM(4)]), "no layer for .*LSTM"),
        (keras.Sequential([x, L.Bidirectional(L.LSTM(4))]), "Bidirectional around LSTM"),
        (keras.Sequential([x, L.Dense(4, activation="gelu")]), "activation 'gelu'"),
        (keras.Sequential([x, L.GRU(4), L.Activation("tanh")]), "activation alone"),
        (keras.Sequential([x, L.LayerNormalization(axis=1)]), "axis"),
        (keras.Sequential([x, L.Lambda(lambda y: y)]), "never run"),
        (keras.Sequential([x, L.GRU(4, dtype="mixed_bfloat16")]), "mixed_bfloat16"),
    ):
        with pytest.raises(ConversionError, match=sentence):
            interop.from_keras(model)
    with pytest.raises(ValueError, match="built first"):
        interop.from_keras(L.GRU(4))


def test_the_check_finds_weights_in_the_wrong_place(keras, rng, monkeypatch):
    theirs = live_model(keras, rng)
    monkeypatch.setattr("gru_np.interop.layouts.swap_reset_update", lambda a: a.copy())
    with pytest.raises(ConversionError, match="gives another answer here"):
        interop.from_keras(theirs)
    model = randomised(Sequential([GRU(4), Dense(2)]), rng, (None, None, 3))
    with pytest.raises(ConversionError, match="gives another answer here"):
        interop.to_keras(model)


# ----------------------------------------------------------------------------------- Keras 2

KERAS2 = json.loads(
    (Path(__file__).parent / "golden" / "keras2.json").read_text(encoding="utf-8")
)  # what tf_keras wrote and answered; the script beside the file makes it


def keras2_archive(path, case):
    """Put the archive together that Keras 2 wrote."""
    import h5py

    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        for name, array in case["arrays"].items():
            file[name] = np.array(array, np.float32)
        for i in range(2):  # empty groups stand there too
            file.require_group(f"layers/dropout/{i}")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps(case["metadata"]))
        archive.writestr("config.json", json.dumps(case["config"]))
        archive.writestr("model.weights.h5", weights.getvalue())
    return path


@pytest.mark.parametrize("name", ["a row of numbers", "a functional model of ids"])
def test_archives_of_keras_2_give_the_numbers_of_keras_2(h5py, tmp_path, name):
    case = KERAS2[name]
    model = interop.from_keras(keras2_archive(tmp_path / "m.keras", case))
    assert_close(model.predict(np.array(case["x"])), np.array(case["y"], "f"), "foreign")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("time first", "gru_1?.* has time_major=True"),
        ("a hard sigmoid", r"'hard_sigmoid' of Keras 2, clip\(0.2 a \+ 0.5\)"),
        ("zeros where masked", "zero_output_for_mask=True, and gives zeros"),
    ],
)
def test_what_keras_2_does_otherwise_is_refused_by_name(h5py, tmp_path, name, sentence):
    with pytest.raises(ConversionError, match=sentence):
        interop.from_keras(keras2_archive(tmp_path / "m.keras", KERAS2[name]))


def test_the_hard_sigmoid_of_keras_3_comes_in(h5py, rng, tmp_path):
    model = randomised(
        Sequential([GRU(3, recurrent_activation="hard_sigmoid")]), rng, (None, None, 2)
    )
    interop.to_keras(model, tmp_path / "m.keras")
    same_weights(interop.from_keras(tmp_path / "m.keras"), model)


@pytest.mark.parametrize("version", ["1.2.0", "4.0.0", None, "x", ["3"]])
def test_an_archive_of_another_keras_is_refused(h5py, tmp_path, version):
    case = KERAS2["a row of numbers"]
    case = case | {"metadata": {"keras_version": version}}
    with pytest.raises(ConversionError, match=r"metadata\.json must be of Keras 2 or Keras 3"):
        interop.from_keras(keras2_archive(tmp_path / "m.keras", case))


# ------------------------------------------------------------ nothing that is unknown is dropped

UNKNOWN = {
    "a setting of a GRU": (set_config(warp=1), "gru has the setting warp=1"),
    "a setting of a later Keras": (set_config(lora_rank=2), "lora_rank=2, which is not known"),
    "a setting of the model": (
        edit(lambda t: t["config"].update(gain=2)), "has the setting gain=2",
    ),
    "a word of the description": (
        edit(lambda t: gru_entry(t).update(call_context={})), "described with call_context",
    ),
    "a class of the user's by a name of Keras'": (
        edit(lambda t: gru_entry(t).update(module="mine", registered_name="mine>GRU")),
        "a GRU of mine, not of Keras' own",
    ),
    "a class that was registered": (
        edit(lambda t: gru_entry(t).update(registered_name="mine>GRU")), "a GRU of ",
    ),
    "zeros where masked": (
        edit(lambda t: (gru_entry(t)["config"].update(zero_output_for_mask=True),
                        t["config"]["layers"][1]["config"].update(mask_zero=True))),
        "zero_output_for_mask=True",
    ),
    "time first": (set_config(time_major=True), "time_major=True"),
    "a word for a yes or no": (set_config(go_backwards="no"), "true or false, got 'no'"),
    "nothing for a yes or no": (set_config(use_bias=None), "use_bias true or false, got None"),
    "an activation that is an object": (
        set_config(activation={"module": "mine", "class_name": "tanh", "config": {}}),
        "described and not named",
    ),
    "pooling that keeps its axis": (
        edit(lambda t: gru_entry(t).update(
            class_name="GlobalMaxPooling1D", config={"name": "p", "keepdims": True})),
        "keepdims=True",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNKNOWN)
def test_a_setting_that_is_not_known_is_refused_and_not_dropped(h5py, rng, tmp_path, case):
    change, sentence = UNKNOWN[case]
    interop.to_keras(language_model(rng), tmp_path / "m.keras")
    with pytest.raises(ConversionError, match=sentence):
        interop.from_keras(archive(tmp_path / "m.keras", change))


def test_settings_that_play_no_part_are_let_through(h5py, rng, tmp_path):
    model = language_model(rng)
    interop.to_keras(model, tmp_path / "m.keras")
    harmless = set_config(
        seed=1, implementation=1, kernel_initializer={"class_name": "Zeros"}, time_major=False,
        activity_regularizer=None, bias_constraint="max_norm", zero_output_for_mask=True,
    )  # fmt: skip
    same_weights(interop.from_keras(archive(tmp_path / "m.keras", harmless)), model)


def test_weights_that_no_layer_of_the_settings_takes_are_refused(h5py, rng, tmp_path):
    def another(file, at):
        file["layers/gru_7/cell/vars/0"] = np.ones((2, 2))

    def beside(file, at):
        file["layers/gru/scale/vars/0"] = np.ones(2)

    model = language_model(rng)
    for change, sentence in ((another, "gru_7/cell/vars/0"), (beside, "gru/scale/vars/0")):
        interop.to_keras(model, tmp_path / "m.keras")
        with pytest.raises(ConversionError, match=f"layers/{sentence}, which no layer"):
            interop.from_keras(archive(tmp_path / "m.keras", weights=h5(change)))


def test_weights_of_wrapped_layers_go_where_counts_and_shapes_say(h5py, rng, tmp_path):
    def wrapped(file, at):
        file.move("layers/gru", "layers/rnn")
        file.move("layers/gru_1", "layers/gru")
        file.move("layers/dense", "layers/time_distributed/layer")

    model, other = language_model(rng), language_model(rng)
    interop.to_keras(model, tmp_path / "m.weights.h5")
    content = (tmp_path / "m.weights.h5").read_bytes()
    (tmp_path / "m.weights.h5").write_bytes(h5(wrapped)(content))
    assert interop.from_keras(tmp_path / "m.weights.h5", into=other) is other
    same_weights(other, model)
    # Two layers of one shape: which of them the RNN is, nothing says.
    alike = [GRU(3, return_sequences=True), GRU(3, return_sequences=True), Dense(2)]
    twins = randomised(Sequential(alike), rng, (None, None, 3))
    interop.to_keras(twins, tmp_path / "t.weights.h5")
    content = (tmp_path / "t.weights.h5").read_bytes()
    (tmp_path / "t.weights.h5").write_bytes(h5(wrapped)(content))
    with pytest.raises(ConversionError, match=r"1 time_distributed, 1 rnn, .* is left open"):
        interop.from_keras(tmp_path / "t.weights.h5", into=twins)


def test_an_archive_cut_off_inside_what_it_packs_gets_one_sentence(h5py, rng, tmp_path):
    path = tmp_path / "m.keras"
    for packing in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        interop.to_keras(language_model(rng), path)
        data = bytearray(archive(path, compression=packing).read_bytes())
        for at in range(40, 900, 13):
            damaged = data.copy()
            damaged[at : at + 9] = bytes(9)
            path.write_bytes(damaged)
            with pytest.raises(ConversionError):
                interop.from_keras(path)


# -------------------------------------------------------------------- what was checked, and how


def test_the_result_says_what_was_checked(keras, h5py, rng, tmp_path):
    L = keras.layers
    theirs = keras.Sequential([
        keras.Input((None,), dtype="int32"),
        L.Embedding(9, 4, mask_zero=True),
        L.Bidirectional(L.GRU(3, return_sequences=True)),
    ])  # fmt: skip
    model = interop.from_keras(theirs)
    [how] = model.conversion.checked
    assert how == f"Keras' {theirs.name} and this model on (3, 5) random numbers"
    assert "gives zeros there in Keras" in model.conversion.unchecked[0]
    theirs.save(tmp_path / "m.keras")
    read = interop.from_keras(tmp_path / "m.keras").conversion
    assert not read.checked
    assert read.unchecked[0].startswith("nothing was run: a file is read without Keras")
    assert not interop.from_keras(theirs, check=False).conversion.checked
    assert interop.from_keras(theirs.layers[-1]).conversion.checked


def test_a_stateful_model_comes_in_and_keeps_its_states(keras, rng):
    L = keras.layers
    theirs = keras.Sequential([
        keras.Input(batch_shape=(4, None, 3)),
        L.GRU(2, stateful=True, return_sequences=True),
        L.Bidirectional(L.GRU(2, stateful=True)),
        L.Dense(2),
    ])  # fmt: skip
    x = rng.standard_normal((4, 6, 3)).astype(np.float32)
    theirs.predict(x, verbose=0)

    def states():
        made = [theirs.layers[0].states[0], *theirs.layers[1].states]
        return [keras.ops.convert_to_numpy(state).copy() for state in made]

    before = states()
    assert all(state.any() for state in before)
    model = interop.from_keras(theirs)
    assert_close(states(), before, "exact")
    assert model.layers[0].state is None
    interop.from_keras(theirs.layers[0])
    interop.from_keras(theirs.layers[1])
    assert_close(states(), before, "exact")
    for layer in theirs.layers[:2]:
        layer.reset_states()
    assert_close(model.predict(x, batch_size=4), theirs.predict(x, verbose=0), "foreign")
    with pytest.raises(ConversionError, match="needs a fixed batch size"):
        interop.to_keras(model)


def test_live_models_that_do_more_than_their_layers_are_refused(keras):
    L = keras.layers
    x = keras.Input((None, 4))
    g = L.GRU(3)(x)
    always = L.GRU(3)(L.Dropout(0.5)(x, training=True))

    class GRU(L.GRU):
        def call(self, sequences, initial_state=None, mask=None, training=False):
            return 2 * super().call(sequences)

    own = GRU(3)
    own(np.ones((2, 3, 4), np.float32))
    for source, sentence in (
        (keras.Model(x, [L.Dense(2)(g), g]), "gives .*, gru_np the output of the last layer"),
        (keras.Model(x, always), "is called with training=True"),
        (keras.Sequential([x, GRU(3)]), "not of Keras' own"),
        (own, "not of Keras' own"),
    ):
        with pytest.raises(ConversionError, match=sentence):
            interop.from_keras(source)


def test_live_models_of_a_fixed_length_and_norms_of_a_last_state_come_in(keras, h5py, tmp_path):
    L = keras.layers
    x = keras.Input((7, 4))
    theirs = keras.Model(x, L.LayerNormalization()(L.GRU(3)(x)))
    assert interop.from_keras(theirs).conversion.checked
    theirs.save(tmp_path / "m.keras")
    same_weights(interop.from_keras(tmp_path / "m.keras"), interop.from_keras(theirs))


# ------------------------------------------------------------------- whatever Keras can write


@st.composite
def described_layers(draw):
    """Settings of a row of layers, as (class, settings) of Keras'."""
    activations = ["tanh", "sigmoid", "relu", "linear", "hard_sigmoid"]
    sequences = True
    row = [draw(st.sampled_from([
        ("Embedding", {"mask_zero": True}), ("Embedding", {"mask_zero": False}), ("Masking", {}),
        ("Dropout", {"rate": 0.2}),
    ]))]  # fmt: skip

    def gru():
        return {
            "units": draw(st.integers(1, 4)),
            "use_bias": draw(st.booleans()),
            "reset_after": draw(st.booleans()),
            "activation": draw(st.sampled_from(activations[:3])),
            "recurrent_activation": draw(st.sampled_from(["sigmoid", "hard_sigmoid"])),
            "zero_output_for_mask": draw(st.sampled_from([False, False, False, True])),
            "go_backwards": draw(st.sampled_from([False, False, True])),
        }

    for kind in draw(st.lists(st.sampled_from(
        ["GRU", "Bidirectional", "RNN", "TimeDistributed", "LayerNormalization",
         "SpatialDropout1D"]), min_size=1, max_size=3)):  # fmt: skip
        if not sequences:
            break
        if kind in ("GRU", "Bidirectional", "RNN"):
            sequences = draw(st.booleans())
            row.append(
                (
                    kind,
                    {
                        "gru": gru(),
                        "return_sequences": sequences,
                        "merge_mode": draw(st.sampled_from(["concat", "sum", "ave", "mul"])),
                    },
                )
            )
        elif kind == "TimeDistributed":
            row.append((kind, {"units": 3, "activation": draw(st.sampled_from(activations))}))
        else:
            row.append((kind, {}))
    if sequences and draw(st.booleans()):
        row.append((draw(st.sampled_from(["GlobalAveragePooling1D", "GlobalMaxPooling1D"])), {}))
    row.append(
        (
            "Dense",
            {"units": 2, "activation": draw(st.sampled_from([*activations, "softmax", "gelu"]))},
        )
    )
    return row, draw(st.booleans()), draw(st.integers(0, 99))


def drawn_keras(keras, row, functional, seed):
    L, rng = keras.layers, np.random.default_rng(seed)
    ids = row[0][0] == "Embedding"
    made = []
    for kind, settings_of in row:
        s = dict(settings_of)
        if kind == "Embedding":
            layer = L.Embedding(7, 3, **s)
        elif kind in ("GRU", "Bidirectional", "RNN"):
            g, sequences = dict(s["gru"]), s["return_sequences"]
            if kind == "GRU":
                layer = L.GRU(return_sequences=sequences, **g)
            elif kind == "RNN":
                outside = {k: g.pop(k) for k in ("zero_output_for_mask", "go_backwards")}
                layer = L.RNN(L.GRUCell(**g), return_sequences=sequences, **outside)
            else:
                inner = L.GRU(return_sequences=sequences, **g | {"go_backwards": False})
                layer = L.Bidirectional(inner, merge_mode=s["merge_mode"])
        elif kind == "TimeDistributed":
            layer = L.TimeDistributed(L.Dense(**s))
        elif kind == "SpatialDropout1D":
            layer = L.SpatialDropout1D(0.2)
        else:
            layer = getattr(L, kind)(**s)
        made.append(layer)
    x = keras.Input((None,), dtype="int32") if ids else keras.Input((None, 3))
    if functional:
        y = x
        for layer in made:
            y = layer(y)
        model = keras.Model(x, y)
    else:
        model = keras.Sequential([x, *made])
    for weight in model.weights:
        if "seed" not in weight.path:
            weight.assign(0.6 * rng.standard_normal(weight.shape))
    batch = rng.integers(1, 7, (4, 6)) if ids else rng.standard_normal((4, 6, 3)).astype("f")
    batch[0, 4:] = 0
    batch[1, 2] = 0
    return model, batch


@pytest.mark.filterwarnings("ignore:Layer .* does not support masking")
@settings(max_examples=30, deadline=None)
@given(described_layers())
def test_a_drawn_model_of_keras_is_exact_or_refused_live_and_from_its_file(drawn):
    pytest.importorskip("h5py")
    try:
        import keras
    except ImportError as error:
        pytest.skip(f"Keras does not import: {error}")
    theirs, x = drawn_keras(keras, *drawn)
    y = theirs.predict(x, verbose=0)
    with tempfile.TemporaryDirectory() as folder:
        theirs.save(f"{folder}/m.keras")
        found = []
        for source in (theirs, f"{folder}/m.keras"):
            try:
                found.append(interop.from_keras(source))
            except ConversionError as error:
                reasons = "zero_output_for_mask|masked steps|go_backwards|activation '"
                assert re.search(reasons, str(error)), error
                found.append(None)
        assert (found[0] is None) == (found[1] is None)
        for model in filter(None, found):
            down = model._forward(x)
            keep = slice(None) if down.mask is None else down.mask
            assert np.abs(down.y[keep] - y[keep]).max() <= 1e-5 * max(1.0, np.abs(y).max())


def test_models_without_time_go_there_and_back(h5py, rng, tmp_path):
    model = randomised(Sequential([Dense(4, activation="relu"), Dense(2)]), rng, (None, 3))
    interop.to_keras(model, tmp_path / "m.keras")
    again = interop.from_keras(tmp_path / "m.keras")
    assert again.input_shape == (None, 3)
    same_weights(again, model)
