"""Every notebook runs to its last cell; they are scripts in jupytext's percent form."""

import json
import re
import runpy
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("[0-9]*.py"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_and_says_its_answer_first(path, capsys):
    pytest.importorskip("matplotlib")
    runpy.run_path(str(path))
    cells = path.read_text(encoding="utf-8").split("# %%")
    assert "**Answer.**" in cells[1], "a notebook begins with one question and its answer"
    assert capsys.readouterr().out


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_notebook_is_its_script_executed_and_names_no_machine(path):
    built = path.with_suffix(".ipynb")
    text = built.read_text(encoding="utf-8")
    cells = json.loads(text)["cells"]
    script = path.read_text(encoding="utf-8")
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            source = "\n".join(f"# {line}".rstrip() for line in source.split("\n"))
        assert source in script, f"run notebooks/build.py {path.stem}"
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(cells) == len(re.findall(r"^# %%", script, re.M))
    assert all(cell["execution_count"] for cell in code) and any(cell["outputs"] for cell in code)
    assert not re.search(r"/(home|tmp|root|Users|usr|opt)/|[A-Z]:\\\\", text)
    assert len(text) <= 300_000
