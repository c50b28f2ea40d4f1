"""Imports run one way only, `import gru_np` costs NumPy and no more, numba stays in kernels/."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import gru_np
from gru_np import GRU, Dense, Embedding, Sequential

PACKAGE = Path(gru_np.__file__).parent

# A module may import from its own line (without a circle) and from the lines above it.
ORDER = [
    [
        "_aliases",
        "_checks",
        "_console",
        "_files",
        "_intake",
        "_named",
        "_options",
        "_plotting",
        "_positions",
        "_replace",
        "_schema",
        "_together",
    ],
    ["text.tokenizer"],  # data, and no models: a model's file holds one
    ["text.vocabulary"],
    ["equations"],
    ["recurrence", "variants", "ctc", "kernels"],
    ["functions"],
    ["_logits", "initializers", "regularizers", "constraints", "layers", "likelihoods", "losses"],
    [
        "_beside",
        "schedules",
        "optimizers",
        "metrics",
        "callbacks",
        "data",
        "_safetensors",
        "checkpoint",
        "saving",
        "small_steps",
        "streaming",
        "health",
        "training",
    ],
    ["model"],
    ["_subjects", "gradcheck", "lessons", "gates", "decoding", "ctc_decoding"],
    ["text", "series", "speech", "interop"],
    ["cli"],
    ["__main__"],
]
LEVEL = {part: level for level, parts in enumerate(ORDER) for part in parts}
FORBIDDEN = {"pickle", "cPickle", "dill", "marshal", "shelve"}  # a model's file must never run code
COMPILED_CODE = "kernels._cache"  # reads what numba compiled, which is code to run by its nature


def modules():
    """Every module as (dotted name below gru_np, path); packages by their own name."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


MODULES = dict(modules())
NAMES = pytest.mark.parametrize("name", MODULES, ids=[name or "gru_np" for name in MODULES])


def imports(name):
    """Everything a module imports, anywhere in it: (dotted name, line, whether at module level)."""
    path = MODULES[name]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        top = node not in inside
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno, top
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = ["gru_np", *filter(None, name.split("."))]
                up = node.level - (path.name == "__init__.py")
                base = ".".join([*package[: len(package) - up], *filter(None, [base])])
            for alias in node.names:
                yield f"{base}.{alias.name}", node.lineno, top


def own_imports(name):
    """The modules of gru_np among them, each by its longest name that is a module."""
    for target, line, _ in imports(name):
        if target.split(".")[0] != "gru_np":
            continue
        parts = target.split(".")[1:]
        while parts and ".".join(parts) not in MODULES:
            parts.pop()
        yield ".".join(parts), line, target


def part(name):
    """The part of the package that a module belongs to: itself if ORDER has it, or its package."""
    return name if name in LEVEL else name.split(".")[0]


@NAMES
def test_every_module_has_its_place_in_the_order(name):
    assert not name or part(name) in LEVEL, f"say in ORDER where {name} belongs"


@NAMES
def test_imports_run_one_way_only(name):
    if not name:
        return  # gru_np/__init__.py gathers the public names; nothing may import it, see below
    for other, line, target in own_imports(name):
        where = f"{MODULES[name].relative_to(PACKAGE.parent)}:{line}"
        # Nothing imports the command line, so it may take the public names as a user would.
        assert other or part(name) == "cli" or target == "gru_np.__version__", (
            f"{where}: {target} comes from gru_np/__init__.py; import it from its own module"
        )
        if other:
            assert LEVEL[part(other)] <= LEVEL[part(name)], f"{where}: {target} stands above {name}"


def test_imports_go_in_no_circles():
    graph = {
        name: {other for other, _, _ in own_imports(name) if other} for name in MODULES if name
    }
    # A package's submodule runs the package's __init__ first, which is no circle of our making.
    graph = {
        n: {o for o in others if o != n and not n.startswith(f"{o}.")}
        for n, others in graph.items()
    }
    done, path = set(), []

    def visit(name):
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            path.append(name)
            for other in sorted(graph[name]):
                visit(other)
            done.add(path.pop())

    for name in graph:
        visit(name)


@NAMES
def test_numba_is_imported_in_kernels_alone(name):
    if part(name) != "kernels":
        found = [
            line
            for target, line, _ in imports(name)
            if target.split(".")[0] in ("numba", "llvmlite")
        ]
        assert not found, f"{name} imports numba in line {found[0]}"


@NAMES
def test_nothing_but_numpy_is_imported_at_module_level(name):
    if part(name) == "kernels" and name != "kernels":
        pytest.skip("kernels/ may import numba: its modules are themselves imported late")
    allowed = {"numpy", "gru_np", *sys.stdlib_module_names}
    for target, line, top in imports(name):
        assert not top or target.split(".")[0] in allowed, f"{name}, line {line}: {target}"


@NAMES
def test_nothing_that_unpickles_is_imported(name):
    forbidden = {target.split(".")[0] for target, _, _ in imports(name)} & FORBIDDEN
    assert forbidden == ({"pickle"} if name == COMPILED_CODE else set())


def in_a_fresh_python(code):
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=PACKAGE.parent,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_importing_gru_np_imports_numpy_and_nothing_else():
    loaded = in_a_fresh_python(
        "import sys, numpy.random; before = set(sys.modules); import gru_np; "
        "print(*{name.split('.')[0] for name in set(sys.modules) - before})"
    )
    assert set(loaded) - sys.stdlib_module_names <= {"gru_np", "numpy"}


def test_a_model_predicts_with_every_other_package_absent():
    # None in sys.modules makes an import fail as if the package were not installed.
    absent = ["numba", "llvmlite", "safetensors", "tqdm", "matplotlib", "scipy", "torch", "onnx"]
    loaded = in_a_fresh_python(
        f"import sys; sys.modules.update(dict.fromkeys({absent})); "
        "import numpy as np; from gru_np import GRU, Dense, Embedding, Sequential; "
        "model = Sequential([Embedding(5, 3), GRU(4), Dense(2)], seed=0); "
        "print(*model.predict(np.ones((2, 3), int)).shape)"
    )
    assert loaded == ["2", "2"]


def test_a_model_from_a_file_predicts_without_what_takes_long_to_import(tmp_path):
    model = Sequential([Embedding(5, 3), GRU(4), Dense(2)], seed=0)
    model.build((None, None))
    model.save(tmp_path / "model.safetensors")
    loaded = in_a_fresh_python(
        "import sys; import numpy as np; from gru_np import Sequential; "
        f"model = Sequential.load({str(tmp_path / 'model.safetensors')!r}); "
        "model.predict(np.ones((2, 3), int)); "
        "print(*{'numba', 'numpy.random', 'statistics', 'pathlib', 'csv'} & set(sys.modules))"
    )
    assert loaded == []
