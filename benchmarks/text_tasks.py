"""What the recipes of text and music learn from: data, layers, loss and score of each kind.

A recipe is a file of benchmarks/recipes; its `kind` names one of the functions below.
"""

import gzip
import tomllib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gru_np import GRU, Bidirectional, Dense, Dropout, Embedding, Sequential, pad_sequences, text
from gru_np.data import Dataset
from gru_np.initializers import RandomUniform
from gru_np.layers import GlobalMaxPooling1D, Masking
from gru_np.optimizers import Adam
from gru_np.schedules import CosineDecay

RECIPES = {path.stem: path for path in sorted((Path(__file__).parent / "recipes").glob("*.toml"))}
Part = tuple[np.ndarray, np.ndarray]


@dataclass
class Task:
    """A model to train and its data; `score` makes a published kind of number of the logs."""

    layers: list
    loss: str
    train: Part
    valid: Part
    test: Part | None  # None where only validation numbers are published
    score: Callable[[dict[str, float]], float]
    metrics: list[str] = field(default_factory=list)


def recipe(name: str) -> dict[str, Any]:
    """Read the settings of one recipe."""
    return tomllib.loads(RECIPES[name].read_text(encoding="utf-8"))


def unpacked(path: Path) -> str:
    """Read a .gz file of text."""
    return gzip.decompress(path.read_bytes()).decode("utf-8")


def music(folder: Path, r: dict) -> Task:
    """Frames of 88 keys, the next one to be told: pieces padded behind, padding masked."""
    z = np.load(folder / r["data"])

    def part(name: str) -> Part:
        frames = np.unpackbits(z[f"{name}_bits"], axis=1)[:, :88]
        pieces = np.split(frames, np.cumsum(z[f"{name}_len"])[:-1])
        x = pad_sequences([p[:-1] for p in pieces], padding="post", value=-1, dtype="float32")
        y = pad_sequences([p[1:] for p in pieces], padding="post", dtype="float32")
        return x, y

    layers = [
        Masking(-1.0),
        Dropout(r["input_dropout"], noise_shape=(None, 1, None)),
        GRU(r["units"], return_sequences=True),
        Dropout(r["dropout"]),
        Dense(88, activation="sigmoid"),
    ]
    parts = [part(name) for name in ("train", "valid", "test")]
    return Task(layers, "binary_crossentropy", *parts, score=lambda logs: 88 * logs["loss"])


def sentences(folder: Path, r: dict) -> Task:
    """Label and words a line; without a file of its own validation is a tenth of the training."""

    def read(name: str) -> list[tuple[int, list[str]]]:
        lines = gzip.decompress((folder / r["data"] / name).read_bytes()).decode("latin-1")
        return [(int(line[0]), line[2:].split()) for line in lines.splitlines() if line]

    train, test = read(r["files"][0]), read(r["files"][2])
    if r["files"][1]:
        valid = read(r["files"][1])
    else:
        order = np.random.default_rng(0).permutation(len(train))
        held = len(train) // 10
        train, valid = [train[i] for i in order[held:]], [train[i] for i in order[:held]]
    counts = Counter(w.lower() for _, ws in train for w in ws)
    known = sorted(w for w, count in counts.items() if count >= r["least_count"])
    others = 3 if r["shapes"] else 1
    ids = {w: i for i, w in enumerate(known, start=1 + others)}  # 0 is padding

    def one(w: str) -> int:
        """Give the id of a word; 1 is any other, or 2 if it has a capital, 3 if a digit."""
        shape = 3 if any(map(str.isdigit, w)) else 2 if w != w.lower() else 1
        return ids.get(w.lower(), shape if r["shapes"] else 1)

    def part(rows: list) -> Part:
        rows = sorted(rows, key=lambda row: len(row[1]))  # so that little padding is evaluated
        x = pad_sequences([[one(w) for w in ws] for _, ws in rows], padding="post")
        return x, np.array([label for label, _ in rows])

    layers = [
        Embedding(
            len(ids) + 1 + others,
            r["width"],
            RandomUniform(-r["range"], r["range"]),
            mask_zero=True,
        ),
        Dropout(r["word_dropout"], noise_shape=(None, None, 1)),  # whole words
        Dropout(r["dropout"]),
        Bidirectional(GRU(r["units"], return_sequences=True)),
        GlobalMaxPooling1D(),
        Dropout(r["dropout"]),
        Dense(r["classes"], activation="softmax"),
    ]
    return Task(
        layers, "sparse_categorical_crossentropy", part(train), part(valid), part(test),
        score=lambda logs: 100 * logs["accuracy"], metrics=["accuracy"],
    )  # fmt: skip


def words(folder: Path, r: dict) -> Task:
    """Contiguous streams of words, the state carried; validation and test in one stream each."""
    read = [unpacked(folder / r["data"] / name) for name in r["files"]]
    tokens = [content.replace("\n", " <eos> ").split() for content in read]
    ids = {word: i for i, word in enumerate(sorted({w for part in tokens for w in part}))}
    parts = [
        text.stream(np.array([ids[word] for word in part]), rows)
        for part, rows in zip(tokens, (r["batch_size"], 1, 1), strict=True)
    ]
    tied = {"tied_to": "embedding"} if r["tied"] else {}
    layers = [
        Embedding(len(ids), r["width"], RandomUniform(-r["range"], r["range"]), name="embedding"),
        *recurrent(r),
        Dense(len(ids), activation="softmax", **tied),
    ]
    return Task(
        layers, "sparse_categorical_crossentropy", *parts,
        score=lambda logs: float(np.exp(logs["loss"])),
    )  # fmt: skip


def characters(folder: Path, r: dict) -> Task:
    """One stream of characters, its last tenth for validation; there is no test part."""
    content = unpacked(folder / r["data"])
    ids = {character: i for i, character in enumerate(sorted(set(content)))}
    stream = np.array([ids[character] for character in content])
    cut = int(0.9 * len(stream))
    layers = [
        Embedding(len(ids), r["width"]),
        *recurrent(r, first=0.0),
        Dense(len(ids), activation="softmax"),
    ]
    return Task(
        layers, "sparse_categorical_crossentropy", text.stream(stream[:cut], r["batch_size"]),
        text.stream(stream[cut:], 1), None, score=lambda logs: logs["loss"],
    )  # fmt: skip


def recurrent(r: dict, first: float | None = None) -> list:
    """GRU layers with dropout before and behind each, one mask over time (arXiv:1512.05287)."""
    same = {"noise_shape": (None, 1, None)}
    layers: list = [Dropout(r["dropout"] if first is None else first, **same)]
    for _ in range(r["layers"]):
        layers += [GRU(r["units"], return_sequences=True), Dropout(r["dropout"], **same)]
    return layers


def adding(folder: Path, r: dict) -> Task:
    """Numbers in [0, 1] and two marks a sequence; the sum of the marked two is to be told."""
    del folder

    def part(n: int, seed: int) -> Part:
        rng = np.random.default_rng([r["length"], seed])
        x = np.zeros((n, r["length"], 2), np.float32)
        x[..., 0] = rng.random((n, r["length"]), np.float32)
        marked = np.argsort(rng.random((n, r["length"])), axis=1)[:, :2]
        np.put_along_axis(x[..., 1], marked, 1, axis=1)
        return x, np.take_along_axis(x[..., 0], marked, axis=1).sum(axis=1, keepdims=True)

    layers = [GRU(r["units"]), Dense(1)]
    return Task(
        layers, "mse", part(r["sequences"], 0), part(1000, 1), part(1000, 2),
        score=lambda logs: logs["loss"],
    )  # fmt: skip


KINDS = {f.__name__: f for f in (music, sentences, words, characters, adding)}


def prepare(name: str, folder: Path, seed: int) -> tuple[dict[str, Any], Task, Sequential]:
    """Give settings, task and the model, its weights drawn and its optimiser chosen."""
    r = recipe(name)
    task = KINDS[r["kind"]](folder, r)
    model = Sequential(task.layers, seed=seed)
    steps = r["epochs"] * len(Dataset(task.train[0], None, None, r["batch_size"], r.get("window")))
    optimizer = Adam(
        CosineDecay(r["learning_rate"], steps), global_clipnorm=r["clip"],
        weight_decay=r.get("weight_decay"), epsilon=1e-8, epsilon_placement="torch",
    )  # fmt: skip
    model.compile(task.loss, optimizer, task.metrics)
    model.build((None, *task.train[0].shape[1:]))
    if "chrono" in r:
        remember(model, r["chrono"], seed)
    return r, task, model


def remember(model: Sequential, longest: int, seed: int) -> None:
    """Begin with gates z that keep the state for 1 to `longest` steps, arXiv:1804.11188, eq. 16."""
    rng = np.random.default_rng([seed, longest])
    for layer in model.layers:
        if isinstance(layer, GRU):
            H = layer.units
            layer.params["b_ih"][H : 2 * H] = np.log(rng.uniform(1, longest - 1, H))
