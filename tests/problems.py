"""Random arguments of `gru_forward` and what comes of them: shared by the tests of the GRU itself.

Sizes all differ; nothing is zero, constant or symmetric, for such numbers pass where bugs are.
"""

import numpy as np

B, I, H = 3, 2, 4  # noqa: E741
GRADIENTS = ("x", "h0", "W_ih", "W_hh", "b_ih", "b_hh")


def draw(rng, T=5, B=B, I=I, H=H, bias=True, h0=True, dtype=np.float64):  # noqa: E741
    """The arrays among the arguments of gru_forward, by name."""
    arrays = {
        "x": rng.standard_normal((T, B, I)),
        "h0": rng.standard_normal((B, H)) if h0 else None,
        "W_ih": rng.standard_normal((3 * H, I)),
        "W_hh": rng.standard_normal((3 * H, H)) / np.sqrt(H),
        "b_ih": rng.standard_normal(3 * H) if bias else None,
        "b_hh": rng.standard_normal(3 * H) if bias else None,
    }
    return {n: None if a is None else a.astype(dtype) for n, a in arrays.items()}


def holes(rng, T, B):
    """A mask (T, B) with holes anywhere: at the first step, at the last, twice running."""
    mask = rng.random((T, B)) < 0.6
    mask[0, 0] = mask[-1, -1] = False
    mask[0, -1] = mask[-1, 0] = True
    return mask


def skips(rng, which, T, B):
    """Settings of gru_forward that leave steps out: "all" of them count, or by what is named."""
    lengths = rng.permutation(np.linspace(0, T, B).round().astype(int))
    return {
        "all": {},
        "lengths": {"lengths": lengths},
        "mask": {"mask": holes(rng, T, B)},
        "both": {"lengths": lengths, "mask": holes(rng, T, B)},
    }[which]


def run(gru, arrays, dh=None, **settings):
    """States, and gradients where a cotangent is given, by name; gru has `forward`, `backward`."""
    h, saved = gru.forward(**arrays, **settings)
    if dh is None:
        return {"h": h}
    return {"h": h} | dict(zip(GRADIENTS, gru.backward(dh, saved), strict=True))
