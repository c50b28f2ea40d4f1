"""Write torch_gru.json: what PyTorch makes of a GRU in float64, forward and gradients.

    python tests/golden/make_torch_gru.py

Reset after the product is `torch.nn.GRU`. Reset before it, which PyTorch does not have, is the
equation in torch operations; its gradient is PyTorch's autograd all the same. Every number is
written with all its digits. The tests compare with the file, and with `results` where torch is
installed.
"""

import json
import sys
from pathlib import Path

import numpy as np

PATH = Path(__file__).with_name("torch_gru.json")
T, B, I, H = 5, 3, 2, 4  # noqa: E741
NAMES = ("x", "h0", "W_ih", "W_hh", "b_ih", "b_hh")
CASES = {
    "after": {},
    "after-bare": {"bias": False, "h0": False},
    "after-lengths": {"lengths": [2, 5, 3]},
    "before": {"reset_after": False},
    "before-bare": {"reset_after": False, "bias": False, "h0": False},
}


def arguments(bias=True, h0=True, lengths=None, reset_after=True):
    """Draw the arguments of one case: inputs by name, and the cotangent of all states."""
    rng = np.random.default_rng(20)
    shapes = [(T, B, I), (B, H), (3 * H, I), (3 * H, H), (3 * H,), (3 * H,)]
    arrays = dict(zip(NAMES, map(rng.standard_normal, shapes), strict=True))
    absent = (() if h0 else ("h0",)) + (() if bias else ("b_ih", "b_hh"))
    arrays |= dict.fromkeys(absent)
    return arrays, rng.standard_normal((T + 1, B, H))


def results(arrays, dh, lengths=None, reset_after=True):
    """Compute the states (T + 1, B, H) and the gradients in torch."""
    import torch

    leaves = {n: torch.tensor(a, requires_grad=True) for n, a in arrays.items() if a is not None}
    x, W_ih, W_hh = leaves["x"], leaves["W_ih"], leaves["W_hh"]
    h0 = leaves.get("h0", torch.zeros(B, H, dtype=torch.float64, requires_grad=True))
    if reset_after:
        bias = "b_ih" in leaves
        module = torch.nn.GRU(I, H, bias=bias, dtype=torch.float64)
        names = {"W_ih": "weight_ih_l0", "W_hh": "weight_hh_l0"}
        names |= {"b_ih": "bias_ih_l0", "b_hh": "bias_hh_l0"} if bias else {}
        sequence = x
        if lengths is not None:
            sequence = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
        parameters = {theirs: leaves[ours] for ours, theirs in names.items()}
        y, last = torch.func.functional_call(module, parameters, (sequence, h0[None]))
        if lengths is not None:
            y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, total_length=T)
            # Theirs is zero beyond the end, ours the copy of the last state.
            beyond = torch.arange(T)[:, None] >= torch.tensor(lengths)
            y = torch.where(beyond[:, :, None], last, y)
        h = torch.cat([h0[None], y])
    else:
        zero = torch.zeros(3 * H, dtype=torch.float64)
        b_ir, b_iz, b_in = leaves.get("b_ih", zero).chunk(3)
        b_hr, b_hz, b_hn = leaves.get("b_hh", zero).chunk(3)
        (W_ir, W_iz, W_in), (W_hr, W_hz, W_hn) = W_ih.chunk(3), W_hh.chunk(3)
        states = [h0]
        for x_t in x:
            h = states[-1]
            r = torch.sigmoid(x_t @ W_ir.T + b_ir + h @ W_hr.T + b_hr)
            z = torch.sigmoid(x_t @ W_iz.T + b_iz + h @ W_hz.T + b_hz)
            n = torch.tanh(x_t @ W_in.T + b_in + (r * h) @ W_hn.T + b_hn)
            states.append((1 - z) * n + z * h)
        h = torch.stack(states)
    wanted = {**leaves, "h0": h0}
    gradients = torch.autograd.grad((torch.tensor(dh) * h).sum(), list(wanted.values()))
    found = dict(zip(wanted, gradients, strict=True))
    return {"h": h.detach().numpy()} | {n: g.numpy() for n, g in found.items()}


def main():
    """Write the file."""
    import torch

    golden = {
        "versions": {
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": sys.version.split()[0],
        }
    }
    for name, settings in CASES.items():
        arrays, dh = arguments(**settings)
        how = {k: v for k, v in settings.items() if k in ("lengths", "reset_after")}
        golden[name] = {
            "settings": how,
            "arguments": {n: None if a is None else a.tolist() for n, a in arrays.items()},
            "dh": dh.tolist(),
            "results": {n: a.tolist() for n, a in results(arrays, dh, **how).items()},
        }
    PATH.write_text(json.dumps(golden, separators=(",", ":")).replace('},"', '},\n"') + "\n")


if __name__ == "__main__":
    main()
