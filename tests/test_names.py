"""Every equation that the documentation or a notebook shows is what the code computes.

Blocks of equations are read out of the text, made Python by a few rules of spelling, and evaluated
beside the library. A displayed formula of a notebook that is no such block must be listed here with
the test that ties it to the code.
"""

import importlib
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_close

from gru_np import equations, gradcheck, recurrence

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.py"))
I, H = 2, 4  # noqa: E741
GATES = "r", "z", "n"


def to_python(line):
    """Spell one equation "left = right" as Python."""
    for old, new in {
        "\\odot": "*", "⊙": "*", "\\sigma": "sigma", "σ": "sigma", "\\tanh": "phi", "φ": "phi",
        "\\mathrm{d}": "d", "\\,": " ", "^2": "**2", "h'": "h_next", "ᵀ": ".T", "^\\top": ".T",
    }.items():  # fmt: skip
        line = line.replace(old, new)
    line = re.sub(r"_\{(\w+)\}", r"_\1", line)  # a_{ir}
    return re.sub(r"\b(W_\w+(?:\.T)?) +(?=[(a-z])", r"\1 @ ", line)  # a matrix beside a vector


def evaluate(lines, names):
    """Run equations one after another; give all names."""
    names = dict(names, sigma=equations.sigmoid, phi=equations.tanh)
    for line in lines:
        left, right = to_python(line).split("=", 1)
        names[left.strip()] = eval(right.strip(), {"__builtins__": {}}, names)
    return names


def indented_blocks(text):
    """The blocks of lines with four spaces in front."""
    return [
        [line.strip() for line in block.splitlines()]
        for block in re.findall(r"(?:^ {4}\S.*\n)+", text, re.M)
    ]


def named_block(name):
    text = (ROOT / "docs" / "names.md").read_text(encoding="utf-8")
    return indented_blocks(text.split(f"<!-- equations: {name} -->")[1])[0]


@pytest.fixture
def step(rng):
    """One step of one row: every vector and matrix of the equations, by name."""
    names = {"x": rng.standard_normal(I), "h": rng.standard_normal(H)}
    for g in GATES:
        names[f"W_i{g}"] = rng.standard_normal((H, I))
        names[f"W_h{g}"] = rng.standard_normal((H, H))
        names[f"b_i{g}"], names[f"b_h{g}"] = rng.standard_normal((2, H))
    return names


def run(step, reset_after):
    """The library's step from these vectors, by `gru_forward`, and what its gradient needs."""
    stacked = {
        f"{kind}_{side}h": np.concatenate([step[f"{kind}_{side}{g}"] for g in GATES])
        for kind in "Wb"
        for side in "ih"
    }
    h, saved = recurrence.gru_forward(
        step["x"][None, None], step["h"][None], stacked["W_ih"], stacked["W_hh"],
        stacked["b_ih"], stacked["b_hh"], reset_after=reset_after,
    )  # fmt: skip
    return h, saved


@pytest.mark.parametrize("name", ["after", "before"])
def test_the_step_of_the_names_page_is_the_step_of_the_library(name, step):
    found = evaluate(named_block(name), step)
    h, saved = run(step, reset_after=name == "after")
    for symbol in ("r", "z", "n", "a_hn"):
        assert_close(found[symbol], getattr(saved, symbol)[0, 0], "naive")
    assert_close(found["h_next"], h[1, 0], "naive")


@pytest.mark.parametrize("form", [0, 1], ids=["after", "before"])
def test_the_step_of_the_readme_is_the_step_of_the_library(form, step):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split("\n## The equations\n")[1].split("\n## ")[0]
    found = evaluate(indented_blocks(section)[form], step)
    assert_close(found["h_next"], run(step, reset_after=form == 0)[0][1, 0], "naive")


def test_the_head_of_equations_py_is_the_step_of_the_library(step):
    block = next(b for b in indented_blocks(equations.__doc__ + "\n") if "product" in b[0])
    for column, reset_after in ((0, True), (1, False)):
        lines = [re.split(r" {3,}", line)[column] for line in block[1:]]
        h, saved = run(step, reset_after)
        a = {f"a_i{g}": step[f"W_i{g}"] @ step["x"] + step[f"b_i{g}"] for g in GATES}
        a |= {f"a_h{g}": step[f"W_h{g}"] @ step["h"] + step[f"b_h{g}"] for g in GATES}
        found = evaluate(lines, step | a | {"a_hn": saved.a_hn[0, 0]})
        assert_close(found["h_next"], h[1, 0], "naive")


def test_the_backward_of_the_names_page_is_the_backward_of_the_library(step, rng):
    forward = evaluate(named_block("after"), step)
    cotangent = rng.standard_normal(H)
    found = evaluate(named_block("backward"), forward | {"dh_next": cotangent})
    h, saved = run(step, reset_after=True)
    dh = np.zeros_like(h)
    dh[1, 0] = cotangent
    dh_total, da_ih, da_hh = recurrence.through_time(dh, saved)
    assert_close(found["dh"], dh_total[0, 0], "naive")
    expected = np.concatenate([found[f"da_{g}"] for g in ("r", "z", "in")])
    assert_close(expected, da_ih[0, 0], "naive")
    assert_close(found["da_hn"], da_hh[0, 0, 2 * H :], "naive")


def test_the_two_meanings_of_z_are_one_after_a_change_of_sign(step):
    old, new = (line.split(": ", 1)[1] for line in named_block("two meanings"))
    kept = evaluate([*named_block("after")[:-1], old], step)
    negated = step | {n: -step[n] for n in ("W_iz", "W_hz", "b_iz", "b_hz")}
    taken = evaluate([*named_block("after")[:-1], new], negated)
    assert_close(taken["h_next"], kept["h_next"], "naive")


def test_every_place_that_the_names_page_points_to_exists():
    page = ROOT / "docs" / "names.md"
    text = page.read_text(encoding="utf-8")
    for target in set(re.findall(r"\]\(([^)#]+)\)", text)):
        assert (page.parent / target).exists(), target
    for row in re.findall(r"^\| [^|]+ \| (\[`[^|]+) \|$", text, re.M):
        for file, functions in re.findall(r"\(\.\./gru_np/([\w/]+)\.py\)(?::([^\[]*))?", row):
            module = importlib.import_module("gru_np." + file.replace("/", "."))
            for name in re.findall(r"`([\w.]+)`", functions):
                thing = module
                for part in name.split("."):
                    thing = getattr(thing, part)


# ------------------------------------------------------------------------------------- notebooks


def displayed(path):
    """The displayed formulas of a notebook: what stands between two lines of $$."""
    cells = path.read_text(encoding="utf-8").split("\n# %%")
    prose = "\n".join(cell for cell in cells if cell.startswith(" [markdown]"))
    prose = re.sub(r"^# ?", "", prose, flags=re.M)
    return [" ".join(block.split()) for block in re.findall(r"\$\$(.*?)\$\$", prose, re.S)]


def formulas():
    for path in NOTEBOOKS:
        for k, formula in enumerate(displayed(path)):
            yield pytest.param(path.stem[:2], formula, id=f"{path.stem[:2]}-{k}")


def split(formula):
    """The equations of a displayed formula, one by one."""
    formula = re.sub(r"\\(begin|end)\{aligned\}|&|\\text\{\w+:\}\s*\\quad", "", formula)
    parts = re.split(r"\\\\|\\qquad", formula)
    return [part.strip(" .,") for part in parts if "=" in part]


def over_time(rng):
    """A backward pass over several steps, and what it was given."""
    T, B = 3, 2
    arrays = [rng.standard_normal(s) for s in [(T, B, I), (B, H), (3 * H, I), (3 * H, H)]]
    h, saved = recurrence.gru_forward(*arrays, *rng.standard_normal((2, 3 * H)))
    dh = rng.standard_normal(h.shape)
    return dh, saved, recurrence.through_time(dh, saved)


def tie_dh_over_time(rng):
    dh, saved, (total, _, da_hh) = over_time(rng)
    for t in range(3):
        expected = dh[t] + total[t + 1] * saved.z[t] + da_hh[t] @ saved.W_hh
        assert_close(total[t], expected, "rounding")


def tie_weight_gradients(rng):
    _, saved, signals = over_time(rng)
    _, da_ih, da_hh = signals
    _, _, dW_ih, dW_hh, db_ih, db_hh = recurrence.weight_gradients(*signals, saved)
    assert_close(dW_ih, sum(da_ih[t].T @ saved.x[t] for t in range(3)), "rounding")
    assert_close(dW_hh, sum(da_hh[t].T @ saved.h[t] for t in range(3)), "rounding")
    assert_close(db_ih, da_ih.sum(axis=(0, 1)), "rounding")
    assert_close(db_hh, da_hh.sum(axis=(0, 1)), "rounding")


def tie_flow(rng):
    from gru_np import GRU, Sequential, gates

    read = gates.trace(
        Sequential([GRU(H)], dtype="float64", seed=0), rng.standard_normal((3, 5, I))
    )[0]
    norms = [[np.linalg.norm(J) ** 2 for J in gates.jacobians(read, row)[::-1]] for row in range(3)]
    assert_close(gates.gradient_flow(read), np.sqrt(np.mean(norms, axis=0) / H), "rounding")


def tie_derivatives(rng):
    p, d, h = rng.standard_normal(3), rng.standard_normal(3), 1e-4

    def f(p):
        return np.sin(p).sum()

    expected = {
        "forward": (f(p + h * d) - f(p)) / h,
        "central": (f(p + h * d) - f(p - h * d)) / (2 * h),
        "complex": np.imag(f(p + 1j * h * d)) / h,
    }
    for method, value in expected.items():
        assert_close(gradcheck.directional_derivative(f, p, d, method, h), value, "rounding")


def tie_remainder(rng):
    p, d, slope = rng.standard_normal(3), rng.standard_normal(3), 0.7
    found = gradcheck.taylor_remainders(lambda p: np.sin(p).sum(), p, d, slope, [0.1])
    expected = abs(np.sin(p + 0.1 * d).sum() - np.sin(p).sum() - 0.1 * slope)
    assert_close(found, [expected], "rounding")


def count(name):
    """A formula of notebook 06 is what the benchmarks count."""

    def tie(rng):
        problems = pytest.importorskip("benchmarks.problems")
        shape = problems.Shape(3, 5, 2, 4)
        formula = next(f for f in displayed(NOTEBOOKS[5]) if f"\\text{{{name}}}" in f)
        right = formula.split("=")[1].strip(" .,").replace("\\,", " ")
        right = re.sub(r"(?<=[A-Z0-9)]) +(?=[A-Z(])", " * ", right)
        counted = shape.operations(False) if name == "operations" else shape.bytes_moved()
        assert eval(right, {"__builtins__": {}}, {"B": 3, "T": 5, "I": 2, "H": 4}) == counted

    return tie


# Formulas, to the letter, and the tests that tie them to the code; the others are evaluated.
TIED = {
    (
        r"\mathrm{d}h[t] = \underbrace{\mathrm{d}h[t]_{\text{output}}}_{\text{from the los"
        r"s}} + \underbrace{\mathrm{d}h' \odot z}_{\text{direct}} + \underbrace{\mathrm{d}"
        r"a_{hh}[t]\, W_{hh}}_{\text{through the gates}} ."
    ): tie_dh_over_time,
    (
        r"\mathrm{d}W_{ih} = \sum_t \mathrm{d}a_{ih}[t]^\top x[t], \qquad \mathrm{d}W_{hh}"
        r" = \sum_t \mathrm{d}a_{hh}[t]^\top h[t], \qquad \mathrm{d}b = \sum_t \mathrm{d}a"
        r"[t] ."
    ): tie_weight_gradients,
    (
        r"\text{flow}[k] = \sqrt{\operatorname{mean} \lVert \partial h_T / \partial h_{T-k"
        r"} \rVert^2 / H} ."
    ): tie_flow,
    (
        r"\text{forward}\;\; \frac{f(p + h d) - f(p)}{h} \qquad \text{central}\;\; \frac{f"
        r"(p + h d) - f(p - h d)}{2 h} \qquad \text{complex}\;\; \frac{\operatorname{Im} f"
        r"(p + i h d)}{h}"
    ): tie_derivatives,
    (
        r"R(\varepsilon) = \lvert L(p + \varepsilon d) - L(p) - \varepsilon\, g \cdot d \r"
        r"vert"
    ): tie_remainder,
    (r"\text{operations} = 6\, T B H (I + H) ."): count("operations"),
    (r"\text{bytes} = 4\, (3 H H\, T + 3 H I + T B (I + H)) ."): count("bytes"),
}


@pytest.mark.parametrize("notebook, formula", list(formulas()))
def test_every_formula_of_a_notebook_is_what_the_library_computes(notebook, formula, step, rng):
    if formula in TIED:
        TIED[formula](rng)
        return
    known = evaluate(named_block("after"), step)
    known = evaluate(named_block("backward"), known | {"dh_next": rng.standard_normal(H)})
    known["dh"] = known["dh_next"] * known["z"]  # the direct path alone, as the notebook has it
    known["ds"] = known["da_in"]
    before = evaluate(named_block("before"), step)
    lines = split(formula)
    assert lines, f"say in TIED which test ties this formula to the code: {formula}"
    for line in lines:
        expected = before if "(r \\odot h)" in line else known
        left = to_python(line).split("=")[0].strip()
        assert_close(evaluate([line], expected)[left], expected[left], "naive")
