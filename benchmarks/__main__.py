"""Command line: python -m benchmarks [--quick]."""

import argparse
import re
import sys
from pathlib import Path

from . import report
from .contestants import CONTESTANTS, missing
from .machine import cores, model_name
from .plan import SECTIONS, SHORT, Plan, full, quick
from .run import execute
from .workers import ROOT

RESULTS = ROOT / "benchmarks" / "results"


def numbers(text: str) -> list[int]:
    """Comma-separated numbers of threads."""
    found = list(dict.fromkeys(int(part) for part in text.split(",")))
    if min(found) < 1:
        raise argparse.ArgumentTypeError(f"threads: expected numbers from 1, got {text}")
    return found


def chosen(allowed: list[str], aliases: dict[str, str] | None = None):
    """Make the parser of a comma-separated choice among `allowed`."""

    def parse(text: str) -> list[str]:
        names = [(aliases or {}).get(name, name) for name in text.split(",")]
        for name in names:
            if name not in allowed:
                raise argparse.ArgumentTypeError(f"{name!r}: choose from {', '.join(allowed)}")
        return names

    return parse


def parser() -> argparse.ArgumentParser:
    """Define the options."""
    out = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    add = out.add_argument
    add("--quick", action="store_true", help="a few small cases, in under two minutes")
    add(
        "--only", type=chosen(SECTIONS, SHORT), help=f"sections: {','.join(SECTIONS)} (lm is short)"
    )
    add(
        "--shapes",
        help="cases by their sizes, B,T,I,H or V,E,H,layers,B,T, separated by blanks: "
        "'32,100,64,256 1,1,64,64'",
    )
    add("--threads", type=numbers, help="numbers of threads, default 1,2 (--quick: 1)")
    add("--contestants", type=chosen(list(CONTESTANTS)), help=",".join(CONTESTANTS))
    add("--repeats", type=int, help="repetitions of every timing, default 20 (--quick: 5)")
    add("--output", type=Path, help="the JSON file; tables and plots go beside it")
    add("--resume", action="store_true", help="keep what the JSON file has, measure what it lacks")
    add("--report", type=Path, metavar="JSON", help="write tables and plots of a finished run only")
    add(
        "--compare",
        type=Path,
        nargs=2,
        metavar=("A", "B"),
        help="set two finished runs side by side",
    )
    add("--no-readme", action="store_true", help="leave README.md alone")
    return out


def roll_call(plan: Plan) -> str:
    """Say who is not installed, and who was left out and why."""
    absent = [name for name in plan.contestants if missing(name)]
    left_out = [
        f"{name} ({plan.left_out(name)})" for name in CONTESTANTS if name not in plan.contestants
    ]
    return (
        f"not installed: {', '.join(absent) or 'nobody'}; "
        f"left out: {', '.join(left_out) or 'nobody'}"
    )


def main(arguments: list[str] | None = None) -> int:
    """Run, or report on a finished run."""
    options = parser().parse_args(arguments)
    try:
        if options.compare:
            before, after = map(report.read, options.compare)
            sys.stdout.write(report.compare(before, after) + "\n")
            return 0
        if options.report:
            results, path = report.read(options.report), options.report
            update_readme = not options.no_readme
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if not options.report:
        plan = quick() if options.quick else full()
        available = cores()
        plan.threads = [n for n in options.threads or plan.threads if n <= available]
        if not plan.threads:
            sys.stderr.write(f"threads: this process may use {available} cores\n")
            return 2
        plan.sections = options.only or plan.sections
        plan.contestants = options.contestants or plan.contestants
        plan.repeats = options.repeats or plan.repeats
        try:
            if options.shapes:
                plan.take_shapes(options.shapes.split())
        except ValueError as error:
            sys.stderr.write(f"shapes: {error}\n")
            return 2
        restricted = any(
            [options.only, options.shapes, options.contestants, options.threads, options.repeats]
        )
        # A partial run never overwrites a full one, nor the README, unless asked to complete it.
        slug = re.sub(r"[^a-z0-9]+", "-", model_name().lower()).strip("-")
        name = "quick" if options.quick else "partial" if restricted else slug
        path = options.output or RESULTS / f"{name}.json"
        update_readme = not (options.quick or restricted or options.no_readme)
        sys.stderr.write(f"{model_name()}, {available} cores, threads {plan.threads}; ")
        sys.stderr.write(f"{roll_call(plan)}\n")
        results = execute(plan, path, options.resume)
    readme = ROOT / "README.md" if update_readme else None
    sys.stdout.write(report.write(results, path, readme) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
