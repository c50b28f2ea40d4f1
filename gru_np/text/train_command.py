"""gru-np train: a language model from text files, on a run that survives interruptions."""

import argparse
import hashlib
import math
import os
import shlex
from typing import Any

from gru_np import _options, text
from gru_np._aliases import Shape
from gru_np._console import say
from gru_np.callbacks import (
    AverageWeights,
    Callback,
    JSONLogger,
    ModelCheckpoint,
    SkipNonFinite,
    StopOnSignal,
    TrainingHealth,
)
from gru_np.callbacks.saving import literal
from gru_np.layers import GRU, Dense, Dropout, Embedding
from gru_np.model import Sequential
from gru_np.optimizers import AdamW
from gru_np.schedules import CosineDecay
from gru_np.text.write_command import CHECKPOINT, corpus, spell_nats

SUMMARY = "Train a language model; without --text, on Python's standard library."
EXAMPLE = "gru-np train --text book.txt --units 384 --epochs 8 --checkpoint book.safetensors"

# Settings of the run beside those of the model, which `--resume` takes from the checkpoint. Paths
# are not among them: a file must not say what is read or overwritten.
OF_THE_RUN: dict[str, Any] = {
    "tokens": ("char", "word"),
    "epochs": _options.integer(1, 10**6),
    "batch_size": _options.integer(1, 10**6),
    "length": _options.integer(1, 10**6),
    "validation": _options.share,
    "samples": _options.integer(0, 10**6),
    "average": (_options.rate, None),
    "skip_nan": (False, True),
}
PATHS = ("text", "log", "best")  # noted all the same, to ask for those that a resumed run needs


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """Describe the arguments of gru-np train."""
    sub.add_argument(
        "--text", nargs="+", metavar="FILE", type=_options.Source, help="UTF-8 text to learn from"
    )
    sub.add_argument(
        "--tokens", choices=["char", "word"], default="char", help="what a token is (char)"
    )
    sub.add_argument(
        "--vocabulary", type=_options.integer(1, 10**7), default=10_000, help="words kept (10000)"
    )
    sub.add_argument(
        "--validation", type=OF_THE_RUN["validation"], default=0.05, help="share of --text held out"
    )
    sub.add_argument("--seed", type=_options.seed, default=0, help="decides everything random (0)")

    model = sub.add_argument_group("the model")
    model.add_argument("--units", type=_options.size, default=256, help="size of each GRU (256)")
    model.add_argument(
        "--layers", type=_options.depth, default=1, help="GRUs on top of each other (1)"
    )
    model.add_argument(
        "--embedding", type=_options.size, default=64, help="size of a token's vector (64)"
    )
    model.add_argument(
        "--vectors",
        metavar="FILE",
        type=_options.Source,
        help="first vectors of words: word2vec, GloVe or FastText text",
    )
    model.add_argument(
        "--tied", action="store_true", help="share embedding and output; --embedding is --units"
    )

    training = sub.add_argument_group("training")
    training.add_argument(
        "--epochs", type=OF_THE_RUN["epochs"], help="times over the text (1; own text 8)"
    )
    training.add_argument(
        "--batch-size", type=OF_THE_RUN["batch_size"], default=32, help="streams side by side (32)"
    )
    training.add_argument(
        "--length", type=OF_THE_RUN["length"], default=64, help="steps of truncated BPTT (64)"
    )
    training.add_argument(
        "--learning-rate",
        type=_options.number(0, 1000, "("),
        default=4e-3,
        help="highest rate of Adam",
    )
    training.add_argument("--dropout", type=_options.rate, default=0.0, help="between layers (0)")
    training.add_argument(
        "--recurrent-dropout",
        type=_options.rate,
        default=0.0,
        help="of the state, one mask over time (0)",
    )
    training.add_argument(
        "--embedding-dropout", type=_options.rate, default=0.0, help="of whole tokens (0)"
    )
    training.add_argument(
        "--weight-decay", type=_options.number(0, 1000), default=0.0, help="as AdamW (0)"
    )
    training.add_argument(
        "--average",
        type=_options.rate,
        metavar="M",
        help="end with an average of weights, momentum M",
    )

    run = sub.add_argument_group("the run")
    run.add_argument(
        "--checkpoint",
        metavar="FILE",
        type=_options.output,
        default=CHECKPOINT,
        help=f"({CHECKPOINT})",
    )
    run.add_argument(
        "--resume", action="store_true", help="go on with the run in --checkpoint, as it was set up"
    )
    run.add_argument(
        "--best",
        metavar="FILE",
        type=_options.output,
        help="keep the model of the best epoch here, too",
    )
    run.add_argument(
        "--log",
        metavar="FILE",
        type=_options.output,
        help="a JSON line an epoch, with gradient norms and stuck gates",
    )
    run.add_argument(
        "--skip-nan", action="store_true", help="leave out a step that is NaN, rather than stop"
    )
    run.add_argument(
        "--samples", type=OF_THE_RUN["samples"], default=8, help="samples printed on the way (8)"
    )


def run(args: argparse.Namespace) -> int:
    """Train a language model, with samples on the way, and leave a checkpoint."""
    saved = _resumed(args) if args.resume else None
    if args.epochs is None:
        args.epochs = 8 if args.text else 1
    train_text, held_out, description = corpus(args.text, args.validation)
    args.digest = hashlib.sha256(f"{train_text}\0{held_out}".encode()).hexdigest()
    if saved is not None and saved.extras["run"].get("digest", args.digest) != args.digest:
        raise ValueError(f"{args.checkpoint}: its run learns from another text than {description}")
    say(f"Text: {description}")

    tokenizer = _tokenizer(args, train_text) if saved is None else text.tokenizer_of(saved)
    say(f"Vocabulary: {tokenizer.vocab_size:,} {args.tokens}s")
    x, y = _streams(tokenizer, train_text, args.batch_size)
    validation = _streams(tokenizer, held_out, args.batch_size)
    model = saved or _language_model(args, tokenizer, x.size)
    model.summary()

    pieces = -(-x.shape[1] // args.length)
    stop = StopOnSignal(args.checkpoint)
    model.fit(
        x, y, batch_size=len(x), epochs=args.epochs, tbptt=args.length, shuffle=False,
        validation_data=validation, callbacks=[*_callbacks(args, pieces), stop],
        resume=args.checkpoint if saved is not None else None,
    )  # fmt: skip
    if stop.stopped:
        say(f"\nStopped. Everything is in {args.checkpoint}; go on with\n  {_to_go_on(args)}")
        return 128 + stop.stopped
    scores = model.history.history["val_loss"]
    say(f"\nHeld-out text: {spell_nats(scores[-1], args.tokens)}")
    if args.best:
        say(f"The best epoch, {scores.index(min(scores)) + 1}, is in {args.best}")
    say(
        f"The model is in {args.checkpoint}; let it write with\n"
        f"  gru-np generate {shlex.quote(args.checkpoint)}"
    )
    return 0


def _to_go_on(args: argparse.Namespace) -> str:
    """Give the command that resumes the run."""
    words = ["gru-np", "train", "--resume", "--checkpoint", args.checkpoint]
    for name in PATHS:
        if given := getattr(args, name):
            words += [f"--{name}", *([given] if isinstance(given, str) else given)]
    return shlex.join(words)


def _resumed(args: argparse.Namespace) -> Sequential:
    """Load the run that is to go on, and take its settings; paths are the command line's."""
    saved = Sequential.load(args.checkpoint)
    noted = saved.extras.get("run")
    if noted is None:
        raise ValueError(f"{args.checkpoint}: it was not left by `gru-np train`")
    settings = _options.take_run(args.checkpoint, noted, OF_THE_RUN)
    if args.epochs not in (None, settings["epochs"]):
        raise ValueError(
            f"--resume goes on with the epochs of the run, {settings['epochs']}; leave --epochs out"
        )
    for name in PATHS:
        given, before = getattr(args, name), noted.get(name)
        if given is None and before is not None:
            raise ValueError(
                f"--resume takes no path from a file: the run had --{name}, name it again "
                f"(it was {before!r:.200})"
            )
        if given is not None and before is None:
            raise ValueError(f"--resume goes on with a run that had no --{name}; leave it out")
    vars(args).update(settings)
    return saved


def _tokenizer(args: argparse.Namespace, train_text: str) -> Any:
    if args.tokens == "word":
        return text.WordTokenizer.fit(train_text, max_size=args.vocabulary)
    if args.vectors:
        raise ValueError("--vectors are those of words; add --tokens word")
    # In a text of some size a character that is there four times teaches nothing.
    least = 5 if len(train_text) > 10_000 else 1
    return text.CharTokenizer.fit(train_text, min_count=least, unknown="\ufffd")


def _streams(tokenizer: Any, words: str, batch_size: int) -> tuple[Any, Any]:
    """Lay a text out as streams, fewer if it is short."""
    ids = tokenizer.encode(words)
    return text.stream(ids, max(1, min(batch_size, (len(ids) - 1) // 2)))


def _language_model(args: argparse.Namespace, tokenizer: Any, tokens: int) -> Sequential:
    """Build and compile the model that the arguments describe."""
    size, weights = args.units if args.tied else args.embedding, None
    if args.vectors:
        vectors = text.load_vectors(args.vectors, tokenizer, seed=args.seed)
        say(f"Vectors: {int(vectors.found.sum()):,} of {len(vectors.found):,} words have one")
        size, weights = vectors.weights.shape[1], vectors.weights
        if args.tied and size != args.units:
            raise ValueError(f"--tied needs --units {size}, the size of the vectors")
    V = tokenizer.vocab_size
    layers: list[Any] = [Embedding(V, size, weights=weights, dropout=args.embedding_dropout)]
    for _ in range(args.layers):
        gru = GRU(args.units, return_sequences=True, recurrent_dropout=args.recurrent_dropout)
        layers += [gru, Dropout(args.dropout)]
    layers.append(Dense(V, activation="softmax", tied_to="embedding" if args.tied else None))
    model = Sequential(layers, seed=args.seed, name="language model")
    steps = max(1, args.epochs * tokens // (args.batch_size * args.length))
    rate = CosineDecay(
        args.learning_rate / 20, steps, alpha=0.02,
        warmup_target=args.learning_rate, warmup_steps=max(1, steps // 50),
    )  # fmt: skip
    # Biases are few and may be large: they do not decay.
    optimizer = AdamW(rate, weight_decay=args.weight_decay, global_clipnorm=1.0, no_decay=["/b"])
    model.compile("sparse_categorical_crossentropy", optimizer)
    _require_memory(model)
    model.build((None, None))
    kept = (*OF_THE_RUN, *PATHS, "digest")
    model.extras["run"] = {name: getattr(args, name) for name in kept}
    model.tokenizer = tokenizer
    return model


def _require_memory(model: Sequential) -> None:
    """Refuse a model that would not fit into this machine, before any of it is drawn."""
    numbers = 0
    shape: Shape = (None, None)
    for layer in model.layers:
        numbers += sum(math.prod(p.shape) for p in layer.parameters(shape).values())
        shape = layer.output_shape(shape)
    needed = 4 * numbers * model.dtype.itemsize  # weights, gradients, Adam's two averages
    there = memory_of_the_machine()
    if there is not None and needed > there:
        raise ValueError(
            f"{numbers:,} parameters need {needed / 1e9:,.1f} GB to be trained, and this machine "
            f"has {there / 1e9:,.1f} GB of memory; lower --units, --layers or --embedding"
        )


def memory_of_the_machine() -> int | None:
    """Give the bytes of memory, None where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows; another name there
        return None


def _callbacks(args: argparse.Namespace, pieces: int) -> list[Callback]:
    """Give what looks on and keeps the run safe: the same for a run and for its resumption."""
    callbacks: list[Callback] = [_Samples(args.samples, pieces * args.epochs, args.tokens)]
    if args.average is not None:
        callbacks.append(AverageWeights(args.average))
    if args.skip_nan:
        callbacks.append(SkipNonFinite())
    if args.log:
        callbacks += [TrainingHealth(), JSONLogger(args.log, every=max(pieces // 10, 1))]
    if args.best:
        callbacks.append(ModelCheckpoint(literal(args.best), save_best_only=True))
    often = max(pieces // 10, 1)
    return [*callbacks, ModelCheckpoint(literal(args.checkpoint), save_freq=often)]


class _Samples(Callback):
    """Let the model write now and then."""

    def __init__(self, samples: int, batches: int, tokens: str):
        super().__init__()
        self.every = max(1, batches // samples) if samples > 0 else batches + 1
        self.tokens = tokens

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        """Show a sample if it is time."""
        done = self.model.optimizer.iterations
        if done % self.every == 0:
            written = "".join(text.generate(self.model, "", 200, temperature=0.7, seed=done))
            nats = spell_nats(logs["loss"], self.tokens)
            say(f"\n--- after {done} steps, {nats} ---\n{written}\n")
