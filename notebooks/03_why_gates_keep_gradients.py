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
# # Why do gates keep gradients alive?
#
# **Answer.** Because $\partial h' / \partial h$ begins with $\operatorname{diag}(z)$: where $z$ is
# near 1 the gradient passes a step unchanged, with no matrix and no squashing in between. At the
# start $z$ is about one half, and a GRU's gradients vanish as well. But $z$ can be *learned*, and
# while it is learned the path opens. A plain recurrent network has nothing that could open.
#
# We measure it on the adding problem (Hochreiter and Schmidhuber 1997): of a sequence of random
# numbers two are marked, and the answer, asked at the end, is their sum.

# %%
import numpy as np

from gru_np import GRU, Dense, Sequential, gates
from gru_np.optimizers import Adam

rng = np.random.default_rng(0)


def adding(count, T):
    """Inputs (count, T, 2): a number and a mark; targets (count, 1)."""
    x = np.zeros((count, T, 2), np.float32)
    x[:, :, 0] = rng.random((count, T))
    rows = np.arange(count)
    first, second = rng.integers(0, T // 2, count), rng.integers(T // 2, T, count)
    x[rows, first, 1] = x[rows, second, 1] = 1
    return x, (x[rows, first, 0] + x[rows, second, 0])[:, None]


T = 40
x, y = adding(2048, T)
x_held, y_held = adding(256, T)
print(f"always answering 1 has a mean square error of {np.mean((y_held - 1) ** 2):.3f}")

# %% [markdown]
# ## A plain recurrent network is a GRU with its gates nailed
#
# With $r = 1$ and $z = 0$ the equations leave $h' = \tanh(W_{in} x + b_{in} + W_{hn} h + b_{hn})$.
# `gates.without_gates` does that with weights of zero and biases of $\pm 1000$; the gates' own
# gradients are exactly zero there, so they stay nailed in training. Both networks begin with the
# very same candidate weights and see the same sequences equally often; the plain one may try three
# learning rates.

# %%
H = 24
gated = Sequential([GRU(H), Dense(1)], seed=1)
gated.build((None, T, 2))
models = {"GRU": (gated, 0.01)}
for rate in (0.01, 0.003, 0.001):
    models[f"plain, rate {rate}"] = (gates.without_gates(gated), rate)


def flow_of(model):
    """How much of a gradient of the last state is left k steps before it."""
    return gates.gradient_flow(gates.trace(model, x_held[:6])["gru"])


flows = {"GRU before training": flow_of(gated)}
flows["plain before training"] = flow_of(models["plain, rate 0.01"][0])
curves = {}
for name, (model, rate) in models.items():
    model.compile("mse", Adam(rate, global_clipnorm=1.0))
    history = model.fit(x, y, batch_size=64, epochs=8, verbose=0, validation_data=(x_held, y_held))
    curves[name] = history.history["val_loss"]
    print(f"{name:18} mean square error on new sequences {curves[name][-1]:.4f}")
assert curves["GRU"][-1] < 0.03
assert min(min(curve) for name, curve in curves.items() if name != "GRU") > 0.1

# %%
from matplotlib import pyplot as plt

_, axis = plt.subplots(figsize=(6, 3.2), layout="constrained")
for (name, curve), line in zip(curves.items(), ("-o", "--s", ":^", "-.D"), strict=True):
    axis.plot(range(1, len(curve) + 1), curve, line, label=name, markersize=4)
axis.axhline(np.mean((y_held - 1) ** 2), color="0.6", linewidth=0.8)
axis.set(xlabel="epoch", ylabel="mean square error on new sequences", yscale="log")
_ = axis.legend(frameon=False, fontsize=9)

# %% [markdown]
# The grey line is the error of always answering 1. The plain network never leaves it.
#
# ## What happened to the gradient
#
# $\partial h_T / \partial h_{T-k}$ for every $k$, exactly, by one pass of the backward with the
# rows of the identity as cotangents. Below is the factor by which a gradient of random direction
# changes its length,
#
# $$
# \text{flow}[k] = \sqrt{\operatorname{mean} \lVert \partial h_T / \partial h_{T-k} \rVert^2 / H} .
# $$

# %%
flows["GRU after training"] = flow_of(gated)
flows["plain after training"] = flow_of(models["plain, rate 0.001"][0])
_ = gates.plot_flow(flows)
for name, flow in flows.items():
    print(f"{name:22} left after {T} steps: {flow[T]:.1e}")
assert flows["GRU after training"][T] > 1e3 * flows["GRU before training"][T]
assert flows["GRU after training"][T] > 1e2 * flows["plain after training"][T]

# %% [markdown]
# Before training the GRU loses gradients too: $z \approx \tfrac12$ halves them at every step. What
# training changed is $z$:

# %%
for name, model in (("before", Sequential([GRU(H), Dense(1)], seed=1)), ("after", gated)):
    read = gates.trace(model, x_held)["gru"]
    half = np.sort(gates.half_life(read))
    print(f"{name:6} training: mean z {read.z.mean():.2f}, memory half-life of the units "
          f"{half[0]:.1f} to {half[-1]:.0f} steps, median {np.median(half):.1f}")  # fmt: skip
    if name == "after":
        unmarked, marked = (read.z[:, :, :][x_held[:, :, 1] == m].mean(axis=0) for m in (0, 1))
        j = int(np.argmax(unmarked - marked))
        print(f"unit {j}: z is {unmarked[j]:.2f} at unmarked steps, {marked[j]:.2f} at marked ones")
        assert unmarked[j] - marked[j] > 0.2

# %% [markdown]
# It keeps its state while nothing is marked, and takes a number in where the mark stands: the gate
# *is* the program. Its picture, one sequence, the marked steps are where the columns change:

# %%
sequence = int(np.argmax(x_held[:, 5:20, 1].sum(axis=1)))
labels = [f"{value:.2f}" if mark else "·" for value, mark in x_held[sequence]]
one = gates.trace(gated, x_held[sequence : sequence + 1], labels=labels)["gru"]
_ = gates.plot_gates(one, ["z", "h"])

# %% [markdown]
# And the singular values of $\partial h_T / \partial h_t$: a few directions are kept over the
# whole sequence, the others are let go. Remembering everything is not the point; choosing is.

# %%
_ = gates.plot_singular_values(one)
