"""The command line, gru-np: what commands there are; the small ones are here.

Each command is a function of its parsed arguments and prints to standard output. Bad input ends
with one sentence on standard error and exit status 2, never with a traceback.
"""

import argparse
import errno
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from gru_np import __version__, _console, _options, gates, interop, kernels
from gru_np._options import OptionError, Parser
from gru_np.gradcheck import check_gradients
from gru_np.layers import GRU, Dense, Embedding
from gru_np.model import Sequential
from gru_np.series import command as forecast
from gru_np.speech import command as speech
from gru_np.text import train_command as train
from gru_np.text import write_command as write

NO_FAULT_OF_THE_ARGUMENTS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; give its exit status."""
    try:
        return _run(argv)
    finally:
        _console.end()


def _run(argv: Sequence[str] | None) -> int:
    try:
        args = build_parser().parse(argv)
    except OptionError as error:
        _complain(str(error))
        return 2
    try:
        return args.run(args) or 0
    except BrokenPipeError:
        return 0  # the reader of our output, `head` perhaps, has gone; so do we, quietly
    except (ValueError, TypeError, ImportError) as error:
        reason, status = str(error), 2
    except OSError as error:
        named = error.strerror is not None and error.filename is not None
        reason = f"{error.filename}: {error.strerror}" if named else str(error)
        status = 1 if error.errno in NO_FAULT_OF_THE_ARGUMENTS else 2
    except MemoryError as error:
        reason, status = f"there is not enough memory; {error}".removesuffix("; "), 1
    except FloatingPointError as error:  # training diverged: no fault of the arguments' form
        reason, status = str(error), 1
    except KeyboardInterrupt:
        return 130
    _complain(f"gru-np {args.command}: {reason}")
    return status


def _complain(sentence: str) -> None:
    """Write one line, whatever names and settings in it hold: line ends, signs for the terminal."""
    plain = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in sentence)
    _console.remark("".join(plain))


def build_parser() -> Parser:
    """Describe every command, with an example for each."""
    parser = Parser(
        prog="gru-np",
        description="Train, question and check GRUs from the command line.",
        epilog="Begin with `gru-np train`: it learns from Python's own standard library.",
    )
    parser.add_argument("--version", action="version", version=f"gru-np {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Any, summary: str, example: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name, help=summary, description=summary, epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        sub.set_defaults(run=run)
        return sub

    train.add_arguments(command("train", train.run, train.SUMMARY, train.EXAMPLE))

    sub = command(
        "generate", write.generate, "Continue a prompt with a trained model.",
        'gru-np generate book.safetensors --prompt "It was" --temperature 0.8 --length 500\n'
        "  gru-np generate book.safetensors --interactive",
    )  # fmt: skip
    write.generate_arguments(sub)

    sub = command(
        "next", write.next_tokens, "Show which tokens may come next, and how likely each is.",
        'gru-np next "the cat sat on" --k 5',
    )  # fmt: skip
    write.next_arguments(sub)

    sub = command(
        "evaluate", write.evaluate, "Measure how well a model predicts a text.",
        "gru-np evaluate book.safetensors --text other_book.txt",
    )  # fmt: skip
    write.evaluate_arguments(sub)

    sub = command(
        "gates", lambda args: gates.run(args, write.load),
        "Draw what the gates do as a text is read.",
        'gru-np gates book.safetensors --text "It was the best of times" --out gates.png',
    )  # fmt: skip
    write.add_checkpoint(sub)
    gates.add_arguments(sub)

    forecast.add_arguments(command("forecast", forecast.run, forecast.SUMMARY, forecast.EXAMPLE))

    sub = command(
        "transcribe", speech.transcribe_run, "Write down what is said in a sound file.",
        "gru-np transcribe audio.wav --model speech.safetensors",
    )  # fmt: skip
    speech.transcribe_arguments(sub)

    sub = command(
        "train-speech", speech.train_run, "Train a transcriber on sound files and transcripts.",
        "gru-np train-speech recordings/ --model speech.safetensors",
    )  # fmt: skip
    speech.train_arguments(sub)

    sub = command(
        "gradcheck", gradcheck, "Check the gradients of both forms of the GRU on this machine.",
        "gru-np gradcheck --method taylor",
    )  # fmt: skip
    sub.add_argument("--method", choices=["complex", "central", "taylor"], default="complex")
    units = _options.integer(1, 1000)
    sub.add_argument("--units", type=units, default=5, help="size of the GRU (5)")
    sub.add_argument("--seed", type=_options.seed, default=0)

    sub = command(
        "convert", convert, "Move a model between gru_np, PyTorch, Keras, ONNX.",
        "gru-np convert book.safetensors book.onnx",
    )  # fmt: skip
    sub.add_argument("source", metavar="A", type=_options.Source, help="the file to read")
    sub.add_argument(
        "target", metavar="B", type=_options.Target,
        help="the file to write; its ending says what it is: .safetensors, .torch.safetensors (a "
        "PyTorch state dict), .keras, .weights.h5, .onnx, .py, or none for a folder",
    )  # fmt: skip
    sub.add_argument(
        "--like", metavar="MODEL", type=_options.Source,
        help="if A is .weights.h5, which holds no settings: a model with the same layers",
    )  # fmt: skip
    torch = sub.add_argument_group("if A is a PyTorch state dict, which leaves this open")
    how = torch.add_mutually_exclusive_group()
    how.add_argument(
        "--return-sequences", action="store_true", default=None,
        help="what follows the last GRU is applied to every step of it",
    )  # fmt: skip
    how.add_argument(
        "--last", choices=["step", "state"],
        help="it is applied to the last step, output[:, -1], or to the last state, h_n",
    )  # fmt: skip
    torch.add_argument(
        "--activation", action="append", metavar="NAME=FUNCTION",
        help="what follows a linear layer: head=softmax, body=relu, body=linear",
    )  # fmt: skip
    torch.add_argument(
        "--kind", action="append", metavar="NAME=CLASS",
        help="what a group of keys is: Embedding, Linear or LayerNorm",
    )  # fmt: skip
    torch.add_argument(
        "--order", type=lambda text: text.split(","), metavar="NAME,NAME,...",
        help="the groups of keys from input to output",
    )  # fmt: skip

    sub = command(
        "export", export, "Write a model as one Python file that needs NumPy alone.",
        "gru-np export book.safetensors book_model.py",
    )  # fmt: skip
    write.add_checkpoint(sub)
    sub.add_argument(
        "target", metavar="FILE.py", type=_options.output, help="the Python file to write"
    )

    command(
        "warmup", warmup, "Compile every kernel now, into the disk cache, as for an image.",
        "gru-np warmup",
    )  # fmt: skip
    return parser


def gradcheck(args: argparse.Namespace) -> int:
    """Print a report for each form of the GRU; exit status 1 if a gradient is wrong."""
    rng = np.random.default_rng(args.seed)
    ids = rng.integers(0, 7, (3, 6))
    wrong = 0
    for reset_after in (True, False):
        layers = [
            Embedding(7, 3, mask_zero=True),
            GRU(args.units, return_sequences=True, reset_after=reset_after),
            Dense(7, activation="softmax"),
        ]
        model = Sequential(layers, dtype="float64", seed=args.seed)
        model.compile("sparse_categorical_crossentropy", "adam")
        model.build((None, None))
        for array in model.params.values():
            array[...] = rng.standard_normal(array.shape) / 2
        report = check_gradients(model, ids[:, :-1], ids[:, 1:], method=args.method)
        form = "after" if reset_after else "before"
        _console.deliver(f"Reset {form} the product\n{report!r}\n\n")
        wrong += not report.ok
    return 1 if wrong else 0


# ------------------------------------------------------------------------ convert, export, warmup


def convert(args: argparse.Namespace) -> int:
    """Read one kind of file, write another; what cannot move exactly is refused."""
    like = interop.read(args.like) if args.like else None
    options = {
        "return_sequences": args.return_sequences,
        "last": args.last,
        "activations": _pairs("--activation", args.activation),
        "kinds": _pairs("--kind", args.kind),
        "order": args.order,
    }
    given = {name: value for name, value in options.items() if value is not None}
    model = interop.read(args.source, like, **given)
    written = interop.write(model, args.target)
    for end, conversion in ((args.source, model.conversion), (args.target, written)):
        for line in str(conversion or "").splitlines():
            _console.say(f"{end}: {line}")
    for what in interop.left_out(model, args.target):
        _console.say(f"not in {args.target}: {what}")
    _console.say(f"{args.target}: {model.count_params():,} parameters")
    return 0


def _pairs(option: str, texts: Sequence[str] | None) -> dict[str, str] | None:
    """Give NAME=VALUE, repeated, as a dict."""
    if texts is None:
        return None
    pairs = {}
    for text in texts:
        name, found, value = text.partition("=")
        if not found or not value:
            raise ValueError(f"{option} must be NAME=VALUE, got {text!r}")
        pairs[name] = value
    return pairs


def export(args: argparse.Namespace) -> int:
    """Write the model as one Python file."""
    interop.export_standalone(Sequential.load(args.checkpoint), args.target)
    _console.say(f"{args.target}: check it with\n  python {args.target}")
    return 0


def warmup(args: argparse.Namespace) -> int:
    """Fill the disk cache of compiled kernels."""
    began = time.perf_counter()
    if not kernels.warmup():
        raise ValueError("numba is not installed, or GRU_NP_KERNELS is 0: nothing to compile")
    _console.say(f"All kernels are ready, after {time.perf_counter() - began:.1f} s")
    return 0
