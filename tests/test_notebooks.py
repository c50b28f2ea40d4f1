"""Every notebook runs to its last cell; they are scripts in jupytext's percent form."""

import json
import re
import runpy
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("[0-9]*.py"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_says_its_answer_first_and_prints_what_was_committed(path, capsys):
    pytest.importorskip("matplotlib")
    runpy.run_path(str(path))
    cells = path.read_text(encoding="utf-8").split("# %%")
    assert "**Answer.**" in cells[1], "a notebook begins with one question and its answer"
    printed = capsys.readouterr().out
    committed = json.loads(path.with_suffix(".ipynb").read_text(encoding="utf-8"))["cells"]
    streams = [
        "".join(output["text"])
        for cell in committed
        for output in cell.get("outputs", [])
        if output["output_type"] == "stream"
    ]
    assert printed
    # Last digits differ between machines; words, and the source of ours that is shown, do not.
    assert without_numbers("".join(streams)) == without_numbers(printed), (
        f"run notebooks/build.py {path.stem}"
    )


def without_numbers(text):
    """The lines of a text, a sign for each number and one space for several."""
    text = re.sub(r"(?<![A-Za-z_])[-+]?\d[\d.,]*(e[-+]?\d+)?", "#", text)
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


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
