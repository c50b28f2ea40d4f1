"""Command line: python -m benchmarks [--quick]."""

import argparse
import json
import re
import sys
from pathlib import Path

from . import report
from .contestants import CONTESTANTS, missing
from .machine import cores, model_name
from .plan import SECTIONS, SHORT, full, quick
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
    add("--shapes", help="cases by label, separated by blanks: '32,100,64,256 1,1,64,64'")
    add("--threads", type=numbers, help="numbers of threads, default 1,2 (--quick: 1)")
    add("--contestants", type=chosen(list(CONTESTANTS)), help=",".join(CONTESTANTS))
    add("--repeats", type=int, help="repetitions of every timing, default 20 (--quick: 5)")
    add("--output", type=Path, help="the JSON file; tables and plots go beside it")
    add("--resume", action="store_true", help="keep what the JSON file has, measure what it lacks")
    add("--report", type=Path, metavar="JSON", help="write tables and plots of a finished run only")
    add("--no-readme", action="store_true", help="leave README.md alone")
    return out


def main(arguments: list[str] | None = None) -> int:
    """Run, or report on a finished run."""
    options = parser().parse_args(arguments)
    if options.report:
        results, path = json.loads(options.report.read_text()), options.report
        update_readme = not options.no_readme
    else:
        plan = quick() if options.quick else full()
        available = cores()
        plan.threads = [n for n in options.threads or plan.threads if n <= available]
        if not plan.threads:
            sys.stderr.write(f"threads: this process may use {available} cores\n")
            return 2
        plan.sections = options.only or plan.sections
        plan.contestants = options.contestants or plan.contestants
        plan.repeats = options.repeats or plan.repeats
        plan.shapes = options.shapes.split() if options.shapes else None
        known = {case.label for cases in plan.cases.values() for case in cases}
        unknown = sorted(set(plan.shapes or []) - known)
        if unknown:
            sys.stderr.write(
                f"shapes: {' '.join(unknown)}: choose from {' '.join(sorted(known))}\n"
            )
            return 2
        restricted = any(
            [options.only, options.shapes, options.contestants, options.threads, options.repeats]
        )
        # A partial run never overwrites a full one, nor the README, unless asked to complete it.
        slug = re.sub(r"[^a-z0-9]+", "-", model_name().lower()).strip("-")
        name = "quick" if options.quick else "partial" if restricted else slug
        path = options.output or RESULTS / f"{name}.json"
        update_readme = not (options.quick or restricted or options.no_readme)
        absent = [n for n in plan.contestants if missing(n)]
        sys.stderr.write(
            f"{model_name()}, {available} cores, threads {plan.threads}; "
            f"absent: {', '.join(absent) or 'nobody'}\n"
        )
        results = execute(plan, path, options.resume)
    readme = ROOT / "README.md" if update_readme else None
    sys.stdout.write(report.write(results, path, readme) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
