"""Recipes of text and music: complete, resumable to the bit, and equal to PyTorch's first steps."""

import json

import numpy as np
import pytest

from benchmarks import results_text, text_control, text_tasks

TINY = {
    "title": "Adding", "kind": "adding", "published": "nothing", "sequences": 24, "length": 7,
    "units": 5, "chrono": 7, "learning_rate": 0.01, "clip": 1.0, "batch_size": 5, "epochs": 3,
    "patience": 3, "control_steps": 2, "control_turns": 1, "target": 1,
}  # fmt: skip


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """One small recipe alone, its results in a folder of its own."""
    for module in (text_tasks, results_text):
        monkeypatch.setattr(module, "recipe", lambda name: TINY)
    monkeypatch.setattr(results_text, "RECIPES", {"tiny": None})
    monkeypatch.setattr(results_text, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(results_text, "README", tmp_path / "README.md")
    (tmp_path / "README.md").write_text("before <!-- text:begin -->old<!-- text:end --> behind")
    return tmp_path


@pytest.mark.parametrize("name", text_tasks.RECIPES)
def test_a_recipe_says_what_it_learns_what_was_published_and_what_it_aims_at(name):
    r = text_tasks.recipe(name)
    assert r["kind"] in text_tasks.KINDS
    assert {"title", "published", "target", "epochs", "patience", "clip"} < set(r)
    assert {"control_steps", "control_turns"} < set(r)


def test_a_run_in_parts_ends_with_the_numbers_of_one_in_one_piece(tiny):
    def run(minutes, resume=False, stop=False):
        results_text.run("tiny", tiny, resume, minutes, stop, 0, tiny)
        return json.loads((tiny / "results" / "text-tiny.json").read_text())

    whole = run(float("inf"))
    part = run(0.0)
    assert part["epochs"] == 1 and "test" not in part
    stopped = run(0.0, resume=True, stop=True)
    assert stopped["epochs"] == stopped["picked_epoch"] == 1 and "test" in stopped
    run(0.0, resume=True)
    parts = run(float("inf"), resume=True)
    for key in ("curve", "test", "validation", "picked_epoch", "epochs"):
        assert parts[key] == whole[key]
    results_text.write_table()
    readme = (tiny / "README.md").read_text()
    assert readme.startswith("before <!--") and readme.endswith("--> behind")
    assert f"| Adding | {whole['test']:.4g} |" in readme and "old" not in readme


def test_marked_numbers_add_up_and_two_are_marked():
    task = text_tasks.adding(None, TINY)
    x, y = task.train
    assert (x[..., 1].sum(axis=1) == 2).all()
    np.testing.assert_allclose((x[..., 0] * x[..., 1]).sum(axis=1), y[:, 0], rtol=1e-6)


@pytest.mark.parametrize("kind", ["words", "sentences", "music"])
def test_torch_takes_the_same_first_steps(kind, monkeypatch):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    rng = np.random.default_rng(0)
    r = TINY | {
        "width": 4, "layers": 2, "dropout": 0.3, "input_dropout": 0.2, "word_dropout": 0.2,
        "window": 3,
    }  # fmt: skip
    if kind == "words":
        ids = rng.integers(0, 9, (2, 5, 12))
        layers = [
            text_tasks.Embedding(9, 4, name="embedding"), *text_tasks.recurrent(r | {"units": 4}),
            text_tasks.Dense(9, activation="softmax", tied_to="embedding"),
        ]  # fmt: skip
        parts, loss = (ids[0], ids[1]), "sparse_categorical_crossentropy"
    else:
        del r["window"]
        lengths = rng.integers(1, 8, 24)
        if kind == "sentences":
            r["shuffle"] = "by_length"
            x = np.array([np.pad(rng.integers(1, 6, n), (0, 8 - n)) for n in lengths])
            layers = [
                text_tasks.Embedding(6, 4, mask_zero=True),
                text_tasks.Dropout(0.2, noise_shape=(None, None, 1)),
                text_tasks.Bidirectional(text_tasks.GRU(3, return_sequences=True)),
                text_tasks.GlobalMaxPooling1D(), text_tasks.Dropout(0.3),
                text_tasks.Dense(3, activation="softmax"),
            ]  # fmt: skip
            parts, loss = (x, rng.integers(0, 3, 24)), "sparse_categorical_crossentropy"
        else:
            keys = (rng.random((24, 8, 6)) < 0.4).astype(np.float32)
            x = np.where(np.arange(8)[:, None] < lengths[:, None, None], keys, -1)
            layers = [
                text_tasks.Masking(-1.0), text_tasks.GRU(5, return_sequences=True),
                text_tasks.Dropout(0.3), text_tasks.Dense(6, activation="sigmoid"),
            ]  # fmt: skip
            parts, loss = (x.astype(np.float32), keys), "binary_crossentropy"
    for module in (text_control, text_tasks):
        monkeypatch.setattr(module, "recipe", lambda name: r)
    copies = iter(range(2))

    def made(folder, settings):
        assert next(copies) < 2
        config = [text_tasks.Sequential.from_config(base).layers][0]
        return text_tasks.Task(config, loss, parts, parts, None, score=lambda logs: logs["loss"])

    base = text_tasks.Sequential(layers, seed=0).get_config()
    monkeypatch.setitem(text_tasks.KINDS, "adding", made)
    monkeypatch.delitem(r, "chrono")
    ours = text_control.trainer_of_ours("tiny", None, 0)
    theirs = text_control.trainer_of_torch("tiny", None, 0)
    for _ in range(6):
        assert ours()[0] == pytest.approx(theirs()[0], rel=1e-5)
