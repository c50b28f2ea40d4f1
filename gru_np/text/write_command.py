"""gru-np generate, next and evaluate: a language model writes, is asked, is judged."""

import argparse
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gru_np import _console, _options, text
from gru_np.model import Sequential

CHECKPOINT = "gru-np.safetensors"
SETTINGS = {  # of `text.generate`, by their names on the command line
    "length": _options.integer(0, 10**9),
    "temperature": _options.number(0, 1000),
    "top-k": _options.integer(1),
    "top-p": _options.number(0, 1, "("),
    "min-p": _options.number(0, 1),
    "repetition-penalty": _options.number(0, 1000, "("),
    "seed": _options.seed,
}
# Of the run that made a model, what it takes to judge it: see `_options.take_run`.
OF_THE_RUN: dict[str, Any] = {"tokens": ("char", "word"), "validation": _options.share}
HELP = """\
Write a beginning and get its continuation; an empty line goes on from there. Ctrl-C ends an answer.
  :temperature 0.5    changes a setting: {}
  :settings           shows them
  :quit               ends, as Ctrl-D does
"""


def load(path: str) -> Sequential:
    """Load a language model, with its tokenizer."""
    if not Path(path).exists():
        raise ValueError(f"{path}: there is no such file; `gru-np train` makes one")
    model = Sequential.load(path)
    text.tokenizer_of(model)
    return model


def add_checkpoint(sub: argparse.ArgumentParser) -> None:
    """Describe the argument that names a model."""
    sub.add_argument(
        "checkpoint", metavar="CHECKPOINT", nargs="?", default=CHECKPOINT, type=_options.Source,
        help=f"a model that `gru-np train` left ({CHECKPOINT})",
    )  # fmt: skip


def corpus(files: list[str] | None, share: float) -> tuple[str, str, str]:
    """Give the text to learn from, the text held out, and a line that says what they are."""
    if not files:
        return text.python_corpus()
    whole = "\n".join(text.read_text(file) for file in files)
    cut = min(int(len(whole) * (1 - share)), len(whole) - 2)
    if cut < 2:
        raise ValueError(f"{files[0]}: {len(whole)} characters are too few to learn from")
    return whole[:cut], whole[cut:], f"{', '.join(files)}, {len(whole):,} characters"


def spell_nats(nats: float, tokens: str) -> str:
    """Write a loss as people of either kind of model do."""
    if tokens == "char":
        return f"{nats:.3f} nats = {nats / math.log(2):.3f} bits per character"
    return f"{nats:.3f} nats per word, perplexity {math.exp(min(nats, 700)):.1f}"


# ------------------------------------------------------------------------------------- generate


def generate_arguments(sub: argparse.ArgumentParser) -> None:
    """Describe the arguments of gru-np generate."""
    add_checkpoint(sub)
    sub.add_argument(
        "--prompt", action="append", metavar="TEXT",
        help="text to continue (none); several are continued together",
    )  # fmt: skip
    sub.add_argument(
        "--interactive", action="store_true", help="continue what you type, line by line"
    )
    sub.add_argument("--length", type=SETTINGS["length"], default=500, help="tokens to write (500)")
    sub.add_argument("--stop", action="append", metavar="TEXT", help="end before this text")
    sub.add_argument("--seed", type=SETTINGS["seed"], help="the same seed gives the same text")

    choice = sub.add_argument_group("how a token is chosen")
    choice.add_argument(
        "--temperature",
        type=SETTINGS["temperature"],
        default=0.8,
        help="0 takes the likeliest (0.8)",
    )
    choice.add_argument("--top-k", type=SETTINGS["top-k"], help="among the k likeliest")
    choice.add_argument(
        "--top-p", type=SETTINGS["top-p"], help="among the likeliest, of this mass together"
    )
    choice.add_argument(
        "--min-p", type=SETTINGS["min-p"], help="among those of this share of the likeliest"
    )
    choice.add_argument(
        "--repetition-penalty",
        type=SETTINGS["repetition-penalty"],
        default=1.0,
        help="above 1: rarely twice the same (1)",
    )
    choice.add_argument("--allowed", metavar="CHARACTERS", help="write with this alphabet only")
    choice.add_argument("--forbidden", action="append", metavar="TOKEN", help="never write this")

    beams = sub.add_argument_group("the likeliest texts, by beam search, instead")
    beams.add_argument(
        "--beams", type=_options.integer(1, 4096), metavar="N",
        help="search with so many, and show them",
    )  # fmt: skip
    beams.add_argument(
        "--length-norm",
        type=_options.number(0, 100),
        default=0.0,
        help="0 likes short texts, 1 compares means (0)",
    )
    beams.add_argument("--end", action="append", metavar="TOKEN", help="a text may end with this")

    sub.add_argument(
        "--log-probabilities", action="store_true", help="then list the tokens and their log p"
    )


def generate(args: argparse.Namespace) -> int:
    """Write text, piece by piece as it comes."""
    model = load(args.checkpoint)
    voice = {"allowed": args.allowed, "forbidden": args.forbidden or ()}
    options = {name.replace("-", "_"): vars(args)[name.replace("-", "_")] for name in SETTINGS}
    options |= {"stop": args.stop, **voice}
    prompts = args.prompt or [""]
    if args.interactive:
        if args.prompt or args.beams is not None:
            raise ValueError("--interactive goes with neither --prompt nor --beams")
        return _converse(model, options)
    if args.beams is None and args.end:
        raise ValueError("--end is for --beams; a sampled text ends before --stop")
    if args.beams is not None and args.stop:
        raise ValueError("--stop is not for --beams; a text found by them ends with --end")
    if args.beams is not None:
        for prompt in prompts:
            found = text.generate_beams(
                model, prompt, args.length, args.beams, args.length_norm, args.end or (), **voice
            )
            for beam in found:
                _deliver(f"{sum(beam.log_probabilities):9.3f} nats  {prompt}{beam.text}")
                _list(model, beam, args.log_probabilities)
        return 0
    if len(prompts) > 1:
        began = time.perf_counter()
        written = text.generate_batch(model, prompts, **options)
        for prompt, one in zip(prompts, written, strict=True):
            _deliver(f"--- {prompt!r}\n{prompt}{one.text}\n")
            _list(model, one, args.log_probabilities)
        _tell_speed(sum(len(one.ids) for one in written), began)
        return 0
    pieces = text.generate(model, prompts[0], **options)
    _console.deliver(prompts[0])
    _list(model, _stream(pieces), args.log_probabilities)
    return 0


def _stream(pieces: Iterator[text.Piece]) -> text.Generated:
    """Write pieces as they come, then how fast they came; give them as one."""
    began = time.perf_counter()
    ids: list[int] = []
    log_p: list[float] = []
    for piece in pieces:
        _console.deliver(piece)
        ids += piece.ids
        log_p += piece.log_probabilities
    _console.deliver("\n")
    _tell_speed(len(ids), began)
    return text.Generated("", tuple(ids), tuple(log_p))


def _tell_speed(tokens: int, began: float) -> None:
    """Say on standard error how fast it was: standard output has the text alone."""
    seconds = time.perf_counter() - began
    speed = tokens / max(seconds, 1e-9)
    _console.remark(f"[{tokens:,} tokens in {seconds:.2f} s, {speed:,.0f} tokens/s]")


def _list(model: Any, written: text.Generated, wanted: bool) -> None:
    """Print every token with its log-probability, and their mean."""
    if not wanted:
        return
    decode = text.tokenizer_of(model).decode
    for i, log_p in zip(written.ids, written.log_probabilities, strict=True):
        _deliver(f"{log_p:9.3f}  {decode([i])!r}")
    mean = sum(written.log_probabilities) / max(len(written.ids), 1)
    _deliver(f"{mean:9.3f}  nats per token, {len(written.ids)} tokens")


def _converse(model: Any, options: dict[str, Any]) -> int:
    """Continue what is typed, until it ends."""
    _console.deliver(HELP.format(", ".join(SETTINGS)))
    so_far = ""
    while True:
        _console.deliver("> ")
        line = "" if sys.stdin is None else sys.stdin.readline()
        if not line or line.strip() == ":quit":
            _console.deliver("\n" if not line else "")
            return 0
        line = line.rstrip("\r\n")
        heard: list[str] = []
        try:
            if line.startswith(":"):
                _set(line[1:], options)
                continue
            so_far = line or so_far
            pieces = text.generate(model, so_far, **options)
            _console.deliver(so_far if line else "")
            _stream(_noted(pieces, heard))
        except (ValueError, TypeError) as error:
            _console.deliver(f"{error}\n")
            continue
        except KeyboardInterrupt:
            _console.deliver("\n")
        so_far += "".join(heard)
        if options["seed"] is not None:
            options["seed"] += 1  # the same again would be no answer


def _deliver(line: str) -> None:
    _console.deliver(line + "\n")


def _noted(pieces: Iterator[text.Piece], heard: list[str]) -> Iterator[text.Piece]:
    for piece in pieces:
        heard.append(piece)
        yield piece


def _set(command: str, options: dict[str, Any]) -> None:
    """Change a setting, `NAME VALUE`, or show all."""
    name, _, value = command.partition(" ")
    if name == "settings":
        shown = (f"{one} {options[one.replace('-', '_')]}" for one in SETTINGS)
        _console.deliver(", ".join(shown) + "\n")
        return
    kind = SETTINGS.get(name)
    if kind is None:
        raise ValueError(f"there is no setting {name!r}; there are {', '.join(SETTINGS)}")
    try:
        options[name.replace("-", "_")] = None if value.strip() == "none" else kind(value)
    except argparse.ArgumentTypeError as error:
        raise ValueError(f"{name} {error}") from None


# ----------------------------------------------------------------------------- next, evaluate


def next_arguments(sub: argparse.ArgumentParser) -> None:
    """Describe the arguments of gru-np next."""
    sub.add_argument("context", metavar="TEXT", help="the text so far")
    sub.add_argument("--checkpoint", metavar="FILE", default=CHECKPOINT, help=f"({CHECKPOINT})")
    sub.add_argument("--k", type=_options.integer(1), default=10, help="how many tokens (10)")


def next_tokens(args: argparse.Namespace) -> int:
    """Print the likeliest next tokens with their probabilities."""
    for token, p in text.predict_next(load(args.checkpoint), args.context, args.k):
        _console.deliver(f"{p:8.4f}  {token!r}\n")
    return 0


def evaluate_arguments(sub: argparse.ArgumentParser) -> None:
    """Describe the arguments of gru-np evaluate."""
    add_checkpoint(sub)
    sub.add_argument(
        "--text", nargs="+", metavar="FILE",
        help="UTF-8 text; else what was held out of Python's standard library",
    )  # fmt: skip
    sub.add_argument(
        "--held-out", action="store_true",
        help="of --text only the end, as much as `gru-np train` held out",
    )  # fmt: skip


def evaluate(args: argparse.Namespace) -> int:
    """Print loss, perplexity and bits over a whole text, the state carried from start to end."""
    model = load(args.checkpoint)
    run = model.extras.get("run", {"tokens": "char", "validation": 0.05, "text": None})
    settings = _options.take_run(args.checkpoint, run, OF_THE_RUN)
    if args.text is None and (args.held_out or run.get("text") is not None):
        raise ValueError(
            "--text must name what to read, as a model's file may not; with --held-out it is only "
            "the end of it that training left out"
        )
    if args.text and not args.held_out:
        words = "\n".join(text.read_text(file) for file in args.text)
    else:
        words = corpus(args.text, settings["validation"])[1]
    tokenizer = text.tokenizer_of(model)
    x, y = text.stream(tokenizer.encode(words), 1)
    nats = model.measure(x, y, tbptt=256, title="Reading")["loss"]
    _deliver(f"{x.size:,} tokens: {spell_nats(nats, settings['tokens'])}")
    if strangers := int(np.isin(y, tokenizer.special_ids).sum()):
        _deliver(f"{strangers:,} of them are not in the vocabulary and count as one unknown token")
    return 0
