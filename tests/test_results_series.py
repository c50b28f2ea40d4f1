"""The tables of the series results: what they say follows from the numbers, for better or worse."""

import pytest

from benchmarks import results_series, series_tables

NAIVE = {"persistence": 3.0, "drift": 3.5, "seasonal naive": 2.0}


def run_of(mae, warnings=()):
    scores = {m: {"MAE": e} for m, e in {"GRU": mae, **NAIVE}.items()}
    for found in scores.values():
        found |= {s: found["MAE"] for s in ("RMSE", "MASE", "CRPS")} | {"in 80 %": 0.8}
        found["in 90 %"] = 0.9
    log = {"losses": [2.0, 1.0], "first_steps": [2.5, 2.25], "epoch": 2, "seconds": 3.0}
    return log | {"scores": {"co2": scores}, "warnings": list(warnings)}


def results(ours=1.0, torch=1.0):
    """One forecast of three seeds, one set of windows without torch, one set of sequences."""
    log = {"losses": [2.0], "first_steps": [2.0], "epoch": 1, "seconds": 3.0, "validation": 0.5}
    classes = [log | {"accuracy": 0.98}]
    return {
        "co2": {
            "target": "co2", "season": 52, "gru_np": [run_of(ours)] * 3,
            "torch": [run_of(torch)] * 3,
        },
        "etth1": {
            "gru_np": log | {"MSE": 0.3, "MAE": 0.4}, "tried": {"a": log}, "chosen": "a",
            "naive": {name: {"MSE": e, "MAE": e} for name, e in NAIVE.items()},
        },
        "mnist": {"gru_np": classes, "model": "GRU(units=3)", "parameters": 1234},
        "mnist torch": {"torch": classes},
    }  # fmt: skip


def test_the_overview_has_a_line_for_each_task_and_nothing_where_nothing_was_measured():
    lines = series_tables.overview(results(1.25, 1.5))
    assert len(lines) == 2 + 3
    assert lines[2].startswith(
        "| ETTh1, 7 variables, 96 -> 96 | MSE | 0.3 | | 3 | 3.5 | 2 | SegRNN"
    )
    assert lines[3].endswith("| MAE, ppm | 1.25 | 1.5 | 3 | 3.5 | 2 | |")
    assert "| 98.00 % | 98.00 % |" in lines[4]


@pytest.mark.parametrize(
    ("ours", "torch", "expected"),
    [
        (1.01, 1.0, ["never more than 2 % worse in 2 tasks", "+1.00 %", "1 of 1 tasks, ours in 1"]),
        (1.03, 1.0, ["NOT always within 2 % worse", "+3.00 %"]),
        (2.5, 1.9, ["NOT always", "ours in 0 of these 1"]),
        (2.5, 2.6, ["beats the seasonal naive forecast in 0 of 1 tasks"]),
    ],
)
def test_the_verdict_says_what_was_reached_and_what_was_not(ours, torch, expected):
    text = " ".join(series_tables.verdicts(results(ours, torch)))
    for part in expected:
        assert part in text


def test_tables_are_written_beside_the_numbers_and_between_the_marks_of_the_readme(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- series:begin -->\nold\n<!-- series:end -->\nafter\n")
    series_tables.write_tables(results(), tmp_path, readme)
    page = readme.read_text()
    assert page.startswith("before\n<!-- series:begin -->") and page.endswith("-->\nafter\n")
    assert "old" not in page and "Mauna Loa" in page
    whole = (tmp_path / "series.md").read_text()
    assert "**a**" in whole and "0.0e+00" in whole and "1,234" in whole


def test_parts_are_kept_one_by_one_with_what_they_were_measured_on(tmp_path, monkeypatch):
    monkeypatch.setattr(results_series, "write_tables", lambda results, folder: None)
    for name, part in results().items():
        results_series.keep(tmp_path, name, part)
    kept = results_series.read_results(tmp_path)
    assert set(kept) == set(results())
    assert set(kept["co2"]["measured"]) == {"cpu", "gru_np", "commit"}
