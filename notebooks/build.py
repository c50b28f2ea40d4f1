"""Turn each notebook's script into an executed .ipynb beside it: python notebooks/build.py [NAME].

Needs the extra `notebooks`. Nothing of this machine or this run stays in the files: no paths, no
times, cell names that count from 0. Run from the root of a clone.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
LARGEST = 300_000  # bytes; a larger file has a picture too many


def build(path: Path) -> Path:
    """Execute one script as a notebook and write it."""
    import jupytext
    import nbformat
    from nbclient import NotebookClient

    notebook = jupytext.read(path)
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        coalesce_streams=True,
        resources={"metadata": {"path": HERE.parent}},
    )
    client.execute()
    for number, cell in enumerate(notebook.cells):
        cell["id"], cell["metadata"] = f"cell-{number}", {}
        for output in cell.get("outputs", []):
            output.get("metadata", {}).clear()
            # What a picture is besides: "<Figure size ...>".
            if "image/png" in output.get("data", {}):
                output["data"] = {"image/png": output["data"]["image/png"]}
    notebook["metadata"] = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    target = path.with_suffix(".ipynb")
    written = nbformat.writes(notebook)
    if len(written) > LARGEST:
        raise ValueError(f"{target.name}: {len(written):,} bytes are more than {LARGEST:,}")
    target.write_text(written + "\n", encoding="utf-8")
    return target


def main() -> None:
    """Build those named on the command line, or all."""
    names = sys.argv[1:]
    for path in sorted(HERE.glob("[0-9]*.py")):
        if not names or any(name in path.name for name in names):
            target = build(path)
            print(f"{target.name}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
