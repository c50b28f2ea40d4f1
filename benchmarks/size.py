"""Bytes that installing a library brings: its files and those of all it requires."""

import re
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

# What a user installs: name in the table, distributions asked for.
INSTALLS = {
    "gru_np": ["gru_np"],
    "gru_np, to run a model only": ["gru_np (no numba)"],
    "torch": ["torch"],
    "onnxruntime": ["onnxruntime"],
    "openvino": ["openvino"],
    "jax": ["jax"],
    "flax": ["flax"],
    "keras on tensorflow": ["keras", "tensorflow|tensorflow-cpu"],
    "keras on jax": ["keras", "jax"],
}
MODEL_ONLY = ["numpy"]  # predict, step and generate need nothing else


def _applies(marker: str) -> bool:
    """Whether a requirement holds here and without extras."""
    if not marker:
        return True
    try:
        from packaging.markers import Marker
    except ImportError:
        return "extra" not in marker  # good enough: over-counts packages of other systems, if there
    return bool(Marker(marker).evaluate({"extra": ""}))


def requirements(found: Distribution) -> list[str]:
    """Names of the distributions it requires here."""
    names = []
    for line in found.requires or []:
        requirement, _, marker = line.partition(";")
        if _applies(marker.strip()):
            names.append(re.match(r"[\w.-]+", requirement.strip()).group())
    return names


def closure(names: list[str]) -> dict[str, Distribution]:
    """Collect these distributions and all they require, by normalised name; missing ones not."""
    found: dict[str, Distribution] = {}
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name not in found:
            try:
                found[name] = distribution(name)
            except PackageNotFoundError:
                continue
            waiting += requirements(found[name])
    return found


def bytes_of(found: Distribution) -> int:
    """Its files as installed; compiled Python files, which depend on use, are left out."""
    total = 0
    for file in found.files or []:
        if file.suffix != ".pyc":
            path = Path(str(found.locate_file(file)))
            total += path.stat().st_size if path.is_file() else 0
    return total


def own_bytes() -> int:
    """Count the package in this clone."""
    return sum(
        p.stat().st_size for p in (ROOT / "gru_np").rglob("*") if p.suffix in (".py", ".typed")
    )


def own_requirements() -> list[str]:
    """Read what pyproject.toml requires."""
    import tomllib

    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [re.match(r"[\w.-]+", line).group() for line in project["dependencies"]]


def measure() -> dict[str, dict[str, Any]]:
    """For each installed library: bytes and number of distributions, Python itself not counted."""
    table = {}
    for label, asked in INSTALLS.items():
        own = asked[0].startswith("gru_np")
        if own:
            names = MODEL_ONLY if "no numba" in asked[0] else own_requirements()
        else:
            names = []
            for alternatives in asked:
                present = [n for n in alternatives.split("|") if closure([n])]
                names += present[:1] or [""]
        if "" in names:
            continue
        found = closure(names)
        if own and len(found) < len(names):
            continue  # a requirement is not installed: the sum would flatter
        table[label] = {
            "bytes": sum(map(bytes_of, found.values())) + (own_bytes() if own else 0),
            "distributions": len(found) + own,
        }
    return table


if __name__ == "__main__":
    for label, row in measure().items():
        sys.stdout.write(f"{row['bytes'] / 1e6:8.0f} MB {row['distributions']:3} {label}\n")
