"""What a model has beside its weights goes where the model goes: tokenizer, labels, padding."""

import json
import runpy

import numpy as np
import pytest

from gru_np import (
    GRU,
    CheckpointError,
    Dense,
    Embedding,
    Sequential,
    checkpoint,
    cli,
    gates,
    interop,
    text,
)
from gru_np.callbacks import ModelCheckpoint, StopOnSignal
from gru_np.series import Forecaster
from gru_np.speech import Transcriber

LETTERS = text.CharTokenizer.fit("abracadabra")


def built(V=5, **beside):
    model = Sequential([Embedding(V, 3), GRU(4, return_sequences=True), Dense(V)], seed=0)
    model.build((None, None))
    for name, value in beside.items():
        setattr(model, name, value)
    return model


def keras_tokenizer():
    tokenizer = text.Tokenizer(num_words=4, oov_token="?")
    tokenizer.fit_on_texts(["the cat sat", "the dog"])
    return tokenizer


@pytest.mark.parametrize(
    "tokenizer",
    [LETTERS, text.WordTokenizer.fit("a b a c d"), keras_tokenizer()],
    ids=lambda t: type(t).__name__,
)
@pytest.mark.parametrize("form", ["file", "folder"])
def test_tokenizer_labels_and_padding_are_there_after_loading(tmp_path, tokenizer, form):
    padding = {"maxlen": 7, "padding": "post", "truncating": "pre", "value": 0}
    model = built(tokenizer=tokenizer, labels=["sour", "sweet"], padding=padding)
    model.extras = {"labels": {"mine": 1}}  # the user's own, whatever it is called
    path = tmp_path / ("m.safetensors" if form == "file" else "m")
    interop.write(model, path)
    again = interop.read(path)
    assert type(again.tokenizer) is type(tokenizer)
    written = "abra" if tokenizer is LETTERS else "a the cat"
    assert again.tokenizer.encode(written).tolist() == tokenizer.encode(written).tolist()
    assert (again.labels, again.padding) == (["sour", "sweet"], padding)
    assert again.extras == {"labels": {"mine": 1}}
    assert text.tokenizer_of(again) is again.tokenizer
    assert text.pad_sequences([[1, 2]], **again.padding).shape == (1, 7)


def test_a_loaded_model_shows_its_gates_for_a_text(tmp_path):
    built(tokenizer=LETTERS).save(tmp_path / "m.safetensors")
    read = gates.trace(Sequential.load(tmp_path / "m.safetensors"), "abc")["gru"]
    assert read.labels[0] == ("a", "b", "c")


def test_a_model_without_them_has_none_after_loading(tmp_path):
    built().save(tmp_path / "m.safetensors")
    again = Sequential.load(tmp_path / "m.safetensors")
    assert (again.tokenizer, again.labels, again.padding) == (None, None, None)


def rewritten(path, change):
    """Change the config of a file, its digests made anew."""
    config, arrays = checkpoint.load(path)
    change(config)
    checkpoint.save(path, config, arrays)
    return path


def test_a_file_with_the_tokenizer_among_its_extras_still_loads(tmp_path):
    # As the first versions wrote it: nothing but extras.
    def earlier(config):
        del config["text"]
        config["extras"] = {"note": 1, "tokenizer": text.tokenizer_config(LETTERS)}

    built().save(tmp_path / "m.safetensors")
    again = Sequential.load(rewritten(tmp_path / "m.safetensors", earlier))
    assert again.tokenizer.tokens == LETTERS.tokens
    assert again.extras == {"note": 1}


@pytest.mark.parametrize(
    ("beside", "sentence"),
    [
        ({"tokenizer": {"class_name": "Sequential", "config": {}}}, "class_name must be one of"),
        ({"tokenizer": {"class_name": "CharTokenizer", "config": {"tokens": [1]}}}, "tokens"),
        ({"labels": [1, 2]}, "labels must be a list of str"),
        ({"padding": {"maxlen": -1}}, r"padding\['maxlen'\] must be an int from 1"),
        ({"evil": 1}, "unknown evil"),
    ],
)
def test_what_a_file_says_of_them_is_checked_as_it_is_read(tmp_path, beside, sentence):
    built().save(tmp_path / "m.safetensors")
    path = rewritten(tmp_path / "m.safetensors", lambda config: config.update(text=beside))
    with pytest.raises(CheckpointError, match=sentence):
        Sequential.load(path)
    interop.save_pretrained(built(), tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    (tmp_path / "m" / "config.json").write_text(json.dumps(config | {"text": beside}))
    with pytest.raises(interop.ConversionError, match=sentence):
        interop.from_pretrained(tmp_path / "m")


def split_at_e(written):
    return written.split("e")


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("tokenizer", str.split, "tokenizer must be a CharTokenizer, .*got method_descriptor"),
        (
            "tokenizer",
            text.Tokenizer(analyzer=split_at_e),
            "an analyzer, a function, which no file",
        ),
        ("labels", "ab", "labels must be a list of str"),
        ("labels", [], "labels must be a list of str"),
        ("labels", ["a", 1], "labels must be a list of str"),
        ("labels", {"a": 0}, "labels must be a list of str"),
        ("labels", ["a", "b", "a"], "must differ from each other"),
        ("padding", 40, "dict of arguments of pad_sequences"),
        ("padding", {"side": "pre"}, "dict of arguments of pad_sequences"),
        ("padding", {"padding": "left"}, r"padding\['padding'\] must be \('pre', 'post'\)"),
        ("padding", {"maxlen": 2.5}, "an int from 1, got 2.5"),
        ("padding", {"value": "x"}, "a number, got 'x'"),
    ],
)
def test_what_a_file_could_not_hold_is_refused_where_it_is_set(name, value, sentence):
    model = built()
    with pytest.raises((TypeError, ValueError), match=sentence):
        setattr(model, name, value)
    assert getattr(model, name) is None


def test_labels_may_be_an_array_of_strings_and_numbers_numpys(tmp_path):
    model = built(labels=np.array(["x", "y"]), padding={"maxlen": np.int64(3)})
    model.save(tmp_path / "m.safetensors")
    again = Sequential.load(tmp_path / "m.safetensors")
    assert (again.labels, again.padding) == (["x", "y"], {"maxlen": 3})


def test_the_python_file_has_them_too(tmp_path):
    model = built(tokenizer=LETTERS, labels=["x", "y"])
    model.extras = {"note": 1}
    interop.export_standalone(model, tmp_path / "m.py")
    extras = runpy.run_path(str(tmp_path / "m.py"))["EXTRAS"]
    assert extras["labels"] == ["x", "y"]
    assert extras["note"] == 1
    assert extras["tokenizer"]["config"]["tokens"] == LETTERS.tokens


# ------------------------------------------------------------------- a file is what its name says


@pytest.mark.parametrize(
    "name", ["m.keras", "best.h5", "m.weights.h5", "M.HDF5", "m.onnx", "m.pt", "m.pth", "m.py"]
)
def test_a_name_of_another_format_is_refused_and_convert_is_named(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(ValueError, match=r"ends in \.safetensors, then `gru-np convert"):
        built().save(path)
    for make in (ModelCheckpoint, StopOnSignal):
        with pytest.raises(ValueError, match=f"{make.__name__}: .*gru-np convert"):
            make(path)
    with pytest.raises(ValueError, match="gru-np convert"):
        Transcriber.fit(None, [], [], path=path)  # before anything is learnt
    assert not path.exists()


def test_a_name_that_nothing_here_writes_is_refused_without_that_advice(tmp_path):
    for name in ("m.npz", "m.pkl"):
        with pytest.raises(ValueError, match=r"ends in \.safetensors$"):
            built().save(tmp_path / name)
    ModelCheckpoint("{epoch:02d}.safetensors")
    for name in ("m", "m.safetensors", "m.ckpt", b"bytes.safetensors"):
        built().save(tmp_path / name if isinstance(name, str) else bytes(tmp_path) + b"/" + name)


def test_commands_refuse_such_a_name_before_they_train(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Forecaster, "fit", lambda *a, **k: pytest.fail("it trained"))
    assert cli.main(["forecast", "--demo", "--save", "m.h5"]) == 2
    assert "--save: the file is a safetensors file" in capsys.readouterr().err
    (tmp_path / "a.txt").write_text("abc " * 200)
    arguments = ["--text", "a.txt", "--epochs", "1", "--checkpoint", "m.pt"]
    assert cli.main(["train", *arguments]) == 2
    assert "gru-np convert model.safetensors m.torch.safetensors" in capsys.readouterr().err
