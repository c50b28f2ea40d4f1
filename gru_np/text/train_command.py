"""gru-np train: a language model from text files, on a run that survives interruptions."""

import argparse
import math
from typing import Any

from gru_np import text
from gru_np.callbacks import (
    AverageWeights,
    Callback,
    JSONLogger,
    ModelCheckpoint,
    SkipNonFinite,
    StopOnSignal,
    TrainingHealth,
)
from gru_np.layers import GRU, Dense, Dropout, Embedding
from gru_np.model import Sequential
from gru_np.optimizers import AdamW
from gru_np.schedules import CosineDecay
from gru_np.text.write_command import CHECKPOINT, corpus, say, spell_nats

SUMMARY = "Train a language model; without --text, on Python's standard library."
EXAMPLE = "gru-np train --text book.txt --units 384 --epochs 8 --checkpoint book.safetensors"

# Settings of the run beside those of the model, which `--resume` takes from the checkpoint.
OF_THE_RUN = (
    "text", "tokens", "epochs", "batch_size", "length", "validation", "samples", "average", "best",
    "log", "skip_nan",
)  # fmt: skip


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """Describe the arguments of gru-np train."""
    sub.add_argument("--text", nargs="+", metavar="FILE", help="UTF-8 text to learn from")
    sub.add_argument(
        "--tokens", choices=["char", "word"], default="char", help="what a token is (char)"
    )
    sub.add_argument("--vocabulary", type=int, default=10_000, help="words kept (10000)")
    sub.add_argument("--validation", type=float, default=0.05, help="share of --text held out")
    sub.add_argument("--seed", type=int, default=0, help="decides everything random (0)")

    model = sub.add_argument_group("the model")
    model.add_argument("--units", type=int, default=256, help="size of each GRU (256)")
    model.add_argument("--layers", type=int, default=1, help="GRUs on top of each other (1)")
    model.add_argument("--embedding", type=int, default=64, help="size of a token's vector (64)")
    model.add_argument(
        "--vectors", metavar="FILE", help="first vectors of words: word2vec, GloVe or FastText text"
    )
    model.add_argument(
        "--tied", action="store_true", help="share embedding and output; --embedding is --units"
    )

    training = sub.add_argument_group("training")
    training.add_argument(
        "--epochs", type=int, default=None, help="times over the text (1; own text 8)"
    )
    training.add_argument("--batch-size", type=int, default=32, help="streams side by side (32)")
    training.add_argument("--length", type=int, default=64, help="steps of truncated BPTT (64)")
    training.add_argument("--learning-rate", type=float, default=4e-3, help="highest rate of Adam")
    training.add_argument("--dropout", type=float, default=0.0, help="between layers (0)")
    training.add_argument(
        "--recurrent-dropout", type=float, default=0.0, help="of the state, one mask over time (0)"
    )
    training.add_argument(
        "--embedding-dropout", type=float, default=0.0, help="of whole tokens (0)"
    )
    training.add_argument("--weight-decay", type=float, default=0.0, help="as AdamW (0)")
    training.add_argument(
        "--average", type=float, metavar="M", help="end with an average of weights, momentum M"
    )

    run = sub.add_argument_group("the run")
    run.add_argument("--checkpoint", metavar="FILE", default=CHECKPOINT, help=f"({CHECKPOINT})")
    run.add_argument(
        "--resume", action="store_true", help="go on with the run in --checkpoint, as it was set up"
    )
    run.add_argument("--best", metavar="FILE", help="keep the model of the best epoch here, too")
    run.add_argument(
        "--log", metavar="FILE", help="a JSON line an epoch, with gradient norms and stuck gates"
    )
    run.add_argument(
        "--skip-nan", action="store_true", help="leave out a step that is NaN, rather than stop"
    )
    run.add_argument("--samples", type=int, default=8, help="samples printed on the way (8)")


def run(args: argparse.Namespace) -> int:
    """Train a language model, with samples on the way, and leave a checkpoint."""
    saved = _resumed(args) if args.resume else None
    if args.epochs is None:
        args.epochs = 8 if args.text else 1
    _require_numbers(args)
    train_text, held_out, description = corpus(args.text, args.validation)
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
        say(
            f"\nStopped. Everything is in {args.checkpoint}; go on with\n"
            f"  gru-np train --resume --checkpoint {args.checkpoint}"
        )
        return 128 + stop.stopped
    scores = model.history.history["val_loss"]
    say(f"\nHeld-out text: {spell_nats(scores[-1], args.tokens)}")
    if args.best:
        say(f"The best epoch, {scores.index(min(scores)) + 1}, is in {args.best}")
    say(
        f"The model is in {args.checkpoint}; let it write with\n  gru-np generate {args.checkpoint}"
    )
    return 0


def _require_numbers(args: argparse.Namespace) -> None:
    """Refuse counts and rates without a meaning by the names they have here."""
    counts = {"epochs": 1, "batch_size": 1, "length": 1, "layers": 1, "vocabulary": 1, "seed": 0}
    for name, least in counts.items():
        number = getattr(args, name)
        if number < least:
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"{option} must be at least {least}, got {number}")
    if not 0 < args.learning_rate < math.inf:
        raise ValueError(f"--learning-rate must be above 0 and finite, got {args.learning_rate}")
    if not 0 < args.validation < 1:
        raise ValueError(f"--validation must be between 0 and 1, got {args.validation}")


def _resumed(args: argparse.Namespace) -> Sequential:
    """Load the run that is to go on, and take its settings."""
    saved = Sequential.load(args.checkpoint)
    run = saved.extras.get("run")
    if run is None:
        raise ValueError(f"{args.checkpoint}: it was not left by `gru-np train`")
    for name in ("text", "epochs"):  # whose defaults are None
        if getattr(args, name) not in (None, run[name]):
            raise ValueError(
                f"--resume goes on with the {name} of the run, {run[name]}; leave --{name} out"
            )
    vars(args).update(run)
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
    model.build((None, None))
    model.extras["run"] = {name: getattr(args, name) for name in OF_THE_RUN}
    model.tokenizer = tokenizer
    return model


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
        callbacks.append(ModelCheckpoint(args.best, save_best_only=True))
    return [*callbacks, ModelCheckpoint(args.checkpoint, save_freq=max(pieces // 10, 1))]


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
