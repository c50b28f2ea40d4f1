# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # How do the kernels reach the peak?
#
# **Answer.** By loading each number once and using it many times. A processor can do tens of
# multiplications in the time it takes to fetch one number from beyond its nearest cache, so what
# counts is operations per byte. One GRU step of one sequence has half an operation a byte and is
# bound by reading the weights; a batch uses each weight once for every row, and a tile of results
# that stays in registers uses each loaded number again for every row or column of the tile. What is
# left is a stream of fused multiply-adds, and the roof is the number of those a second.

# %%
import json
import sys
from pathlib import Path
from time import perf_counter

import numpy as np
from matplotlib import pyplot as plt

from gru_np import kernels

ROOT = Path.cwd() if (Path.cwd() / "benchmarks").is_dir() else Path.cwd().parent
sys.path.insert(0, str(ROOT))

# %% [markdown]
# ## Counting
#
# A step multiplies $x$ by $3H$ rows of $W_{ih}$ and $h$ by $3H$ rows of $W_{hh}$: a multiplication
# and an addition for each weight and each row of the batch,
#
# $$
# \text{operations} = 6\, T B H (I + H) .
# $$
#
# What has to move, at the least, in float32: $W_{hh}$ at every step (the next step needs the whole
# state first), $W_{ih}$ once (all inputs can be multiplied together), $x$ and $h$ once,
#
# $$
# \text{bytes} = 4\, (3 H H\, T + 3 H I + T B (I + H)) .
# $$
#
# Their quotient is the intensity. The roof over it is $\min(\text{peak}, \text{intensity} \times
# \text{bandwidth})$ (Williams, Waterman, Patterson 2009).


# %%
def operations(B, T, I, H):  # noqa: E741
    return 6 * T * B * H * (I + H)


def bytes_moved(B, T, I, H):  # noqa: E741
    return 4 * (3 * H * H * T + 3 * H * I + T * B * (I + H))


print(f"{'B, T, I, H':>20} {'operations':>12} {'bytes':>12} {'op/byte':>8}")
for shape in [(1, 100, 256, 256), (8, 100, 256, 256), (32, 100, 256, 256), (128, 64, 128, 128)]:
    count, moved = operations(*shape), bytes_moved(*shape)
    print(f"{shape!s:>20} {count:12,} {moved:12,} {count / moved:8.1f}")

# %% [markdown]
# ## One weight, many rows
#
# With $B = 1$ the kernel does two operations for every four bytes of $W_{hh}$. It is as fast as the
# cache that holds the weights, and no cleverness changes that; three times $256 \times 256$ weights
# are 768 KiB, more than many second-level caches. With $B = 32$ every loaded weight meets 32
# states.
#
# In registers the same idea again: a tile of $m \times n$ results in accumulators needs $m + n$
# loads for $m n$ multiply-adds. Sixteen registers of eight floats hold a tile of $6 \times 16$ and
# its operands: 96 multiply-adds for 22 loaded numbers.
#
# ## Measured
#
# If benchmark results of a machine are in `benchmarks/results`, they are drawn; else the machine
# that runs this notebook is measured, for a second or two.

# %%
reports = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
results = [json.loads(path.read_text()) for path in reports]
results = [r for r in results if r.get("peak") and r.get("sections", {}).get("forward")]
if results:
    from benchmarks.plots import roofline

    figure = roofline(results[-1])
    print("drawn from the benchmark results")
elif kernels.available():
    from benchmarks import machine, peak
    from gru_np.kernels import fused

    kernels.set_num_threads(1)
    roofs = [peak.measure(1, machine.caches())]
    rng = np.random.default_rng(0)
    points = {}
    for shape in [(1, 60, 128, 128), (4, 60, 128, 128), (16, 60, 128, 128), (64, 30, 128, 128)]:
        B, T, I, H = shape  # noqa: E741
        sizes = [(T, B, I), (3 * H, I), (3 * H, H), (3 * H,), (3 * H,)]
        x, W_ih, W_hh, b_ih, b_hh = (rng.standard_normal(s).astype("f4") / 10 for s in sizes)
        seconds = []
        for _ in range(40):
            start = perf_counter()
            fused.gru_forward(x, None, W_ih, W_hh, b_ih, b_hh, inference=True)
            seconds.append(perf_counter() - start)
        # The least, since other work on the machine can only add to it.
        points[shape] = operations(*shape) / min(seconds) / 1e9
    # Other work can only lower a roof too, so it is measured again and the higher one counts.
    roofs.append(peak.measure(1, machine.caches()))
    roof = {name: max(found[name] for found in roofs) for name in roofs[0]}
    print("this machine, one thread:", {name: round(value) for name, value in roof.items()})
    if max(points.values()) > roof["GFLOP/s"]:
        print("the machine was busy while its roof was measured: run this again when it is quiet")
    _, axis = plt.subplots(figsize=(6.4, 4), layout="constrained")
    intensity = np.geomspace(0.2, 300, 200)
    for name, level, dash in (("L2 read GB/s", "L2", "-"), ("triad GB/s", "memory", "--")):
        roofed = np.minimum(intensity * roof[name], roof["GFLOP/s"])
        axis.plot(intensity, roofed, dash, color="0.3", label=f"roof, data in {level}")
    for shape, speed in points.items():
        axis.plot(operations(*shape) / bytes_moved(*shape), speed, "ko", markersize=5)
        axis.annotate(
            f"B = {shape[0]}", (operations(*shape) / bytes_moved(*shape), speed),
            textcoords="offset points", xytext=(6, -10), fontsize=9,
        )  # fmt: skip
        print(f"B, T, I, H = {shape}: {speed:.0f} GFLOP/s, {speed / roof['GFLOP/s']:.0%} of peak")
    axis.set(xscale="log", yscale="log", xlabel="operations per byte", ylabel="GFLOP/s")
    axis.grid(which="major", color="0.9", linewidth=0.6)
    _ = axis.legend(frameon=False, fontsize=9)
else:
    print("without numba there are no kernels to measure")

# %% [markdown]
# ## Where the rest goes
#
# - **Activations.** A step also takes $3 B H$ values of $\sigma$ and $\tanh$. As calls of the C
#   library they would cost more than the products; on vectors they are a few multiply-adds
#   (`kernels/vector.py`), from the very functions of `equations.py`.
# - **Passing over arrays.** NumPy runs a step as some twenty passes over $(B, 3H)$ arrays. The
#   fused loop takes a few panels' tiles, applies the gates to them while they are in the nearest
#   cache, and writes $h'$ once.
# - **Packing.** Panels of the weights are copied once a call into the order in which the tiles read
#   them.
#
# What each of these costs is measured by `python -m benchmarks.parts` (see
# `benchmarks/results/parts.md`), and how the library and its rivals compare by
# `python -m benchmarks`, in separate processes; this notebook only shows why the numbers are what
# they are.
