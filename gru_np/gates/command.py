"""The command `gru-np gates`: a text, and what the gates of a trained model did with it."""

import argparse
from collections.abc import Callable
from typing import Any

from gru_np import _console, _options
from gru_np.gates.plots import SIGNALS, plot_gates, plot_unit
from gru_np.gates.readings import only_layer, recurrent_layers
from gru_np.gates.trace import trace
from gru_np.model import Sequential

LONGEST = 2000  # tokens in one picture of a text; maps of gates become stripes long before


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `run` reads, but for the checkpoint itself."""
    parser.add_argument("--text", required=True, metavar="TEXT", help="what the model is to read")
    parser.add_argument(
        "--out",
        default="gates.png",
        metavar="FILE",
        type=_options.picture,
        help="picture (gates.png)",
    )
    parser.add_argument("--layer", help="which GRU, if there are several (the last)")
    parser.add_argument(
        "--show", nargs="+", choices=list(SIGNALS), default=["r", "z", "h"], metavar="SIGNAL",
        help="r, z, n, h: one map for each (r z h)",
    )  # fmt: skip
    parser.add_argument(
        "--unit",
        type=_options.integer(0),
        help="colour the text by this unit's state, or its one SIGNAL",
    )


def run(args: argparse.Namespace, load: Callable[[str], Sequential]) -> int:
    """Draw the picture; `load` gives the model of a path, with its tokenizer."""
    model = load(args.checkpoint)
    names = recurrent_layers(model)
    name = only_layer(model, args.layer or (names[-1] if names else None), "gates")
    read = trace(model, args.text)[name]
    T = len(read.positions)
    if not 0 < T <= LONGEST:
        raise ValueError(f"--text must be 1 to {LONGEST} tokens, got {T}")
    axes: Any
    if args.unit is None:
        axes = plot_gates(read, args.show)[0]
    else:
        if not 0 <= args.unit < read.units:
            raise ValueError(f"--unit must be in 0..{read.units - 1}, got {args.unit}")
        # The state, unless another signal was asked for.
        axes = plot_unit(read, args.unit, args.show[0] if len(args.show) == 1 else "h")
    axes.figure.savefig(args.out, dpi=150)
    _console.say(f"The picture is in {args.out}")
    return 0
