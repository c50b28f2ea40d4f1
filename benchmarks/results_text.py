"""Text and music results beside published ones: one recipe, one command.

    python -m benchmarks.results_text --data FOLDER RECIPE [--resume] [--minutes 10]
    python -m benchmarks.results_text --data FOLDER RECIPE --control
    python -m benchmarks.results_text --table

RECIPE is the name of a file in benchmarks/recipes, which holds every setting. The epoch that was
best on validation is kept and, when training is over, tested once. `tried` in a recipe says among
how many settings validation chose these, `note` what else the reader of a score should know,
`limit` what keeps the speed from being twice PyTorch's. The state of the run and
benchmarks/results/text-RECIPE.json are replaced after each epoch; `--resume` goes on from the last
whole one, `--minutes` ends a part at the end of an epoch, `--stop` tests what a part has reached.

`--control` trains PyTorch's GRU beside ours for the first steps of the recipe: see text_control.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import machine, text_control
from benchmarks.report import replace
from benchmarks.text_tasks import RECIPES, prepare, recipe
from gru_np.callbacks import AverageWeights, EarlyStopping, LambdaCallback, ModelCheckpoint

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent.parent / "README.md"


def found(name: str) -> dict:
    """Read what is known of a recipe."""
    path = RESULTS / f"text-{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def keep(name: str, result: dict) -> None:
    """Write what is known of a recipe; what its control found stays."""
    control = found(name).get("control")
    result = result | ({"control": control} if control and "control" not in result else {})
    RESULTS.mkdir(exist_ok=True)
    replace(RESULTS / f"text-{name}.json", json.dumps(result, indent=1) + "\n")


def run(
    name: str, folder: Path, resume: bool, minutes: float, stop: bool, seed: int, work: Path
) -> None:
    """Train one recipe, or a part of it; when it is over, test what validation picked."""
    r, task, model = prepare(name, folder, seed)
    unfinished = work / f"{name}-{seed}.safetensors"
    resume = resume and unfinished.exists()
    before = found(name) if resume else {}
    seconds, processor = (before.get(key, 0.0) for key in ("seconds", "processor_seconds"))
    result = {
        "recipe": r, "seed": seed, "threads": os.environ.get("GRU_NP_NUM_THREADS", "all"),
        "processor": machine.model_name(), "commit": machine.commit(),
        "parameters": model.count_params(),
    }  # fmt: skip
    clock, processor_clock = time.perf_counter(), time.process_time()

    def after(epoch: int, logs: dict) -> None:
        spent = time.perf_counter() - clock
        result["seconds"] = seconds + spent
        result["processor_seconds"] = processor + time.process_time() - processor_clock
        result["epochs"], result["curve"] = epoch + 1, model.history.history
        keep(name, result)
        if spent > 60 * minutes:
            model.stop_training = True

    window = r.get("window")
    best = EarlyStopping(
        r.get("monitor", "val_loss"), patience=r["patience"], restore_best_weights=True
    )
    watchers = [best, LambdaCallback(on_epoch_end=after), ModelCheckpoint(unfinished)]
    if "average" in r:
        watchers.append(AverageWeights(r["average"]))
    model.fit(
        *task.train, batch_size=r["batch_size"], epochs=0 if stop else r["epochs"],
        validation_data=task.valid, callbacks=watchers, verbose=2,
        shuffle=r.get("shuffle", window is None), tbptt=window,
        resume=unfinished if resume else None,
    )  # fmt: skip
    result = before | result
    waited_enough = best.wait >= r["patience"]
    if not (stop or waited_enough or result["epochs"] >= r["epochs"]):
        print(f"{r['title']}: {result['epochs']} of {r['epochs']} epochs; go on with --resume")
        return
    result["picked_epoch"] = best.best_epoch + 1
    for part, data in (("validation", task.valid), ("test", task.test)):
        if data is not None:
            logs = model.evaluate(
                *data, batch_size=r["batch_size"], tbptt=window and 10 * window, return_dict=True
            )
            result[part] = task.score(logs)
            print(f"{r['title']}: {part} {result[part]:.5g}")
    keep(name, result)


def row(name: str) -> str | None:
    """Write the row of the table for one recipe, if there is a result."""
    result = found(name)
    if "validation" not in result:
        return None
    r, control = result["recipe"], result.get("control")
    speed = f"{control['ratio']:.1f} x" if control else "not run"
    score = f"{result['test']:.4g}" if "test" in result else "none"
    return (
        f"| {r['title']} | {score} | {result['validation']:.4g} | {r['published']} "
        f"| {result['epochs']} of {r['epochs']} | {result['processor_seconds'] / 60:.1f} "
        f"| {speed} |"
    )


def control_row(name: str) -> str | None:
    """Write the row of the second table for one recipe, if there is a control."""
    result = found(name)
    if "control" not in result:
        return None
    c = result["control"]
    return (
        f"| {result['recipe']['title']} | {c['steps']} | {c['ratio']:.2f} | "
        f"{c['apart_at_first']:.0e} | {c['apart']:.0e} |"
    )


def cut_short(name: str) -> str | None:
    """Say so if a run was stopped while its validation loss was still falling."""
    result = found(name)
    if "validation" not in result or result["picked_epoch"] < result["epochs"]:
        return None
    if result["epochs"] == result["recipe"]["epochs"]:
        return None
    return (
        f"{result['recipe']['title']}: stopped after {result['epochs']} of "
        f"{result['recipe']['epochs']} epochs, validation still falling."
    )


def write_table() -> None:
    """Write benchmarks/results/text.md and its place in the README from the JSON files."""

    def rows(write_row: Callable[[str], str | None]) -> list[str]:
        return [line for line in map(write_row, RECIPES) if line is not None]

    def said(key: str) -> list[str]:
        return rows(lambda name: recipe(name).get(key))

    table = "\n".join(
        [
            "| task | test | validation | published | epochs | minutes | torch's time |",
            "|---|---:|---:|---|---:|---:|---:|",
            *rows(row),
            *(line for short in rows(cut_short) for line in ("", short)),
        ]
    )
    several = {name: recipe(name).get("tried", 1) for name in RECIPES}
    tried = ", ".join(f"{n} of {name}" for name, n in several.items() if n > 1)
    page = [
        "# Text and music", "",
        "Written by `python -m benchmarks.results_text --table`. Minutes of one processor core, "
        "validation included. Where more than one setting was tried, the best on validation stands "
        f"here: {tried or 'nowhere'}. A run reads its test when it ends, so those of settings left "
        "behind were read too; the choice did not look at them.",
        *said("note"), "", table, "",
        "## PyTorch beside ours", "",
        "The same weights, batches, masks of dropout and optimiser, in turns, one thread: torch's "
        "time for one of ours (median over the turns), and how far the losses of a step are apart, "
        "relative, in the first turn and at most in all.", "",
        "| task | steps | torch's time | apart at first | apart at most |",
        "|---|---:|---:|---:|---:|", *rows(control_row), "", *said("limit"), "",
    ]  # fmt: skip
    replace(RESULTS / "text.md", "\n".join(page))
    before, rest = README.read_text(encoding="utf-8").split("<!-- text:begin -->")
    behind = rest.split("<!-- text:end -->")[1]
    replace(README, f"{before}<!-- text:begin -->\n{table}\n<!-- text:end -->{behind}")


def main() -> None:
    """Run a recipe, its control, or write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("recipe", nargs="?", choices=list(RECIPES))
    parser.add_argument("--data", type=Path, help="folder with lm, music and textcls")
    parser.add_argument("--resume", action="store_true", help="go on from the last whole epoch")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="end a part after")
    parser.add_argument("--stop", action="store_true", help="with --resume: test what there is")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--control", action="store_true", help="train torch's GRU beside ours")
    parser.add_argument("--table", action="store_true", help="write the table from what is there")
    parser.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir()) / "gru_np-results-text",
        help="where unfinished models are kept",
    )  # fmt: skip
    args = parser.parse_args()
    if args.recipe:
        if args.data is None:
            parser.error("--data is needed with a recipe")
        if args.stop and not args.resume:
            parser.error("--stop needs --resume")
        args.work.mkdir(parents=True, exist_ok=True)
        if args.control:
            control = text_control.compare(args.recipe, args.data, args.seed)
            keep(args.recipe, (found(args.recipe) or {"recipe": recipe(args.recipe)}) | control)
        else:
            run(args.recipe, args.data, args.resume, args.minutes, args.stop, args.seed, args.work)
    if args.table:
        write_table()
    elif not args.recipe:
        parser.error("name a recipe, or --table")


if __name__ == "__main__":
    main()
