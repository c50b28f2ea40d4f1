"""Write torch_ctc.json: what PyTorch makes of CTC in float64, losses and gradients by the logits.

    python tests/golden/make_torch_ctc.py

Ragged lengths, repeats, an empty target, a pair without an alignment (`zero_infinity`), and both
places a blank is usually put. The tests compare with the file, and with `results` where torch is
installed.
"""

import json
import sys
from pathlib import Path

import numpy as np

PATH = Path(__file__).with_name("torch_ctc.json")
B, T, V, L = 5, 9, 4, 4
LOGIT_LENGTHS, LABEL_LENGTHS = [9, 7, 9, 4, 6], [4, 3, 0, 4, 4]
# The third is empty; the fourth would need six steps and has four; the fifth needs all its six.
LABELS = [[1, 2, 3, 1], [1, 1, 3, 0], [0, 0, 0, 0], [1, 1, 1, 2], [2, 2, 3, 3]]
BLANKS = {"first": 0, "last": 3}


def arguments(blank):
    """Draw the logits; labels are shifted so that they keep clear of the blank."""
    logits = 2 * np.random.default_rng(21).standard_normal((B, T, V))
    labels = np.array(LABELS) - (1 if blank == V - 1 else 0)
    return logits, labels, np.array(LOGIT_LENGTHS), np.array(LABEL_LENGTHS)


def results(blank):
    """Compute the loss of each row and its gradient in torch."""
    import torch

    logits, labels, logit_lengths, label_lengths = map(torch.from_numpy, arguments(blank))
    logits.requires_grad_()
    loss = torch.nn.functional.ctc_loss(
        logits.transpose(0, 1).log_softmax(-1),
        labels.clamp(0),
        logit_lengths,
        label_lengths,
        blank=blank,
        reduction="none",
        zero_infinity=True,
    )
    loss.sum().backward()
    return {"loss": loss.detach().tolist(), "dlogits": logits.grad.tolist()}


if __name__ == "__main__":
    import torch

    written = {
        "versions": {
            "torch": torch.__version__, "numpy": np.__version__,
            "python": sys.version.split()[0],
        },
        "cases": {name: results(blank) for name, blank in BLANKS.items()},
    }  # fmt: skip
    PATH.write_text(json.dumps(written) + "\n", encoding="utf-8")
