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
# # Where does every line of the GRU's backward pass come from?
#
# **Answer.** From the chain rule, read off the forward pass from its last line to its first. A GRU
# step has four lines, so its backward has four blocks, and each block begins with the line that it
# undoes. What is left after the loop are matrix products. This notebook derives each block, sets it
# beside the code that the library runs, and checks the two against a derivative that needs no
# algebra at all.
#
# Notation: $B$ batch, $H$ hidden; $\mathrm{d}v$ is the gradient of the loss $L$ by $v$, and has the
# shape of $v$; $\odot$ multiplies element by element.

# %%
import inspect

import numpy as np

from gru_np import equations, recurrence
from gru_np.equations import sigmoid, sigmoid_derivative, tanh, tanh_derivative

rng = np.random.default_rng(0)

# %% [markdown]
# ## One step forward
#
# Reset after the product, the form of cuDNN, PyTorch and Keras. The matrix products are already
# done: $a_{i\cdot}$ comes from the input, $a_{h\cdot}$ from the hidden state.
#
# $$
# \begin{aligned}
# r  &= \sigma(a_{ir} + a_{hr}) \\
# z  &= \sigma(a_{iz} + a_{hz}) \\
# n  &= \tanh(a_{in} + r \odot a_{hn}) \\
# h' &= (1 - z) \odot n + z \odot h
# \end{aligned}
# $$
#
# This is the source that runs, on NumPy arrays here and on SIMD vectors in the kernels:

# %%
print(inspect.getsource(equations.gru_step))

# %% [markdown]
# ## The derivative that needs no algebra
#
# For an analytic $f$ and a tiny $\varepsilon$, $f(x + i\varepsilon) = f(x) + i \varepsilon f'(x) +
# O(\varepsilon^2)$, so $f'(x) = \operatorname{Im} f(x + i \varepsilon) / \varepsilon$. Nothing is
# subtracted, so with $\varepsilon = 10^{-30}$ the result is right to the last digit. Every claim
# below is tested against it. The loss is $L = \sum c \odot h'$ with a random $c$, so $\mathrm{d}h'
# = c$.

# %%
B, H = 3, 4
names = ["a_ir", "a_iz", "a_in", "a_hr", "a_hz", "a_hn", "h"]
values = {name: rng.standard_normal((B, H)) for name in names}
c = rng.standard_normal((B, H))


def loss(values):
    h_next, *_ = equations.gru_step(*values.values(), sigmoid, tanh)
    return (c * h_next).sum()


def complex_step(name):
    """The gradient of the loss by one of the arguments, an entry at a time."""
    gradient = np.empty((B, H))
    for index in np.ndindex(B, H):
        nudged = {key: value.astype(complex) for key, value in values.items()}
        nudged[name][index] += 1e-30j
        gradient[index] = loss(nudged).imag / 1e-30
    return gradient


def agree(derived, name):
    """Print how far a derived gradient is from the complex step."""
    expected = complex_step(name)
    error = np.linalg.norm(derived - expected) / np.linalg.norm(expected)
    print(f"d{name:5} relative error {error:.1e}")
    assert error < 1e-13


a_ir, a_iz, a_in, a_hr, a_hz, a_hn, h = values.values()
h_next, r, z, n = equations.gru_step(*values.values(), sigmoid, tanh)
dh_next = c

# %% [markdown]
# ## Line 4: $h' = (1 - z) \odot n + z \odot h$
#
# Each of $n$, $z$, $h$ appears once, so each gradient is $\mathrm{d}h'$ times what stands
# beside it:
#
# $$
# \mathrm{d}n = \mathrm{d}h' \odot (1 - z), \qquad
# \mathrm{d}z = \mathrm{d}h' \odot (h - n), \qquad
# \mathrm{d}h = \mathrm{d}h' \odot z .
# $$
#
# The last is the path on which gradients survive: where $z$ is near 1, $\mathrm{d}h'$ passes
# through almost unchanged, with no matrix and no squashing in between. $h$ also acts through
# $a_{h\cdot}$; that part comes at the end.

# %%
dn = dh_next * (1 - z)
dz = dh_next * (h - n)
dh = dh_next * z
agree(dh, "h")

# %% [markdown]
# ## Line 3: $n = \tanh(a_{in} + r \odot a_{hn})$
#
# $\tanh' = 1 - \tanh^2$, and the forward pass has kept $n = \tanh(\cdot)$, so the derivative costs
# no new $\tanh$. With $s$ the sum inside, $\mathrm{d}s = \mathrm{d}n \odot (1 - n^2)$, and then
#
# $$
# \mathrm{d}a_{in} = \mathrm{d}s, \qquad
# \mathrm{d}a_{hn} = \mathrm{d}s \odot r, \qquad
# \mathrm{d}r = \mathrm{d}s \odot a_{hn} .
# $$
#
# Two mistakes live here. $\mathrm{d}a_{hn}$ is *not* $\mathrm{d}a_{in}$: the reset stands between
# them, and this is why the two sides keep separate biases. And $a_{hn}$ contains its bias $b_{hn}$,
# so $\mathrm{d}r$ does too; forget it, and tests with zero biases pass.

# %%
da_in = dn * tanh_derivative(n)
da_hn = da_in * r
dr = da_in * a_hn
agree(da_in, "a_in")
agree(da_hn, "a_hn")

# %% [markdown]
# ## Lines 2 and 1: the gates
#
# $\sigma' = \sigma (1 - \sigma)$, again from the kept value. Both sides enter as a sum, so they
# share one gradient: $\mathrm{d}a_{iz} = \mathrm{d}a_{hz}$ and
# $\mathrm{d}a_{ir} = \mathrm{d}a_{hr}$.

# %%
da_z = dz * sigmoid_derivative(z)
da_r = dr * sigmoid_derivative(r)
for derived, side in [(da_z, "z"), (da_r, "r")]:
    agree(derived, f"a_i{side}")
    agree(derived, f"a_h{side}")

# %% [markdown]
# That was all of it. The library's version, block by block the same:

# %%
print(inspect.getsource(equations.gru_step_backward))
derived = (dh, da_r, da_z, da_in, da_hn)
library = equations.gru_step_backward(
    dh_next, h, r, z, n, a_hn, sigmoid_derivative, tanh_derivative
)
assert all(np.array_equal(a, b) for a, b in zip(derived, library, strict=True))

# %% [markdown]
# ## From one step to a sequence
#
# Over time, $a_{hh}[t] = W_{hh} h[t] + b_{hh}$ feeds step $t$, and $h[t]$ is also the result of
# step $t - 1$ and perhaps an output. So $\mathrm{d}h[t]$ is a sum of three:
#
# $$
# \mathrm{d}h[t] = \underbrace{\mathrm{d}h[t]_{\text{output}}}_{\text{from the loss}}
#   + \underbrace{\mathrm{d}h' \odot z}_{\text{direct}}
#   + \underbrace{\mathrm{d}a_{hh}[t]\, W_{hh}}_{\text{through the gates}} .
# $$
#
# The loop from $T - 1$ down to 0 does only this. It leaves $\mathrm{d}a_{ih}$ and
# $\mathrm{d}a_{hh}$ for all steps, and each weight's gradient is then one product over everything:
#
# $$
# \mathrm{d}W_{ih} = \sum_t \mathrm{d}a_{ih}[t]^\top x[t], \qquad
# \mathrm{d}W_{hh} = \sum_t \mathrm{d}a_{hh}[t]^\top h[t], \qquad
# \mathrm{d}b = \sum_t \mathrm{d}a[t] .
# $$

# %%
for function in (recurrence.through_time, recurrence.weight_gradients):
    print(inspect.getsource(function).split('"""')[2])

# %% [markdown]
# ## Does the whole thing hold?
#
# Seven steps, three rows, random everything, and a gradient checked entry by entry:

# %%
T, I = 7, 2  # noqa: E741
parameters = {
    "x": rng.standard_normal((T, B, I)),
    "h0": rng.standard_normal((B, H)),
    "W_ih": rng.standard_normal((3 * H, I)),
    "W_hh": rng.standard_normal((3 * H, H)),
    "b_ih": rng.standard_normal(3 * H),
    "b_hh": rng.standard_normal(3 * H),
}
c = rng.standard_normal((T + 1, B, H))
for reset_after in (True, False):
    _, saved = recurrence.gru_forward(*parameters.values(), reset_after=reset_after)
    gradients = recurrence.gru_backward(c, saved)
    print("reset after the product" if reset_after else "reset before the product")
    for (name, value), gradient in zip(parameters.items(), gradients, strict=True):
        expected = np.empty_like(value)
        for index in np.ndindex(value.shape):
            nudged = {key: array.astype(complex) for key, array in parameters.items()}
            nudged[name][index] += 1e-30j
            out, _ = recurrence.gru_forward(*nudged.values(), reset_after=reset_after)
            expected[index] = (c * out).sum().imag / 1e-30
        error = np.linalg.norm(gradient - expected) / np.linalg.norm(expected)
        print(f"    d{name:5} relative error {error:.1e}")
        assert error < 1e-13

# %% [markdown]
# ## The other form
#
# If the reset comes *before* the product, $n = \tanh(a_{in} + W_{hn}(r \odot h) + b_{hn})$, the
# product stands between two elementwise parts, so the step is two functions each way and the loop
# does a second product. The derivation is the same, from the last line to the first:

# %%
for function in (equations.gru_candidate, equations.gru_candidate_backward):
    print(inspect.getsource(function))
for function in (equations.gru_gates, equations.gru_gates_backward):
    print(inspect.getsource(function))
