"""Tables in Markdown from the JSON of a run; the README's stand between two markers."""

import json
from pathlib import Path
from typing import Any

from . import goals
from .contestants import CONTESTANTS, OURS, entry_of
from .goals import threads_text
from .statistics import peak_share, ratio, seconds_by

BEGIN, END = "<!-- benchmark:begin -->", "<!-- benchmark:end -->"
TITLES = {
    "forward": "Forward: B, T, I, H",
    "training": "Forward + backward (input gradient included): B, T, I, H",
    "language_model": "Language-model training step: V, E, H, layers, B, T",
    "generation": "Generation, one character at a time: V, E, H, layers, B, T",
}
NONE = "-"
GOALS_NOTE = (
    "The medians count: they are what one gets on this machine as it is, its other users included. "
    "Beside them stand the same goals by everyone's fastest repetition, the nearest that a shared "
    "machine comes to a quiet one; shares of the peak are there of the run's best peak."
)
QUIET_CORES = 0.2  # other processes may keep this much busy


def time(seconds: float) -> str:
    """Three digits, in the unit that suits."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= 0.9995 * scale:
            value = seconds / scale
            digits = 0 if value >= 99.95 else 1 if value >= 9.995 else 2
            return f"{value:.{digits}f} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def times(value: float | None) -> str:
    """Write a ratio; one below 1 is a loss and in bold."""
    if value is None:
        return NONE
    text = f"{value:.2f}" if value < 9.995 else f"{value:.0f}" if value >= 99.5 else f"{value:.1f}"
    return f"{text} ×" if value >= 1 else f"**{text} ×**"


def percent(value: float | None) -> str:
    """Write a share."""
    return NONE if value is None else f"{100 * value:.0f} %"


def table(header: list[str], rows: list[list[str]]) -> str:
    """Write a Markdown table; the first column to the left, the others to the right."""
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def shown(label: str) -> str:
    """Put a blank after each comma of a label."""
    return label.replace(",", ", ")


# ------------------------------------------------------------------------------ the machine


def machine_text(results: dict[str, Any]) -> str:
    """Processor, peak, versions, date."""
    m = results["machine"]
    caches = ", ".join(f"{k} {v >> 10} KiB" for k, v in m["caches"].items())
    lines = [
        f"{m['cpu']}, {m['cores']} cores ({caches}; {', '.join(m['features'])}), {m['system']}."
    ]
    for n, peak in results["peak"].items():
        lines.append(
            f"Measured with {threads_text(n)}: {peak['GHz']:.2f} GHz, "
            f"{peak['GFLOP/s']:.0f} GFLOP/s of float32 fused multiply-adds "
            f"({percent(peak['GFLOP/s'] / peak['theory GFLOP/s'])} of two units of "
            f"{peak['lanes']:.0f} lanes), reads {peak['L2 read GB/s']:.0f} GB/s from L2 and "
            f"{peak['L3 read GB/s']:.0f} GB/s from L3, triad {peak['triad GB/s']:.0f} GB/s."
        )
    versions = ", ".join(f"{k} {v}" for k, v in sorted(results["versions"].items()))
    commit = f" ({m['commit']})" if m["commit"] else ""
    lines.append(f"gru_np {m['gru_np']}{commit}, Python {m['python']}, {versions}.")
    absent = "; ".join(f"{k}: {v}" for k, v in results["absent"].items())
    if absent:
        lines.append(f"Absent: {absent}.")
    left_out = "; ".join(f"{k}: {v}" for k, v in results.get("left out", {}).items())
    if left_out:
        lines.append(f"Left out: {left_out}.")
    records = [r for s in TITLES for _, _, r in goals.cases(results, s)]
    busiest = max((r["others_cores"] for r in records), default=0.0)
    idle = max((r["idle_seconds"] for r in records), default=0.0)
    lines.append(
        f"Run {results['started']} to {results['finished']}; other processes kept at most "
        f"{busiest:.2f} cores busy during any case; waiting contestants used {idle:.2f} s."
    )
    if busiest > QUIET_CORES:
        lines.append(
            "**The machine was not quiet**: thread pools that wait by spinning collapse then, and "
            "no number here should be quoted."
        )
    return "\n".join(lines)


# ------------------------------------------------------------------------------ short tables


def _ours(record: dict[str, Any]) -> str:
    """Name who stands for us: the compiled one, or NumPy where numba is missing."""
    rows = seconds_by("median", record["contestants"])
    return OURS if OURS in rows else next((n for n in rows if entry_of(n).ours), "")


def _against_best(record: dict[str, Any]) -> str:
    best, ours = record["best_rival"], _ours(record)
    if not best or not ours:
        return NONE
    return f"{times(ratio('median', record['contestants'], best, ours))} {best}"


def short_layer_table(results: dict[str, Any], n: str) -> str:
    """One row a shape: forward, and forward + backward."""
    sections = results["sections"]
    forward = sections.get("forward", {}).get(n, {})
    training = sections.get("training", {}).get(n, {})
    rows = []
    for label in dict.fromkeys([*forward, *training]):
        row = [shown(label)]
        for record in (forward.get(label), training.get(label)):
            ours = record and _ours(record)
            if not record or not ours:
                row += [NONE] * 4
                continue
            mine = record["contestants"][ours]
            row += [
                time(mine["median"]),
                percent(peak_share(mine)),
                _against_best(record),
                times(ratio("median", record["contestants"], "torch", ours)),
            ]
        rows.append(row)
    columns = ["of peak", "best rival", "torch"]
    return table(["B, T, I, H", "forward", *columns, "forward + backward", *columns], rows)


def short_model_table(results: dict[str, Any], n: str) -> str:
    """One row a language model, then generation."""
    rows = []
    for section, unit in (("language_model", "tokens/s"), ("generation", "characters/s")):
        for label, record in results["sections"].get(section, {}).get(n, {}).items():
            ours = _ours(record)
            if not ours:
                continue
            seconds, case = record["contestants"][ours]["median"], record["case"]
            tokens = case["B"] * case["T"]
            what = "step" if section == "language_model" else "generate"
            each = seconds if section == "language_model" else seconds / tokens
            rows.append(
                [
                    f"{what} ({shown(label)})",
                    time(each),
                    f"{tokens / seconds:,.0f} {unit}",
                    _against_best(record),
                    times(ratio("median", record["contestants"], "torch", ours)),
                ]
            )
    head = ["V, E, H, layers, B, T", "step or character", "rate", "best rival", "torch"]
    return table(head, rows) if rows else ""


def fresh_table(results: dict[str, Any]) -> str:
    """Cold start, memory and size, whoever has them."""
    parts = []
    cold = results["sections"].get("cold", {}).get("-", {})
    if "predict" in cold:
        rows = cold["predict"]["contestants"].items()
        cells = [[name, time(row["median"])] for name, row in rows if "median" in row]
        cells += [[name, problem(row)] for name, row in rows if "median" not in row]
        title = "fresh process: import, load a model file, predict once"
        parts.append(table([title, "median"], cells))
    for label, record in results["sections"].get("memory", {}).get("-", {}).items():
        section, _, case = label.partition(" ")
        what = "forward + backward" if section == "training" else "language-model step"
        cells = [
            [name, f"{row['bytes'] / 1e6:,.0f} MB", f"{row['imported'] / 1e6:,.0f} MB"]
            for name, row in record["contestants"].items()
            if "bytes" in row
        ]
        head = [f"{what} ({shown(case)}), one thread", "peak memory", "of it after import"]
        parts.append(table(head, cells))
    for record in results["sections"].get("size", {}).get("-", {}).values():
        cells = [
            [name, f"{row['bytes'] / 1e6:,.0f} MB", str(row["distributions"])]
            for name, row in record["contestants"].items()
        ]
        parts.append(table(["install with all it requires", "size", "distributions"], cells))
    return "\n\n".join(parts)


# ------------------------------------------------------------------------------- full tables


def problem(row: dict[str, Any]) -> str:
    """Why a row has no time."""
    if row.get("agrees") is False:
        return f"disagrees: {row['array']} {row['error']:.1e} (allowed {row['tolerance']:.0e})"
    for key in ("unsupported", "failed", "disagrees"):
        if key in row:
            return f"{key}: {row[key]}"
    return NONE


def shares(row: dict[str, Any]) -> str:
    """Of the peak in turn and, after a stroke, of the run's best; whichever there is."""
    both = [row.get("peak share in turn"), row.get("peak share")]
    return " / ".join(percent(share) for share in both if share)


def peak_in_turn(record: dict[str, Any], best: float | None) -> str:
    """Write the peak's median and quartiles during a case, and its share of the run's best."""
    found = record.get("peak in turn")
    if not found:
        return NONE
    share = f", {percent(found['median'] / best)}" if best else ""
    return f"{found['median']:.0f} GFLOP/s ({found['q1']:.0f} to {found['q3']:.0f}{share})"


def full_table(results: dict[str, Any], section: str, n: str) -> str:
    """Everyone's median with quartiles; below it who has none, and why."""
    found = results["sections"][section][n]
    timed = {name for r in found.values() for name in seconds_by("median", r["contestants"])}
    names = [name for name in CONTESTANTS if name in timed]
    apart = {n for r in found.values() for n, one in r["contestants"].items()
             if one.get("own precision")}  # fmt: skip
    turns = ["peak in turn"] if any("peak in turn" in r for r in found.values()) else []
    best = results["peak"].get(n, {}).get("GFLOP/s")
    rows, reasons = [], []
    for label, record in found.items():
        row = [shown(label)]
        for name in names:
            one = record["contestants"].get(name, {})
            if "median" in one:
                share = f", {shares(one)}" if shares(one) else ""
                late = f", p99 {time(one['p99'])}" if "p99" in one else ""
                text = (
                    f"{time(one['median'])} ({time(one['q1'])} to {time(one['q3'])}{late}{share})"
                )
                row.append(f"**{text}**" if name == record["best_rival"] else text)
            else:
                row.append(NONE)
        row += [peak_in_turn(record, best)] if turns else []
        rows.append([*row, _against_best(record)])
        for name, one in record["contestants"].items():
            if "median" not in one and "unsupported" not in one:
                reasons.append(f"- {name} ({shown(label)}): {problem(one)}")
    for name in names:
        by_way: dict[str, list[str]] = {}
        for label, record in found.items():
            way = record["contestants"].get(name, {}).get("way")
            if way:
                by_way.setdefault(way, []).append(shown(label))
        reasons += [f"- {name}, {way}: ({'), ('.join(at)})" for way, at in by_way.items()]
    errors = [
        f"{name} {worst:.1e}"
        for name in names
        if (worst := max(r["contestants"].get(name, {}).get("error", 0.0) for r in found.values()))
    ]
    heads = [f"{name}, not float32" if name in apart else name for name in names]
    lines = [table([TITLES[section].partition(": ")[2], *heads, *turns, "ratio"], rows), ""]
    lines += [*reasons, ""] if reasons else []
    return "\n".join([*lines, f"Largest error against float64: {', '.join(errors)}."])


def judgement(goal: goals.Judged | None) -> list[str]:
    """Reached or missed, with the worst number."""
    if goal is None:
        return [NONE, NONE]
    worst, missed = goal.worst, len(goal.missed)
    note = f" ({worst.note})" if worst.note else ""
    return [
        f"**missed {missed} of {goal.of}**" if missed else "reached",
        f"{worst.value:.2f} of {worst.bound:.2f}{note}: {worst.where}",
    ]


def goals_table(results: dict[str, Any]) -> str:
    """Every goal by the medians, and by the fastest repetitions."""
    medians, fastest = (goals.judged(results, by) for by in ("median", "fastest"))
    rows = [
        [text, *judgement(goal), *judgement(fastest.get(text))] for text, goal in medians.items()
    ]
    head = ["goal", "by medians", "nearest or worst", "by the fastest", "nearest or worst"]
    return table(head, rows) if rows else ""


def has_turns(results: dict[str, Any]) -> bool:
    """Whether the peak took turns in any case; runs of before have only the best of the run."""
    return any(
        "peak in turn" in r for s in ("forward", "training") for *_, r in goals.cases(results, s)
    )


def readme_text(results: dict[str, Any]) -> str:
    """Write what stands in the README."""
    counts = dict.fromkeys(n for s in TITLES for n in results["sections"].get(s, {}))
    parts = [
        "Medians; `best rival` and `torch` say how many times as long they take (bold: we lose). "
        "`of peak` is the share of the measured fused-multiply-add peak"
        + (", measured in turn, in the same rounds." if has_turns(results) else ".")
    ]
    for n in counts:
        layers, models = short_layer_table(results, n), short_model_table(results, n)
        parts += [f"**{threads_text(n).capitalize()}**", layers, models]
    parts += [fresh_table(results), machine_text(results)]
    return "\n\n".join(part for part in parts if part)


def full_text(results: dict[str, Any], plots: list[str]) -> str:
    """Write what stands beside the JSON."""
    parts = ["# Benchmark", machine_text(results)]
    text = goals_table(results)
    parts += ["## Goals", text, GOALS_NOTE] if text else []
    parts += [f"![{name}]({name})" for name in plots]
    for section, title in TITLES.items():
        for n in results["sections"].get(section, {}):
            heading = f"## {title.partition(':')[0]}, {threads_text(n)}"
            parts += [heading, full_table(results, section, n)]
    fresh = fresh_table(results)
    parts += ["## Fresh processes, memory, size", fresh] if fresh else []
    share = "share of the measured peak"
    if has_turns(results):
        share = "share of the peak in turn / of the run's best peak"
    note = (
        f"Median (first to third quartile, 99th percentile, {share}) of the repetitions; the 99th "
        "percentile is of single calls, up to 100 in a repetition; "
        "bold: the best rival; ratio: its median over ours."
    )
    if has_turns(results):
        note += (
            " Peak in turn: the rate of the fused multiply-adds in the rounds of the case, median "
            "(first to third quartile, share of the run's best)."
        )
    return "\n\n".join([*parts, note]) + "\n"


def insert(page: str, text: str, markers: tuple[str, str] = (BEGIN, END)) -> str:
    """Replace what stands between the markers of a page; a page without them stays as it is."""
    before, begin, rest = page.partition(markers[0])
    _, end, after = rest.partition(markers[1])
    if not begin or not end:
        return page
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"


def replace(path: Path, content: str) -> None:
    """Replace a file whole: a reader, or an interrupt, meets the old or the new."""
    part = path.with_suffix(".part")
    part.write_text(content, encoding="utf-8")
    part.replace(path)


def compare(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Write the medians of two runs side by side, and how many times as long the first took."""
    machines = [results["machine"] for results in (before, after)]
    same = machines[0]["cpu"] == machines[1]["cpu"]
    lines = [
        f"{one['cpu']}, gru_np {one['gru_np']}" + (f" ({one['commit']})" if one["commit"] else "")
        for one in machines
    ]
    note = "the same machine" if same else "**two machines: ratios between them say little**"
    parts = [f"A: {lines[0]}\nB: {lines[1]}\n{note[0].upper()}{note[1:]}."]
    for section, title in TITLES.items():
        for n, found in after["sections"].get(section, {}).items():
            old = before["sections"].get(section, {}).get(n, {})
            rows = [
                [f"{shown(label)}: {name}", time(was["median"]), time(now["median"]),
                 times(was["median"] / now["median"])]
                for label, record in found.items() if label in old
                for name, now in record["contestants"].items()
                if "median" in now
                and "median" in (was := old[label]["contestants"].get(name, {}))
            ]  # fmt: skip
            if rows:
                name, _, sizes = title.partition(": ")
                parts += [f"**{name}, {threads_text(n)}**", table([sizes, "A", "B", "A / B"], rows)]
    return "\n\n".join(parts if len(parts) > 1 else [*parts, "The two have no case in common."])


def read(path: Path) -> dict[str, Any]:
    """Read a run's JSON, or raise ValueError with a sentence."""
    try:
        results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        records = [record for section in TITLES for *_, record in goals.cases(results, section)]
        names = {name for record in records for name in record["contestants"]}
        results["machine"]["cpu"]  # the name of a machine makes it a run of ours
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: expected the JSON of a run of this benchmark") from error
    unknown = sorted(name for name in names if name.partition(":")[0] not in CONTESTANTS)
    if unknown:
        raise ValueError(
            f"{path}: has contestants that are not in this version, {', '.join(unknown)}; report "
            "it with the version that made it"
        )
    return results


def write(results: dict[str, Any], path: Path, readme: Path | None) -> str:
    """Tables and plots beside the JSON, and the README's; returns what was written, in words."""
    from . import plots

    figures = plots.write(results, path)
    page = path.with_suffix(".md")
    page.write_text(full_text(results, [figure.name for figure in figures]))
    written = [str(page), *map(str, figures)]
    if readme and readme.exists() and BEGIN in readme.read_text():
        readme.write_text(insert(readme.read_text(), readme_text(results)))
        written.append(str(readme))
    return f"{goals_table(results)}\n\nwritten: {', '.join([str(path), *written])}"
