"""What the numbers were measured on: processor, caches, features, versions."""

import os
import platform
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

TELLING = [
    "sse4_2", "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512_bf16", "amx_tile",
    "asimd", "sve",
]  # fmt: skip


def _cpuinfo() -> dict[str, str]:
    """Read the first processor's entries in /proc/cpuinfo; {} elsewhere."""
    try:
        first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def model_name() -> str:
    """As the processor calls itself."""
    name = _cpuinfo().get("model name", "")
    if not name and sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        name = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return name or platform.processor() or platform.machine()


def caches() -> dict[str, int]:
    """Bytes of one core's L1d, L2 and L3 (shared ones whole), where Linux tells."""
    found = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size = ((index / f).read_text().strip() for f in ("level", "type", "size"))
        except OSError:
            continue
        if kind != "Instruction":
            number, unit = re.fullmatch(r"(\d+)([KMG]?)", size).groups()
            scale = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}[unit]
            found[f"L{level}" + ("d" if level == "1" else "")] = int(number) * scale
    return found


def cores() -> int:
    """Physical cores this process may use; logical ones where that is unknown."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    if allowed is None:
        return os.cpu_count() or 1
    siblings = set()
    for cpu in allowed:
        path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        siblings.add(path.read_text().strip() if path.exists() else str(cpu))
    return len(siblings)


def commit() -> str:
    """Name the commit of this clone, with + if files differ from it; "" outside git."""
    root = Path(__file__).resolve().parent.parent

    def git(*arguments: str) -> str:
        try:
            done = subprocess.run(
                ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False
            )
        except OSError:
            return ""
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--", "gru_np", "benchmarks/*.py")
    return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")


def describe() -> dict[str, Any]:
    """Everything but the versions of the contestants, which their workers report."""
    flags = (_cpuinfo().get("flags") or _cpuinfo().get("Features") or "").split()
    try:
        gru_np = version("gru_np")
    except PackageNotFoundError:
        from gru_np import __version__ as gru_np
    return {
        "cpu": model_name(),
        "family": " ".join(
            f"{k} {_cpuinfo()[k]}" for k in ("cpu family", "model", "stepping") if k in _cpuinfo()
        ),
        "cores": cores(),
        "caches": caches(),
        "features": [f for f in TELLING if f in flags],
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "gru_np": gru_np,
        "commit": commit(),
    }
