"""Text and music results beside published ones: one recipe, one command.

    python -m benchmarks.results_text --data FOLDER RECIPE [--resume] [--minutes 10]
    python -m benchmarks.results_text --table

RECIPE is the name of a file in benchmarks/recipes, which holds every setting. The epoch with the
lowest validation loss is kept and tested once. benchmarks/results/text-RECIPE.json is replaced
after each epoch; `--resume` goes on from the last whole one, `--minutes` ends a part at the end of
an epoch, tests what there is and says how many epochs that was.
"""

import argparse
import gzip
import json
import os
import tempfile
import time
import tomllib
from pathlib import Path

import numpy as np

from benchmarks import machine
from gru_np import GRU, Bidirectional, Dense, Dropout, Embedding, Sequential, pad_sequences, text
from gru_np.callbacks import EarlyStopping, LambdaCallback, ModelCheckpoint, ReduceLROnPlateau
from gru_np.layers import Masking
from gru_np.optimizers import Adam

HERE = Path(__file__).parent
RECIPES = {path.stem: path for path in sorted((HERE / "recipes").glob("*.toml"))}


def unpacked(path: Path) -> bytes:
    """Read a .gz file."""
    return gzip.decompress(path.read_bytes())


def music(folder: Path, r: dict):
    """Frames of 88 keys, the next one to be told: pieces padded behind, padding masked."""
    z = np.load(folder / r["data"])

    def part(name: str):
        frames = np.unpackbits(z[f"{name}_bits"], axis=1)[:, :88]
        pieces = np.split(frames, np.cumsum(z[f"{name}_len"])[:-1])
        x = pad_sequences([p[:-1] for p in pieces], padding="post", value=-1, dtype="float32")
        y = pad_sequences([p[1:] for p in pieces], padding="post", dtype="float32")
        return x, y

    layers = [
        Masking(-1.0),
        GRU(r["units"], return_sequences=True),
        Dropout(r["dropout"]),
        Dense(88, activation="sigmoid"),
    ]
    parts = [part(name) for name in ("train", "valid", "test")]
    return layers, "binary_crossentropy", [], parts, lambda loss, *_: 88 * loss


def sentences(folder: Path, r: dict):
    """Label and words a line; without a file of its own validation is a tenth of the training."""

    def read(name: str) -> list[tuple[int, list[str]]]:
        lines = unpacked(folder / r["data"] / name).decode("latin-1").splitlines()
        return [(int(line[0]), line[2:].lower().split()) for line in lines if line]

    train, test = read(r["files"][0]), read(r["files"][2])
    if r["files"][1]:
        valid = read(r["files"][1])
    else:
        order = np.random.default_rng(0).permutation(len(train))
        held = len(train) // 10
        train, valid = [train[i] for i in order[held:]], [train[i] for i in order[:held]]
    ids = {w: i for i, w in enumerate(sorted({w for _, ws in train for w in ws}), start=2)}

    def part(rows: list) -> tuple:
        x = pad_sequences([[ids.get(w, 1) for w in ws] for _, ws in rows], padding="post")
        return x, np.array([label for label, _ in rows])

    layers = [
        Embedding(len(ids) + 2, r["width"], mask_zero=True),
        Dropout(r["dropout"]),
        Bidirectional(GRU(r["units"])),
        Dropout(r["dropout"]),
        Dense(r["classes"], activation="softmax"),
    ]
    parts = [part(rows) for rows in (train, valid, test)]
    return (
        layers, "sparse_categorical_crossentropy", ["accuracy"], parts,
        lambda _, accuracy: 100 * accuracy,
    )  # fmt: skip


def words(folder: Path, r: dict):
    """Contiguous streams of words, the state carried; validation and test in one stream each."""
    read = [
        unpacked(folder / r["data"] / f"ptb.{name}.txt.gz").decode("utf-8")
        for name in ("train", "valid", "test")
    ]
    tokens = [content.replace("\n", " <eos> ").split() for content in read]
    ids = {word: i for i, word in enumerate(sorted(set(tokens[0])))}
    streams = [[ids[word] for word in part] for part in tokens]
    rows = (r["batch_size"], 1, 1)
    same = {"noise_shape": (None, 1, None)}  # one mask over time, arXiv:1512.05287
    layers = [
        Embedding(len(ids), r["width"], name="embedding"),
        Dropout(r["dropout"], **same),
        GRU(r["units"], return_sequences=True),
        Dropout(r["dropout"], **same),
        GRU(r["units"], return_sequences=True),
        Dropout(r["dropout"], **same),
        Dense(len(ids), activation="softmax", tied_to="embedding"),
    ]
    parts = [text.stream(part, n) for part, n in zip(streams, rows, strict=True)]
    return layers, "sparse_categorical_crossentropy", [], parts, lambda loss, *_: np.exp(loss)


KINDS = {"jsb": music, "trec": sentences, "sst2": sentences, "ptb": words}


def write(path: Path, content: str) -> None:
    """Replace a file whole."""
    part = path.with_suffix(".part")
    part.write_text(content, encoding="utf-8")
    os.replace(part, path)


def run(name: str, folder: Path, resume: bool, minutes: float, seed: int, work: Path) -> None:
    """Train one recipe, or a part of it, and test what validation picked."""
    r = tomllib.loads(RECIPES[name].read_text(encoding="utf-8"))
    layers, loss, metrics, (train, valid, test), score = KINDS[name](folder, r)
    model = Sequential(layers, seed=seed)
    model.compile(loss, Adam(r["learning_rate"], global_clipnorm=1.0), metrics)
    unfinished = work / f"{name}-{seed}.safetensors"
    target = HERE / "results" / f"text-{name}.json"
    resume = resume and unfinished.exists()
    before = json.loads(target.read_text(encoding="utf-8"))["seconds"] if resume else 0.0
    result = {
        "recipe": r, "seed": seed, "threads": os.environ.get("GRU_NP_NUM_THREADS", "all"),
        "processor": machine.model_name(), "commit": machine.commit(),
    }  # fmt: skip
    clock = time.perf_counter()

    def after(epoch: int, logs: dict) -> None:
        spent = time.perf_counter() - clock
        result["seconds"], result["epochs"] = before + spent, epoch + 1
        result["curve"] = model.history.history
        write(target, json.dumps(result, indent=1) + "\n")
        if spent > 60 * minutes:
            model.stop_training = True

    best = EarlyStopping(patience=r["patience"], restore_best_weights=True)
    watchers = [ReduceLROnPlateau(factor=0.5, patience=max(1, r["patience"] // 3)), best]
    watchers += [LambdaCallback(on_epoch_end=after), ModelCheckpoint(unfinished)]
    window = r.get("window")
    model.fit(
        *train, batch_size=r["batch_size"], epochs=r["epochs"], validation_data=valid,
        callbacks=watchers, verbose=2, shuffle=window is None, tbptt=window,
        resume=unfinished if resume else None,
    )  # fmt: skip
    result["picked_epoch"], result["parameters"] = best.best_epoch + 1, model.count_params()
    for part, data in (("validation", valid), ("test", test)):
        logs = model.evaluate(*data, batch_size=r["batch_size"], tbptt=window, return_dict=True)
        result[part] = float(score(*logs.values()))
    write(target, json.dumps(result, indent=1) + "\n")
    print(f"{r['title']}: validation {result['validation']:.3f}, test {result['test']:.3f}")


def write_table() -> None:
    """Write benchmarks/results/text.md and its place in the README from the JSON files."""
    rows = [
        "| task | test | validation | published | epochs, seconds | seed |",
        "|---|---:|---:|---|---:|---:|",
    ]
    for name in RECIPES:
        path = HERE / "results" / f"text-{name}.json"
        found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if "test" in found:
            r = found["recipe"]
            rows.append(
                f"| {r['title']} | {found['test']:.2f} | {found['validation']:.2f} "
                f"| {r['published']} | {found['epochs']} of {r['epochs']}, {found['seconds']:.0f} "
                f"| {found['seed']} |"
            )
    table = "\n".join(rows) + "\n"
    heading = "# Text and music\n\nWritten by `python -m benchmarks.results_text --table`.\n\n"
    write(HERE / "results" / "text.md", heading + table)
    readme = HERE.parent / "README.md"
    before, rest = readme.read_text(encoding="utf-8").split("<!-- text:begin -->")
    behind = rest.split("<!-- text:end -->")[1]
    write(readme, f"{before}<!-- text:begin -->\n{table}<!-- text:end -->{behind}")


def main() -> None:
    """Run a recipe, or write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("recipe", nargs="?", choices=list(RECIPES))
    parser.add_argument("--data", type=Path, help="folder with lm, music and textcls")
    parser.add_argument("--resume", action="store_true", help="go on from the last whole epoch")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="end a part after")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", action="store_true", help="write the table from what is there")
    parser.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir()) / "gru_np-results-text",
        help="where unfinished models are kept",
    )  # fmt: skip
    args = parser.parse_args()
    if args.recipe:
        if args.data is None:
            parser.error("--data is needed with a recipe")
        args.work.mkdir(parents=True, exist_ok=True)
        run(args.recipe, args.data, args.resume, args.minutes, args.seed, args.work)
    if args.table:
        write_table()
    elif not args.recipe:
        parser.error("name a recipe, or --table")


if __name__ == "__main__":
    main()
