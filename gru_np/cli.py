"""The command line, gru-np: one function a command.

Each command is a function of its parsed arguments and prints to standard output. Bad input ends
with one sentence on standard error and exit status 2, never with a traceback.
"""

import argparse
import math
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gru_np import __version__, gates, interop, kernels, text
from gru_np.callbacks import Callback, ModelCheckpoint
from gru_np.gradcheck import check_gradients
from gru_np.layers import GRU, Dense, Dropout, Embedding
from gru_np.model import Sequential
from gru_np.optimizers import Adam
from gru_np.schedules import CosineDecay
from gru_np.series import command as forecast
from gru_np.speech import command as speech

CHECKPOINT = "gru-np.safetensors"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; give its exit status."""
    parser = build_parser()
    args = parser.parse_args(argv)
    try:
        return args.run(args) or 0
    except BrokenPipeError:
        # The reader of our output, `head` perhaps, has gone; so do we, quietly.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, TypeError, OSError, ImportError) as error:
        sys.stderr.write(f"gru-np {args.command}: {error}\n")
        return 2
    except FloatingPointError as error:  # training diverged: no fault of the arguments' form
        sys.stderr.write(f"gru-np {args.command}: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130


def build_parser() -> argparse.ArgumentParser:
    """Describe every command, with an example for each."""
    parser = argparse.ArgumentParser(
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

    sub = command(
        "train", train, "Train a language model; without --text, on Python's standard library.",
        "gru-np train --text book.txt --units 384 --epochs 8 --checkpoint book.safetensors",
    )  # fmt: skip
    sub.add_argument("--text", nargs="+", metavar="FILE", help="UTF-8 text to learn from")
    sub.add_argument(
        "--tokens", choices=["char", "word"], default="char", help="what a token is (char)"
    )
    sub.add_argument("--checkpoint", metavar="FILE", default=CHECKPOINT, help=f"({CHECKPOINT})")
    sub.add_argument("--resume", action="store_true", help="go on with the run in --checkpoint")
    sub.add_argument("--units", type=int, default=256, help="size of each GRU (256)")
    sub.add_argument("--layers", type=int, default=1, help="GRUs on top of each other (1)")
    sub.add_argument("--embedding", type=int, default=64, help="size of a token's vector (64)")
    sub.add_argument("--dropout", type=float, default=0.0, help="between layers (0)")
    sub.add_argument("--epochs", type=int, default=None, help="times over the text (1; own text 8)")
    sub.add_argument("--batch-size", type=int, default=32, help="streams read side by side (32)")
    sub.add_argument("--length", type=int, default=64, help="steps of truncated BPTT (64)")
    sub.add_argument("--learning-rate", type=float, default=4e-3, help="highest rate of Adam")
    sub.add_argument("--vocabulary", type=int, default=10_000, help="words kept (10000)")
    sub.add_argument("--validation", type=float, default=0.05, help="share of --text held out")
    sub.add_argument("--samples", type=int, default=8, help="samples printed on the way (8)")
    sub.add_argument("--seed", type=int, default=0, help="decides everything random (0)")

    sub = command(
        "generate", generate, "Continue a prompt with a trained model.",
        'gru-np generate book.safetensors --prompt "It was" --temperature 0.8 --length 500',
    )  # fmt: skip
    _add_checkpoint(sub)
    sub.add_argument("--prompt", default="", help="text to continue (none)")
    sub.add_argument("--length", type=int, default=500, help="tokens to write (500)")
    sub.add_argument("--temperature", type=float, default=0.8, help="0 always takes the likeliest")
    sub.add_argument("--top-k", type=int, help="choose among the k likeliest tokens")
    sub.add_argument("--top-p", type=float, help="choose among the likeliest, of this mass")
    sub.add_argument("--stop", action="append", metavar="TEXT", help="end before this text")
    sub.add_argument("--seed", type=int, help="the same seed gives the same text")

    sub = command(
        "next", next_tokens, "Show which tokens may come next, and how likely each is.",
        'gru-np next "def __init__(sel" --k 5',
    )  # fmt: skip
    sub.add_argument("context", metavar="TEXT", help="the text so far")
    sub.add_argument("--checkpoint", metavar="FILE", default=CHECKPOINT, help=f"({CHECKPOINT})")
    sub.add_argument("--k", type=int, default=10, help="how many tokens (10)")

    sub = command(
        "evaluate", evaluate, "Measure how well a model predicts a text.",
        "gru-np evaluate book.safetensors --text other_book.txt",
    )  # fmt: skip
    _add_checkpoint(sub)
    sub.add_argument("--text", nargs="+", metavar="FILE", help="UTF-8 text; else the held-out part")

    sub = command(
        "gates", lambda args: gates.run(args, _load), "Draw what the gates do as a text is read.",
        'gru-np gates book.safetensors --text "It was the best of times" --out gates.png',
    )  # fmt: skip
    _add_checkpoint(sub)
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
    sub.add_argument("--units", type=int, default=5, help="size of the GRU (5)")
    sub.add_argument("--seed", type=int, default=0)

    sub = command(
        "convert", convert, "Move a model between gru_np, PyTorch, Keras, ONNX.",
        "gru-np convert book.safetensors book.onnx",
    )  # fmt: skip
    sub.add_argument("source", metavar="A", help="the file to read")
    sub.add_argument("target", metavar="B", help="the file to write; its ending says what it is")

    sub = command(
        "export", export, "Write a model as one Python file that needs NumPy alone.",
        "gru-np export book.safetensors book_model.py",
    )  # fmt: skip
    _add_checkpoint(sub)
    sub.add_argument("target", metavar="FILE.py", help="the Python file to write")

    command(
        "warmup", warmup, "Compile every kernel now, into the disk cache, as for an image.",
        "gru-np warmup",
    )  # fmt: skip
    return parser


def _add_checkpoint(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "checkpoint", metavar="CHECKPOINT", nargs="?", default=CHECKPOINT,
        help=f"a model that `gru-np train` left ({CHECKPOINT})",
    )  # fmt: skip


# ---------------------------------------------------------------------------------------- train


def train(args: argparse.Namespace) -> int:
    """Train a language model, with samples on the way, and leave a checkpoint."""
    saved = None
    if args.resume:
        saved = Sequential.load(args.checkpoint)
        run = saved.extras.get("run")
        if run is None:
            raise ValueError(f"{args.checkpoint}: it was not left by `gru-np train`")
        vars(args).update(run)
    elif args.epochs is None:
        args.epochs = 8 if args.text else 1
    train_text, held_out, description = _corpus(args.text, args.validation)
    _say(f"Text: {description}")

    tokenizer = (
        text.tokenizer_of(saved)
        if saved is not None
        else text.CharTokenizer.fit(train_text, min_count=5, unknown="\ufffd")
        if args.tokens == "char" and len(train_text) > 10_000
        else text.CharTokenizer.fit(train_text, unknown="\ufffd")
        if args.tokens == "char"
        else text.WordTokenizer.fit(train_text, max_size=args.vocabulary)
    )
    x, y = _streams(tokenizer, train_text, args.batch_size)
    validation = _streams(tokenizer, held_out, args.batch_size)
    model = saved or _language_model(args, tokenizer, x.size)
    pieces = -(-x.shape[1] // args.length)
    model.summary()

    watch = _Watch(args.checkpoint, held_out, args.samples, pieces * args.epochs, args.tokens)
    keep = ModelCheckpoint(args.checkpoint, save_freq=max(pieces // 10, 1))
    model.fit(
        x, y, batch_size=len(x), epochs=args.epochs, tbptt=args.length, shuffle=False,
        validation_data=validation, callbacks=[watch, keep],
        resume=args.checkpoint if saved is not None else None,
    )  # fmt: skip
    if watch.stopped:
        _say(
            f"\nStopped. Everything is in {args.checkpoint}; go on with\n"
            f"  gru-np train --resume --checkpoint {args.checkpoint}"
        )
        return 130
    nats = model.history.history["val_loss"][-1]
    _say(f"\nHeld-out text: {_spell_nats(nats, args.tokens)}")
    _say(
        f"The model is in {args.checkpoint}; let it write with\n  gru-np generate {args.checkpoint}"
    )
    return 0


def _corpus(files: list[str] | None, share: float) -> tuple[str, str, str]:
    """Give the text to learn from, the text held out, and a line that says what they are."""
    if not files:
        return text.python_corpus()
    if not 0 < share < 1:
        raise ValueError(f"--validation must be between 0 and 1, got {share}")
    whole = "\n".join(text.read_text(file) for file in files)
    cut = min(int(len(whole) * (1 - share)), len(whole) - 2)
    if cut < 2:
        raise ValueError(f"{files[0]}: {len(whole)} characters are too few to learn from")
    return whole[:cut], whole[cut:], f"{', '.join(files)}, {len(whole):,} characters"


def _streams(tokenizer: Any, words: str, batch_size: int) -> tuple[Any, Any]:
    """Lay a text out as streams, fewer if it is short."""
    ids = tokenizer.encode(words)
    return text.stream(ids, max(1, min(batch_size, (len(ids) - 1) // 2)))


def _language_model(args: argparse.Namespace, tokenizer: Any, tokens: int) -> Sequential:
    """Build and compile the model that the arguments describe."""
    layers: list[Any] = [Embedding(tokenizer.vocab_size, args.embedding)]
    for _ in range(args.layers):
        layers += [GRU(args.units, return_sequences=True), Dropout(args.dropout)]
    layers.append(Dense(tokenizer.vocab_size, activation="softmax"))
    model = Sequential(layers, seed=args.seed, name="language model")
    steps = max(1, args.epochs * tokens // (args.batch_size * args.length))
    rate = CosineDecay(
        args.learning_rate / 20, steps, alpha=0.02,
        warmup_target=args.learning_rate, warmup_steps=max(1, steps // 50),
    )  # fmt: skip
    model.compile("sparse_categorical_crossentropy", Adam(rate, global_clipnorm=1.0))
    model.build((None, None))
    kept = ("text", "tokens", "epochs", "batch_size", "length", "validation", "samples")
    model.extras["run"] = {name: getattr(args, name) for name in kept}
    model.tokenizer = tokenizer
    return model


class _Watch(Callback):
    """Prints samples on the way; turns an interruption into a saved model and a clean end."""

    turn = 3

    def __init__(self, checkpoint: str, prompts: str, samples: int, batches: int, tokens: str):
        super().__init__()
        self.checkpoint = checkpoint
        self.prompts = prompts
        self.every = max(1, batches // samples) if samples > 0 else batches + 1
        self.tokens = tokens
        self.stopped = False
        self._handlers: dict[int, Any] = {}
        self._began = time.monotonic()

    def on_train_begin(self, logs: dict[str, float]) -> None:
        """Catch Ctrl-C and a polite request to end; a second one ends at once."""

        def stop(number: int, frame: Any) -> None:
            self.stopped = True
            signal.signal(number, self._handlers[number])

        for number in (signal.SIGINT, signal.SIGTERM):
            self._handlers[number] = signal.signal(number, stop)

    def on_train_end(self, logs: dict[str, float]) -> None:
        """Put the handlers back."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        """Stop if asked to; show a sample if it is time."""
        if self.stopped:
            self.model.save(self.checkpoint)
            self.model.stop_training = True
            return
        done = self.model.optimizer.iterations
        if done % self.every == 0:
            nats = logs["loss"]
            written = "".join(text.generate(self.model, "", 200, temperature=0.7, seed=done))
            _say(f"\n--- after {done} steps, {_spell_nats(nats, self.tokens)} ---\n{written}\n")


def _spell_nats(nats: float, tokens: str) -> str:
    if tokens == "char":
        return f"{nats:.3f} nats = {nats / math.log(2):.3f} bits per character"
    return f"{nats:.3f} nats per word, perplexity {math.exp(min(nats, 700)):.1f}"


def _say(line: str) -> None:
    """Print a line above the moving one, if there is one."""
    try:
        from tqdm import tqdm
    except ImportError:
        sys.stdout.write(line + "\n")
    else:
        tqdm.write(line, file=sys.stdout)
    sys.stdout.flush()


# ------------------------------------------------------------- generate, next, evaluate, gradcheck


def generate(args: argparse.Namespace) -> int:
    """Write text, piece by piece as it comes."""
    model = _load(args.checkpoint)
    pieces: Iterator[str] = text.generate(
        model, args.prompt, args.length, temperature=args.temperature, top_k=args.top_k,
        top_p=args.top_p, seed=args.seed, stop=args.stop,
    )  # fmt: skip
    sys.stdout.write(args.prompt)
    for piece in pieces:
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")
    return 0


def next_tokens(args: argparse.Namespace) -> int:
    """Print the likeliest next tokens with their probabilities."""
    for token, p in text.predict_next(_load(args.checkpoint), args.context, args.k):
        sys.stdout.write(f"{p:8.4f}  {token!r}\n")
    return 0


def evaluate(args: argparse.Namespace) -> int:
    """Print loss, perplexity and bits over a whole text, the state carried from start to end."""
    model = _load(args.checkpoint)
    run = model.extras.get("run", {})
    if args.text:
        words = "\n".join(text.read_text(file) for file in args.text)
    else:
        words = _corpus(run.get("text"), run.get("validation", 0.05))[1]
    x, y = text.stream(text.tokenizer_of(model).encode(words), 1)
    nats = model.evaluate(x, y, tbptt=256)
    _say(f"{x.size:,} tokens: {_spell_nats(nats, run.get('tokens', 'char'))}")
    return 0


def _load(path: str) -> Sequential:
    if not Path(path).exists():
        raise ValueError(f"{path}: there is no such file; `gru-np train` makes one")
    model = Sequential.load(path)
    text.tokenizer_of(model)
    return model


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
        _say(f"Reset {'after' if reset_after else 'before'} the product\n{report!r}\n")
        wrong += not report.ok
    return 1 if wrong else 0


# ------------------------------------------------------------------------ convert, export, warmup


def convert(args: argparse.Namespace) -> int:
    """Read one kind of file, write another; what cannot move exactly is refused."""
    model = interop.read(args.source)
    interop.write(model, args.target)
    _say(f"{args.target}: {model.count_params():,} parameters")
    return 0


def export(args: argparse.Namespace) -> int:
    """Write the model as one Python file."""
    interop.export_standalone(Sequential.load(args.checkpoint), args.target)
    _say(f"{args.target}: check it with\n  python {args.target}")
    return 0


def warmup(args: argparse.Namespace) -> int:
    """Fill the disk cache of compiled kernels."""
    began = time.perf_counter()
    if not kernels.warmup():
        raise ValueError("numba is not installed, or GRU_NP_KERNELS is 0: nothing to compile")
    _say(f"All kernels are ready, after {time.perf_counter() - began:.1f} s")
    return 0
