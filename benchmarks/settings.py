"""Are the contestants' settings their best? Each against those that were tried, in turns.

    python -m benchmarks.settings            # every contestant with something else to try
    python -m benchmarks.settings --contestants jax,torch

Keeps results/settings.json and writes benchmarks/README.md between its markers: how many times as
long each other setting takes as the contestant's own (below 1 in bold: then take that one).
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from . import machine, problems, report
from .__main__ import RESULTS, chosen
from .contestants import CONTESTANTS, class_of, missing
from .plan import Plan
from .run import Progress, Results, Run
from .workers import ROOT

README = ROOT / "benchmarks" / "README.md"
MARKERS = ("<!-- settings:begin -->", "<!-- settings:end -->")
SHAPES = [problems.Shape(1, 1, 128, 256), problems.Shape(1, 100, 64, 128),
          problems.Shape(8, 50, 128, 128), problems.Shape(64, 35, 200, 200)]  # fmt: skip
CASES = {
    "forward": SHAPES,
    "training": SHAPES[1:],
    "language_model": [problems.LanguageModel(65, 64, 128, 1, 16, 32)],
    "generation": [problems.LanguageModel(65, 64, 256, 1, 1, 50)],
}


def measure(name: str, tried: list[str], repeats: int) -> dict[str, Any]:
    """Let one contestant play against itself: a table of ratios by setting, section and case."""
    names = [name, *(f"{name}:{one}" for one in tried)]
    plan = Plan(
        sections=list(CASES), threads=[1], contestants=names, cases=CASES, repeats=repeats,
        unroll_limit=60.0,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="gru_np-settings-") as folder:
        results = Results(Path(folder, "run.json"), resume=False)
        results.begin(machine.describe())
        Run(plan, results, Progress(), Path(folder)).everything()
    found: dict[str, Any] = {one: {} for one in tried}
    for section, threads in results.data["sections"].items():
        for label, record in threads.get("1", {}).items():
            rows = record["contestants"]
            for one in tried:
                row = rows.get(f"{name}:{one}", {})
                if "median" in row and "median" in rows.get(name, {}):
                    key = f"{section} ({label})"
                    found[one][key] = row["median"] / rows[name]["median"]
    return {"tried": found, "versions": results.data["versions"]}


def text(results: dict[str, Any]) -> str:
    """Write what every contestant plays with and what lost, with its ratios."""
    lines = [
        f"{results['machine']['cpu']}, one thread. A ratio says how many times as long a setting "
        "takes as the contestant's own (median of the cases, lowest to highest).", "",
    ]  # fmt: skip
    for name, found in results["contestants"].items():
        lines += [f"**{name}**: {found['settings']}.", ""]
        rows = []
        for one, ratios in found["tried"].items():
            values = list(ratios.values())
            if values:
                span = f"{report.times(min(values))} to {report.times(max(values))}"
                rows.append([one, report.times(float(np.median(values))), span])
            else:
                rows.append([one, report.NONE, "no figure yet"])
        if rows:
            lines += [report.table(["tried", "median", "lowest to highest"], rows), ""]
    return "\n".join(lines).rstrip()


def main() -> int:
    """Measure those that are installed; keep what is known of the others."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.settings", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--contestants", type=chosen(list(CONTESTANTS)), help="default: all")
    parser.add_argument("--repeats", type=int, default=10, help="turns of each (default 10)")
    args = parser.parse_args()
    path = RESULTS / "settings.json"
    results: dict[str, Any] = {"contestants": {}}
    if path.exists() and args.contestants:
        results = json.loads(path.read_text())
    results["machine"] = machine.describe()
    for name in args.contestants or list(CONTESTANTS):
        if missing(name):
            sys.stderr.write(f"{name}: {missing(name)} is not installed\n")
            continue
        cls = class_of(name)
        found = measure(name, list(cls.TRIED), args.repeats) if cls.TRIED else {"tried": {}}
        results["contestants"][name] = {"settings": cls.SETTINGS, **found}
        report.replace(path, json.dumps(results, indent=1) + "\n")
    page = README.read_text(encoding="utf-8")
    report.replace(README, report.insert(page, text(results), MARKERS))
    sys.stdout.write(text(results) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
