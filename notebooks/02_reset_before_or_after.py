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
# # Reset before the product or after it: does it matter?
#
# **Answer.** It does, and the weights of one form cannot be converted into the other. Before the
# product, $r_j$ decides whether *any* candidate sees unit $j$; after it, $r_i$ decides whether
# candidate $i$ sees *anything* of the state. The two are equal when every $r$ is 1, when the state
# is zero, or when $W_{hn}$ is diagonal and $b_{hn} = 0$; else each can do in one step what the
# other cannot. After the product a step needs one matrix product, before it two, one waiting for
# the other.
#
# This notebook shows each of these claims with numbers.

# %%
import numpy as np

from gru_np import equations, recurrence
from gru_np.equations import sigmoid, tanh

rng = np.random.default_rng(0)

# %% [markdown]
# ## The two candidates
#
# The gates $r$ and $z$ and the last line are the same. Only the candidate differs:
#
# $$
# \text{after:}\quad n = \tanh(a_{in} + r \odot (W_{hn} h + b_{hn})) \qquad
# \text{before:}\quad n = \tanh(a_{in} + W_{hn} (r \odot h) + b_{hn})
# $$
#
# $r \odot (W h) = (\operatorname{diag}(r)\, W)\, h$ scales the *rows* of $W$, one for each
# candidate that reads; $W (r \odot h) = (W \operatorname{diag}(r))\, h$ scales its *columns*, one
# for each unit that is read. cuDNN, PyTorch and Keras' default reset after; Cho et al. 2014 and
# ONNX' default before.


# %%
def candidate(reset_after, r, h, W_hn, b_hn, a_in):
    """n for one row of the batch, by the library's own step functions."""
    zero = np.zeros_like(h)
    closed = np.full_like(h, -1000.0)  # σ is exactly 0 there: z = 0, so h' = n
    if reset_after:
        a_r = np.log(r / (1 - r))
        h_next, *_ = equations.gru_step(
            a_r, closed, a_in, zero, zero, h @ W_hn.T + b_hn, h, sigmoid, tanh
        )
        return h_next
    h_next, _ = equations.gru_candidate(a_in, (r * h) @ W_hn.T + b_hn, zero, h, tanh)
    return h_next


H = 4
W_hn, b_hn, a_in = (rng.standard_normal(shape) for shape in [(H, H), (H,), (H,)])
h, r = rng.standard_normal(H), rng.uniform(0.1, 0.9, H)

# %% [markdown]
# ## When they coincide

# %%
identity = np.diag(rng.standard_normal(H))
zeros = np.zeros(H)
nearly_one = np.full(H, 1 - 1e-16)
cases = {
    "anything": (r, h, W_hn, b_hn),
    "r = 1": (nearly_one, h, W_hn, b_hn),
    "h = 0 and b_hn = 0": (r, zeros, W_hn, zeros),
    "h = 0, b_hn not": (r, zeros, W_hn, b_hn),
    "W_hn diagonal, b_hn = 0": (r, h, identity, zeros),
    "W_hn diagonal, b_hn not": (r, h, identity, b_hn),
}
gaps = {}
for name, case in cases.items():
    gaps[name] = np.abs(candidate(True, *case, a_in) - candidate(False, *case, a_in)).max()
    print(f"{name:28} largest difference of n {gaps[name]:.1e}")
assert [gap < 1e-14 for gap in gaps.values()] == [False, True, True, False, True, False]

# %% [markdown]
# A test that begins at $h = 0$, has zero biases and runs one step therefore cannot tell the forms
# apart. Converters have been shipped that way.
#
# ## Who listens to whom
#
# The derivative $\partial n_i / \partial r_j$ says which candidate a reset gate reaches. By
# complex step, entry by entry:


# %%
def influence(reset_after):
    """∂n_i/∂r_j, (H, H)."""
    columns = []
    for j in range(H):
        moved = r.astype(complex)
        moved[j] += 1e-30j
        columns.append(candidate(reset_after, moved, h, W_hn, b_hn, a_in).imag / 1e-30)
    return np.array(columns).T


after, before = influence(True), influence(False)
assert np.all(after[~np.eye(H, dtype=bool)] == 0) and np.all(before != 0)

# %%
from matplotlib import pyplot as plt

figure, axes = plt.subplots(1, 2, figsize=(6.4, 2.9), layout="constrained")
for axis, matrix, title in zip(axes, (after, before), ("after", "before"), strict=True):
    image = axis.imshow(np.abs(matrix), cmap="cividis", vmin=0, vmax=np.abs(before).max())
    axis.set(title=f"reset {title}", xlabel="reset gate j", xticks=range(H), yticks=range(H))
axes[0].set_ylabel("candidate i")
_ = figure.colorbar(image, ax=axes, label="|∂n_i / ∂r_j|")

# %% [markdown]
# After the product the matrix is diagonal *whatever the weights are*; before it, it is full. So no
# choice of weights turns one form into the other.
#
# ## What each can do in one step that the other cannot
#
# **Before** can hide one unit and show another to the same candidate: $h_1 + h_2$ while $r = (1,
# 1)$, $h_2$ alone while $r = (0, 1)$. After the product candidate 1 sees $r_1 \cdot (w \cdot h)$:
# one fixed mixture, louder or softer.
#
# **After** can hide a unit from one candidate and show it to another: candidate 1 reads $h_1$,
# candidate 2 does not. Before the product a hidden unit is hidden from all.
#
# The best that each form can do, by least squares over all weights, gates given:

# %%
states = rng.standard_normal((200, 2))
shown, hidden = 1.0, 0.0
# Candidate 1 is to be h1 + h2 while the first gate is open, h2 while it is shut (a new word
# began).
target = np.concatenate([states.sum(axis=1), states[:, 1]])
open_then_shut = np.repeat([[shown, shown], [hidden, shown]], 200, axis=0)
twice = np.concatenate([states, states])
columns_before = open_then_shut * twice  # W (r h): linear in the weights
_, error_before, *_ = np.linalg.lstsq(columns_before, target)
# After the product the gate that multiplies candidate 1 may take any two values, a then b.
errors_after = []
for a in np.linspace(-1, 1, 41):
    columns_after = np.concatenate([states, a * states])
    errors_after.append(np.linalg.lstsq(columns_after, target)[1][0] / len(target))
print(f"hide h1, show h2 to one candidate: before {error_before[0]:.1e}, "
      f"after at best {min(errors_after):.2f} (mean square)")  # fmt: skip
assert error_before[0] < 1e-20 and min(errors_after) > 0.05

# Candidates 1 and 2 are to read h1 and nothing, then nothing and h1.
want = np.concatenate([states[:, :1] * [1, 0], states[:, :1] * [0, 1]])
rows = np.repeat([[shown, hidden], [hidden, shown]], 200, axis=0)
readout = rows * np.concatenate([states[:, :1]] * 2)  # r (W h) with W = 1
errors = [
    np.mean((want - np.concatenate([[a, b] * states[:, :1], [c * a, c * b] * states[:, :1]])) ** 2)
    for a in np.linspace(-1, 1, 21)
    for b in np.linspace(-1, 1, 21)
    for c in np.linspace(0, 1, 11)
]
print(f"show h1 to one candidate only:     after {np.abs(want - readout).max():.1e}, "
      f"before at best {min(errors):.2f}")  # fmt: skip
assert np.array_equal(want, readout) and min(errors) > 0.05

# %% [markdown]
# ## What the difference costs
#
# One sequence, same arrays for both forms, states compared: they part at once and stay apart.

# %%
T, B, I = 12, 3, 2  # noqa: E741
arrays = [rng.standard_normal(s) for s in [(T, B, I), (B, H), (3 * H, I), (3 * H, H)]]
biases = [rng.standard_normal(3 * H) for _ in range(2)]
states_of = {
    form: recurrence.gru_forward(*arrays, *biases, reset_after=form)[0] for form in (True, False)
}
apart = np.abs(states_of[True] - states_of[False]).max(axis=(1, 2))
print("largest difference of the states after 0, 1, 2, ... steps")
print(apart.round(2))
assert apart[0] == 0 and apart[1:].min() > 0.01

# %% [markdown]
# So `from_torch`, `from_keras` and `from_onnx` carry the form along with the weights, and the
# error for a mismatch says so instead of giving numbers that look plausible. In speed the form
# after the product wins: its three recurrent products are one matrix product; before the product,
# the candidate's has to wait for $r$.
