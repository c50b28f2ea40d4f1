"""What the documentation shows, runs: examples in docstrings, Python blocks of the README."""

import doctest
import importlib
import importlib.util
import inspect
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest

import gru_np

ROOT = Path(__file__).parent.parent
OPTIONAL = ["torch", "keras", "onnx", "onnxruntime", "matplotlib", "h5py", "soundfile"]


def module_names():
    yield "gru_np"
    for module in pkgutil.walk_packages(gru_np.__path__, "gru_np."):
        needs_numba = module.name.startswith("gru_np.kernels.")
        not_to_import = module.name.endswith(("__main__", "_template"))
        if not_to_import or (needs_numba and not installed("numba")):
            continue
        yield module.name


def installed(package):
    return importlib.util.find_spec(package) is not None


def documented():
    """Every docstring with an example in it, as a doctest."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    for name in module_names():
        # An example must work as it is pasted, so it gets no names from its module.
        for test in finder.find(importlib.import_module(name), name, globs={}):
            if test.examples:
                yield test


def public():
    """The names `gru_np` offers, with what they stand for; modules are documented in themselves."""
    names = getattr(gru_np, "__all__", [n for n in vars(gru_np) if not n.startswith("_")])
    found = {name: getattr(gru_np, name) for name in names if name != "__version__"}
    return {name: thing for name, thing in found.items() if not inspect.ismodule(thing)}


def run_doctest(test, tmp_path, monkeypatch):
    for package in OPTIONAL:
        needed = any(re.search(rf"\b(import|from) {package}\b", e.source) for e in test.examples)
        if needed and not installed(package):
            pytest.skip(f"the example needs {package}, which is not installed")
    monkeypatch.chdir(tmp_path)  # examples may write files
    failures = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    with np.printoptions():  # an example's print settings are its own
        runner.run(test, out=failures.append)
    assert not failures, "".join(failures)


@pytest.mark.parametrize("test", list(documented()), ids=lambda test: test.name)
def test_examples_in_docstrings_run(test, tmp_path, monkeypatch):
    run_doctest(test, tmp_path, monkeypatch)


@pytest.mark.parametrize("name", sorted(public()))
def test_every_public_name_has_a_docstring_with_an_example(name):
    text = inspect.getdoc(public()[name]) or ""
    assert text, f"{name} has no docstring"
    assert ">>> " in text, f"the docstring of {name} has no example"


def python_blocks(markdown):
    """The ```python blocks of a text, each with the ```text block right after it, if any."""
    fence = re.compile(r"^```python\n(.*?)^```\n(?:\s*^```text\n(.*?)^```\n)?", re.M | re.S)
    return [match.groups() for match in fence.finditer(markdown)]


def test_python_blocks_of_the_readme_run_and_print_what_they_say(tmp_path, monkeypatch, capsys):
    readme = ROOT / "README.md"
    blocks = python_blocks(readme.read_text(encoding="utf-8")) if readme.exists() else []
    if not blocks:
        pytest.skip("README.md has no Python block")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "readme"}
    for number, (code, output) in enumerate(blocks, 1):
        if ">>> " in code:
            parser = doctest.DocTestParser()
            test = parser.get_doctest(code, names, f"README block {number}", str(readme), 0)
            run_doctest(test, tmp_path, monkeypatch)
            continue
        exec(compile(code, f"README.md, Python block {number}", "exec"), names)
        printed = capsys.readouterr().out
        if output is not None:
            assert printed.strip() == output.strip()
