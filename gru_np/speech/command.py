"""What is behind `gru-np transcribe` and `gru-np train-speech`.

Each command is a pair: `..._arguments` describes its options to a parser, `..._run` does the work,
writes to standard output, and leaves bad input to raise ValueError, whose message is one sentence.
"""

import argparse
import time
from typing import Any

import numpy as np

from gru_np import _console, _options
from gru_np.speech import dialling
from gru_np.speech.alphabet import UNITS, Alphabet
from gru_np.speech.audio import AudioFile, read_audio
from gru_np.speech.corpus import TABLE, Utterance, read_corpus, split_corpus
from gru_np.speech.errors import error_rates
from gru_np.speech.features import KINDS, Features
from gru_np.speech.language import load_language_model
from gru_np.speech.plots import plot_posteriors
from gru_np.speech.transcriber import Training, Transcriber

CHECKPOINT = "speech.safetensors"
BEAM = 16  # prefixes, where a language model is given and no number
# Settings of a run beside those of the model, which `--resume` takes from the file. The name of the
# table is not among them: a file must not say what is read.
OF_THE_RUN: dict[str, Any] = {
    "validation": _options.number(0, 1, ")"),
    "seed": _options.seed,
    "epochs": _options.integer(1, 10**6),
    "batch_size": _options.integer(1, 10**6),
    "learning_rate": _options.number(0, 1000, "("),
    "noise": _options.number(0, 1000),
    "augment": (False, True),
}


# ------------------------------------------------------------------------------------ transcribe


def transcribe_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options of gru-np transcribe.

    Examples
    --------
    >>> import argparse
    >>> from gru_np.speech.command import transcribe_arguments
    >>> parser = argparse.ArgumentParser()
    >>> transcribe_arguments(parser)
    >>> parser.parse_args(["call.wav", "--times"]).times
    True
    """
    add = parser.add_argument
    add(
        "audio",
        nargs="*",
        metavar="FILE",
        type=_options.Source,
        help="sound files; none runs the demonstration",
    )
    add("--model", metavar="FILE", type=_options.Source, default=CHECKPOINT, help=f"({CHECKPOINT})")
    add("--demo", action="store_true", help="learn dialling tones, transcribe an unseen number")
    add("--times", action="store_true", help="show when each word was said, in seconds")
    add(
        "--beam", type=_options.integer(1, 4096), metavar="N",
        help="search with N prefixes; else the best path",
    )  # fmt: skip
    add("--language-model", metavar="FILE", help="that gru-np train left, weighs the search")
    add("--weight", type=_options.number(0, 1000), default=0.5, help="of the language model (0.5)")
    add("--stream", action="store_true", help="write while reading, as for live sound")
    add(
        "--plot", type=_options.picture, metavar="PNG",
        help="draw the posteriors over the spectrogram of one file",
    )  # fmt: skip
    add("--seed", type=_options.seed, default=0, help="of the demonstration (0)")


def transcribe_run(args: argparse.Namespace) -> int:
    """Run gru-np transcribe.

    Examples
    --------
    >>> import argparse
    >>> from gru_np.speech.command import transcribe_arguments, transcribe_run
    >>> parser = argparse.ArgumentParser()
    >>> transcribe_arguments(parser)
    >>> transcribe_run(parser.parse_args(["a.wav", "--model", "missing.safetensors"]))
    Traceback (most recent call last):
        ...
    gru_np.checkpoint.CheckpointError: missing.safetensors: cannot be read: No such file or \
directory
    """
    if args.demo or not args.audio:
        return demo(args.seed, args.plot)
    transcriber = Transcriber.load(args.model)
    if args.plot and len(args.audio) != 1:
        raise ValueError(f"--plot draws one file, got {len(args.audio)}")
    if args.stream and (args.beam is not None or args.language_model):
        raise ValueError(
            "--stream writes as it reads and cannot search; leave out --beam and --language-model"
        )
    search = _search(args, transcriber)
    for path in args.audio:
        name = f"{path}: " if len(args.audio) > 1 else ""
        if args.stream:
            _console.deliver(name)
            transcript = _stream(transcriber, path)
        else:
            transcript = transcriber.transcribe(path, **search)
            _console.say(name + transcript.text)
        if args.times:
            for word in transcript.words:
                _console.say(f"  {word.begin:8.2f} {word.end:8.2f}  {word.text}")
    if args.plot:
        _plot(transcriber, args.audio[0], args.plot)
    return 0


def _search(args: argparse.Namespace, transcriber: Transcriber) -> dict[str, Any]:
    """Give the settings of the search that the arguments ask for; none for the best path."""
    if args.language_model:
        language_model = load_language_model(args.language_model, transcriber.alphabet)
        beam_width = BEAM if args.beam is None else args.beam
        return {
            "beam_width": beam_width,
            "language_model": language_model,
            "weight": args.weight,
        }
    return {} if args.beam is None else {"beam_width": args.beam}


def _stream(transcriber: Transcriber, path: Any) -> Any:
    """Write the text of a file piece by piece, as it becomes known; the latency beside it."""
    stream = transcriber.stream()
    delay = f"(a time step is decided {stream.latency * 1000:.0f} ms after it began)"
    _console.remark(delay)
    with AudioFile(path) as file:
        from gru_np.speech.audio import require_rate

        require_rate(path, file.rate, transcriber.features.rate)
        for block in file.blocks(0.25):
            _console.deliver(stream.feed(block))
    _console.say(stream.finish())
    return stream.transcript


def _plot(transcriber: Transcriber, sound: Any, path: str) -> None:
    axes = plot_posteriors(transcriber, sound)
    axes[0].figure.savefig(path, dpi=150)
    _console.say(f"The posteriors are drawn in {path}")


# ------------------------------------------------------------------------------------------ demo


def demo(seed: int = 0, plot: str | None = None) -> int:
    """Learn to read dialling tones, then transcribe a number that was not in the training."""
    rng = np.random.default_rng(seed)
    numbers = [dialling.random_number(rng) for _ in range(dialling.TRAINING_CALLS)]
    calls = [dialling.dial(number, rng) for number in numbers]
    minutes = sum(map(len, calls)) / dialling.RATE / 60
    _console.say(
        f"Synthesised {len(calls)} calls, {minutes:.1f} minutes of dialling tones in noise."
    )
    _console.say("Features: our own NumPy log-spectrogram, so no extra package is needed.")
    transcriber = dialling.untrained(calls, seed)
    _console.say(f"Training {transcriber.model.count_params():,} parameters with CTC:")
    began = time.perf_counter()
    transcriber.fit(
        [transcriber.features(call) for call in calls],
        numbers,
        dialling.TRAINING,
        lambda epoch, loss: _console.say(f"  epoch {epoch:2d}  loss {loss:7.3f} nats a call"),
    )
    _console.say(f"Trained in {time.perf_counter() - began:.1f} s.")

    known = set(numbers)
    while (number := dialling.random_number(rng, 8, 12)) in known:
        pass
    call = dialling.dial(number, rng)
    stream = transcriber.stream()
    _console.say(
        f"\nAn unseen call of {len(call) / dialling.RATE:.2f} s, heard in pieces of 0.1 s:"
    )
    pieces = [stream.feed(call[i : i + 800]) for i in range(0, len(call), 800)]
    _console.say(f"  dialled   {number}\n  heard     {''.join(pieces) + stream.finish()}")
    _console.say(f"  {stream.latency * 1000:.0f} ms of sound are needed to decide on a time step")
    unseen = [dialling.random_number(rng) for _ in range(50)]
    sounds = [dialling.dial(other, rng) for other in unseen]
    right = sum(transcriber.transcribe(s).text == n for s, n in zip(sounds, unseen, strict=True))
    _console.say(f"  and {right} of 50 more calls without any error")
    if plot:
        _plot(transcriber, call, plot)
    return 0


# ---------------------------------------------------------------------------------- train-speech


def train_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options of gru-np train-speech.

    Examples
    --------
    >>> import argparse
    >>> from gru_np.speech.command import train_arguments
    >>> parser = argparse.ArgumentParser()
    >>> train_arguments(parser)
    >>> parser.parse_args(["recordings"]).epochs
    40
    """
    add = parser.add_argument
    add("folder", metavar="FOLDER", help=f"sound files and {TABLE}: file, tab, transcript")
    add("--transcripts", metavar="NAME", default=TABLE, help=f"name of the table ({TABLE})")
    add(
        "--model", type=_options.output, metavar="FILE", default=CHECKPOINT,
        help=f"where it is kept ({CHECKPOINT})",
    )  # fmt: skip
    add("--resume", action="store_true", help="go on with the run in --model")
    add("--unit", choices=UNITS, default="character", help="what is recognised (character)")
    add("--features", choices=KINDS[:-1], default="log_mel", help="(log_mel)")
    add(
        "--bins", type=_options.integer(1, 4096), default=40,
        help="mel bands, cepstra or bands (40)",
    )  # fmt: skip
    add("--deltas", type=_options.integer(0, 2), default=0, help="changes over time, 0 to 2 (0)")
    add(
        "--normalize", choices=("utterance", "global"), default="utterance",
        help="each utterance by itself, or all alike: better for single words, and what "
        "--streaming does (utterance)",
    )  # fmt: skip
    add(
        "--stack", type=_options.integer(1, 100), default=2,
        help="frames of 10 ms in a time step (2)",
    )  # fmt: skip
    add("--streaming", action="store_true", help="one direction only, to write while listening")
    add("--units", type=_options.size, default=128, help="size of each GRU (128)")
    add("--layers", type=_options.depth, default=2, help="GRUs on top of each other (2)")
    add("--dropout", type=_options.rate, default=0.3, help="behind each layer (0.3)")
    kinds = OF_THE_RUN
    add("--epochs", type=kinds["epochs"], default=40, help="times over the recordings (40)")
    add("--batch-size", type=kinds["batch_size"], default=16, help="utterances of a batch (16)")
    add(
        "--learning-rate", type=kinds["learning_rate"], default=2e-3,
        help="first rate of Adam (0.002)",
    )  # fmt: skip
    add("--noise", type=kinds["noise"], default=0.3, help="added to normalised features (0.3)")
    add("--augment", action="store_true", help="hide stretches of time and bands (SpecAugment)")
    add(
        "--validation", type=kinds["validation"], default=0.1,
        help="share of the recordings held out (0.1)",
    )  # fmt: skip
    add("--seed", type=kinds["seed"], default=0, help="decides everything random (0)")


def train_run(args: argparse.Namespace) -> int:
    """Run gru-np train-speech.

    Examples
    --------
    >>> import argparse
    >>> from gru_np.speech.command import train_arguments, train_run
    >>> parser = argparse.ArgumentParser()
    >>> train_arguments(parser)
    >>> train_run(parser.parse_args(["no-such-folder"]))
    Traceback (most recent call last):
        ...
    ValueError: no-such-folder/transcripts.tsv: there is no such file; it should hold a line for \
each sound file: name, tab, transcript
    """
    unfinished = _take_up(args) if args.resume else None
    utterances = read_corpus(args.folder, args.transcripts)
    train, held_out = split_corpus(utterances, args.validation, args.seed)
    sounds = {u.path: read_audio(u.path) for u in utterances}
    rates = sorted({sound.rate for sound in sounds.values()})
    if len(rates) > 1:
        other = next(path for path, sound in sounds.items() if sound.rate != rates[-1])
        raise ValueError(
            f"{args.folder}: all files must have one rate, got {' and '.join(map(str, rates))} Hz "
            f"({other} has {sounds[other].rate}); convert them first"
        )
    learnt_from = [sounds[u.path].samples for u in train]
    transcriber = unfinished or _begin(args, train, learnt_from, rates[0])
    if transcriber.features.rate != rates[0]:
        raise ValueError(
            f"{args.model}: was trained at {transcriber.features.rate} Hz, "
            f"the recordings have {rates[0]} Hz"
        )
    features = transcriber.features
    seconds = sum(len(sound.samples) / sound.rate for sound in sounds.values())
    _console.say(
        f"{len(train)} recordings to learn from, {len(held_out)} held out, {seconds / 60:.1f} "
        f"minutes at {rates[0]} Hz; {len(transcriber.alphabet.symbols)} symbols"
    )
    transcriber.model.summary()
    inputs = {u: features(sounds[u.path].samples) for u in utterances}
    training = Training(
        args.epochs, args.batch_size, args.learning_rate,
        noise=args.noise, augment=args.augment, seed=args.seed,
    )  # fmt: skip
    began = time.perf_counter()

    def report(epoch: int, loss: float) -> None:
        line = f"epoch {epoch:3d}/{args.epochs}  loss {loss:8.3f} nats an utterance"
        if held_out and (epoch % 5 == 0 or epoch == args.epochs):
            line += "  held out: " + _measure(transcriber, held_out, inputs)
        _console.say(f"{line}  {time.perf_counter() - began:6.0f} s")

    transcriber.fit(
        [inputs[u] for u in train], [u.text for u in train], training, report, args.model
    )
    _console.say(
        f"The model is in {args.model}; let it listen with\n"
        f"  gru-np transcribe FILE --model {args.model}"
    )
    return 0


def _take_up(args: argparse.Namespace) -> Transcriber:
    """Load an unfinished run, and set the arguments to what they were when it began."""
    unfinished = Transcriber.load(args.model)
    run = unfinished.model.extras.get("run")
    if run is None:
        raise ValueError(f"{args.model}: it was not left by `gru-np train-speech`")
    if run.get("transcripts", args.transcripts) != args.transcripts:  # of a file no path is taken
        raise ValueError(
            "--resume takes no path from a file: name the --transcripts of the run again"
        )
    vars(args).update(_options.take_run(args.model, run, OF_THE_RUN))
    if unfinished.epochs_done >= args.epochs:
        raise ValueError(f"{args.model}: has been trained for all of its {args.epochs} epochs")
    return unfinished


def _begin(
    args: argparse.Namespace, train: list[Utterance], sounds: list[Any], rate: int
) -> Transcriber:
    """Make the transcriber that the arguments describe."""
    features = Features(args.features, rate, args.bins, deltas=args.deltas, stack=args.stack)
    if args.streaming or args.normalize == "global":
        features = features.fit(sounds)
    transcriber = Transcriber.create(
        features, Alphabet.of((u.text for u in train), args.unit), args.units, args.layers,
        bidirectional=not args.streaming, dropout=args.dropout, seed=args.seed,
    )  # fmt: skip
    transcriber.model.extras["run"] = {
        name: getattr(args, name) for name in (*OF_THE_RUN, "transcripts")
    }
    return transcriber


def _measure(transcriber: Transcriber, held_out: list[Utterance], inputs: dict[Any, Any]) -> str:
    """Say how wrong the transcripts of the held-out recordings are."""
    from gru_np.ctc_decoding import greedy

    scores = transcriber.log_probabilities_of([inputs[u] for u in held_out])
    heard = [transcriber.transcript(greedy(log_y)).text for log_y in scores]
    said = [u.text for u in held_out]
    try:
        rates = error_rates(said, heard)
    except ImportError:
        right = sum(a == b for a, b in zip(said, heard, strict=True))
        return f"{right} of {len(said)} without error (pip install gru_np[audio] for error rates)"
    return f"WER {100 * rates.wer:.1f} %, CER {100 * rates.cer:.1f} %"
