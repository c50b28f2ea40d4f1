"""Every notebook runs to its last cell; they are scripts in jupytext's percent form."""

import runpy
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("[0-9]*.py"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_and_says_its_answer_first(path, capsys):
    runpy.run_path(str(path))
    cells = path.read_text(encoding="utf-8").split("# %%")
    assert "**Answer.**" in cells[1], "a notebook begins with one question and its answer"
    assert capsys.readouterr().out
