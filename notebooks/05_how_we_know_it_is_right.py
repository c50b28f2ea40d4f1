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
# # How do we know that the gradient is right?
#
# **Answer.** By asking the forward pass alone, three ways. A complex step gives every entry to 14
# digits, because it subtracts nothing. Central differences give 9, at the one step size that suits
# them. The remainder of a Taylor series falls with slope 2 if the gradient is right and with slope
# 1 if not, whatever the step. All three reject every one of the mistakes that we plant. What does
# *not* find them: shapes that fit, a loss that falls, and tests on small, symmetric or zero
# numbers.

# %%
import numpy as np

from gru_np import lessons
from gru_np.gradcheck import check_function

# %% [markdown]
# ## Three derivatives without algebra
#
# $$
# \text{forward}\;\; \frac{f(p + h d) - f(p)}{h} \qquad
# \text{central}\;\; \frac{f(p + h d) - f(p - h d)}{2 h} \qquad
# \text{complex}\;\; \frac{\operatorname{Im} f(p + i h d)}{h}
# $$
#
# The error of the first two is a V. To the left of its foot the function's curvature dominates,
# like $h$ and like $h^2$. To the right two nearly equal numbers are subtracted, and rounding
# divided by $h$ grows without end. The complex step has no difference in it: its error falls like
# $h^2$ and stays at the rounding of a double. Here $f$ is the loss of a whole GRU, three sequences
# with holes in them, as a function of $W_{hh}$:

# %%
curves = lessons.v_curves()
for method in ("forward", "central", "complex"):
    k = int(np.argmin(curves[method]))
    print(f"{method:8} best error {curves[method][k]:.0e} at h = {curves['step'][k]:.0e}")
assert curves["complex"][-1] < 1e-13 < curves["central"].min() < curves["forward"].min()
_ = lessons.plot_v_curves(curves)

# %% [markdown]
# So the tolerance of a check is a property of its method: $10^{-13}$ for the complex step,
# $10^{-7}$ for central differences. In float32 the foot of the V lies at $10^{-4}$, and whoever
# then loosens the tolerance no longer tells rounding from a bug.
#
# ## The third way: a slope
#
# $$
# R(\varepsilon) = \lvert L(p + \varepsilon d) - L(p) - \varepsilon\, g \cdot d \rvert
# $$
#
# If $g$ is the gradient, the first-order term is gone and $R \sim \varepsilon^2$. If not, part of
# it is left and $R \sim \varepsilon$. No tolerance is needed, only a ruler:

# %%
remainders = lessons.taylor_curves(["the sign of dz", "r forgotten in da_hn"])
_ = lessons.plot_taylor(remainders)
ratios = {name: values[2] / values[4] for name, values in remainders.items() if name != "step"}
assert abs(ratios["as it is"] - 100) < 10 and abs(ratios["the sign of dz"] - 10) < 1

# %% [markdown]
# ## A checker has to be checked
#
# `lessons.plant` copies the library's own source with one line changed. This is what the checker
# says of a backward that forgets the reset gate in $\mathrm{d}a_{hn} = \mathrm{d}a_{in} \odot r$:

# %%
bug = lessons.BUGS["r forgotten in da_hn"]
print(f"{bug.file}.py: {bug.old!r} becomes {bug.new!r}\n")
print(lessons.demonstrate("r forgotten in da_hn"))

# %% [markdown]
# Every block is wrong but one can see where it began: the n rows of $W_{hh}$ and $b_{hh}$ are off
# by more than their own size, the rest by what flowed on from there.
#
# ## Eight mistakes against several tests
#
# Each row is a mistake in the backward; each column a way of testing it.


# %%
def shapes_fit(bug):
    """Whether every gradient has the shape of its array: what a type checker would see."""
    forward, backward, arrays = lessons.problem(bug)
    h, saved = forward(arrays)
    gradients = backward(np.ones_like(h), saved)
    return all(gradients[name].shape == array.shape for name, array in arrays.items())


def loss_falls(bug):
    """Whether twenty steps of gradient descent lower a loss."""
    forward, backward, arrays = lessons.problem(bug)
    target = np.random.default_rng(2).uniform(-0.5, 0.5, forward(arrays)[0].shape)
    losses = []
    for _ in range(20):
        h, saved = forward(arrays)
        losses.append(((h[1:] - target[1:]) ** 2).sum())
        dh = 2 * (h - target)
        dh[0] = 0
        gradients = backward(dh, saved)
        arrays = {name: array - 0.02 * gradients[name] for name, array in arrays.items()}
    return losses[-1] < losses[0]


def one_step_from_zero(bug):
    """Whether a check of all weights at T = 1 and h0 = 0 accepts it, to the last digit."""
    module = lessons.plant(bug)
    _, _, arrays = lessons.problem()
    del arrays["h0"]
    arrays["x"] = arrays["x"][:1]
    names = ("x", "h0", "W_ih", "W_hh", "b_ih", "b_hh")
    return check_function(
        lambda point: module.gru_forward(h0=None, **point),
        lambda dh, saved: dict(zip(names, module.gru_backward(dh, saved), strict=True)),
        arrays,
    ).ok


def verdict(passed):
    return "passes" if passed else "FOUND"


columns = "shapes fit", "loss falls", "T = 1, h0 = 0", "complex step", "Taylor slope"
print(f"{'':42}" + "".join(f"{name:>15}" for name in columns))
missed = dict.fromkeys(columns, 0)
for name in lessons.EIGHT:
    passed = (
        shapes_fit(name),
        loss_falls(name),
        one_step_from_zero(name),
        lessons.demonstrate(name).ok,
        lessons.demonstrate(name, "taylor").ok,
    )
    print(f"{name:42}" + "".join(f"{verdict(p):>15}" for p in passed))
    for column, p in zip(columns, passed, strict=True):
        missed[column] += p
print(f"{'missed, of 8':42}" + "".join(f"{missed[column]:>15}" for column in columns))
assert missed["shapes fit"] == 8 and missed["T = 1, h0 = 0"] > 0
assert missed["complex step"] == missed["Taylor slope"] == 0

# %% [markdown]
# A loss falls with most wrong gradients: descent asks only for a positive angle. One step from
# zero is blind to what is carried through time. The rule of the test suite follows: more than one
# step, random states, random non-zero biases, sizes that all differ, a random cotangent, and no
# tolerance that anyone may loosen.
#
# In the library: `check_gradients(model, x, y)` for a model, a layer or a loss, and
# `gru-np gradcheck` on the command line.
