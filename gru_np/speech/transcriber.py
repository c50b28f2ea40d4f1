"""A model that writes down what it hears: features, GRU layers, CTC, and the way back to text.

Notation: B batch, T time steps, F features, V outputs (blank 0 and the symbols).
"""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from gru_np import ctc, ctc_decoding, saving
from gru_np._aliases import Array
from gru_np._checks import require_count, require_rank
from gru_np._intake import REAL, as_array, as_floats
from gru_np._schema import Count, require_fields, require_settings
from gru_np.ctc_decoding import Greedy, LanguageModel, Span
from gru_np.layers import GRU, Bidirectional, Dense, Dropout, Masking
from gru_np.model import Sequential
from gru_np.saving import require_own_path, require_savable
from gru_np.speech.alphabet import Alphabet, as_transcripts
from gru_np.speech.audio import AudioFile, as_samples, require_rate
from gru_np.speech.features import Features, FeatureStream, spec_augment

# Padding of a batch: no normalised time step consists of this number.
PADDING = -1e4
BLOCK_SECONDS = 10.0
LONGEST_PIECE = 20.0  # seconds; longer sound is cut where it is quiet, if it has to be cut
# What the file of a transcriber says beside its model, of which kind.
SETTINGS = {"features": dict[str, Any], "alphabet": dict[str, Any], "epochs_done": Count}
QUIET = 0.1  # seconds over which loudness is measured


class Word(NamedTuple):
    """A word and when it was said, in seconds from the beginning."""

    text: str
    begin: float
    end: float


@dataclass(frozen=True)
class Transcript:
    """What was said, and when."""

    text: str
    words: list[Word]


@dataclass(frozen=True)
class Training:
    """How a transcriber is trained.

    Parameters
    ----------
    epochs, batch_size : int
    learning_rate : float
        Of Adam; it falls to zero along half a cosine.
    clipnorm : float
        Largest norm of all gradients together.
    sorted_epochs : int
        So many epochs begin with the shortest utterances, which are learnt first.
    noise : float
        Deviation of the noise that is added to normalised features.
    augment : bool
        Hide random stretches of time and bands (`spec_augment`).
    seed : int
    """

    epochs: int = 40
    batch_size: int = 16
    learning_rate: float = 2e-3
    clipnorm: float = 5.0
    sorted_epochs: int = 2
    noise: float = 0.3
    augment: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        require_count("Training", "epochs", self.epochs)
        require_count("Training", "batch_size", self.batch_size)
        require_count("Training", "sorted_epochs", self.sorted_epochs, least=0)
        require_count("Training", "seed", self.seed, least=0)
        for name, low in (("learning_rate", False), ("clipnorm", False), ("noise", True)):
            value = getattr(self, name)
            if not (0 < value < math.inf or (low and value == 0)):
                raise ValueError(
                    f"Training: {name} must be {'at least' if low else 'above'} 0 and finite, "
                    f"got {value!r}"
                )


class Transcriber:
    """A model, the features it reads and the symbols it writes.

    Parameters
    ----------
    model : Sequential
        From (B, T, features.size) to (B, T, alphabet.outputs), the blank first.
    features : Features
    alphabet : Alphabet

    Attributes
    ----------
    epochs_done : int
        Of the run of training under way; `fit` goes on from there. Set to 0, the next `fit` begins
        a run of its own with the weights of now, as to adapt a trained model to another voice.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.speech import Alphabet, Features, Transcriber
    >>> features = Features("spectrogram", rate=8000, bins=16)
    >>> transcriber = Transcriber.create(features, Alphabet("ab"), units=8, seed=0)
    >>> transcriber.log_probabilities(features(np.zeros(8000))).shape
    (98, 3)
    """

    def __init__(self, model: Sequential, features: Features, alphabet: Alphabet):
        self.model = model
        self.features = features
        self.alphabet = alphabet
        self.epochs_done = 0

    @classmethod
    def create(
        cls,
        features: Features,
        alphabet: Alphabet,
        units: int = 128,
        layers: int = 2,
        bidirectional: bool = True,
        dropout: float = 0.3,
        seed: int | None = None,
    ) -> "Transcriber":
        """Make an untrained one: GRU layers, dropout behind each, and one dense layer."""
        require_count("Transcriber", "layers", layers)
        parts: list[Any] = [Masking(PADDING)]
        for _ in range(layers):
            gru = GRU(units, return_sequences=True)
            parts += [Bidirectional(gru) if bidirectional else gru, Dropout(dropout)]
        model = Sequential([*parts, Dense(alphabet.outputs, activation="softmax")], seed=seed)
        model.build((None, None, features.size))
        return cls(model, features, alphabet)

    # ------------------------------------------------------------------------------ one file

    def save(self, path: Any) -> None:
        """Write everything to one .safetensors file."""
        self.model.extras["speech"] = {
            "features": self.features.get_config(),
            "alphabet": self.alphabet.get_config(),
            "epochs_done": self.epochs_done,
        }
        self.model.save(path)

    @classmethod
    def load(cls, path: Any) -> "Transcriber":
        """Read what `save` wrote.

        Raises
        ------
        CheckpointError
            If the file is damaged.
        ValueError
            If it holds a model that is no transcriber.
        """
        model = Sequential.load(path)
        config = model.extras.get("speech")
        if config is None:
            raise ValueError(
                f"{path}: holds a model, but not one for speech; gru-np train-speech makes one"
            )
        with saving.reading(path):
            require_fields("its settings", config, SETTINGS, optional=())
            require_settings(Features, config["features"])
            require_settings(Alphabet, config["alphabet"])
            features = Features.from_config(config["features"])
            transcriber = cls(model, features, Alphabet(**config["alphabet"]))
            shape = begin = model.input_shape or (None,)
            for layer in model.layers:
                shape = layer.output_shape(shape)
            sizes = features.size, transcriber.alphabet.outputs
            if (begin[-1], shape[-1]) != sizes:
                raise ValueError(
                    f"its features and alphabet call for sizes {sizes} of input and output, the "
                    f"model has {(begin[-1], shape[-1])}"
                )
        transcriber.epochs_done = config["epochs_done"]
        return transcriber

    # ------------------------------------------------------------------------------ training

    def fit(
        self,
        inputs: Sequence[Array],
        texts: Sequence[str],
        training: Training | None = None,
        after_epoch: Callable[[int, float], Any] | None = None,
        path: Any = None,
    ) -> list[float]:
        """Train on utterances.

        Parameters
        ----------
        inputs : sequence of (T, F) array
            What `features` makes of each utterance.
        texts : sequence of str
            What was said in each.
        training : Training, optional
        after_epoch : callable (epochs done, mean loss), optional
        path : str or path, optional
            Where to save after each epoch. A transcriber loaded from there goes on where it was.

        Returns
        -------
        list of float
            Mean loss of each epoch, in nats an utterance.

        Raises
        ------
        ValueError
            If an utterance is too short for its transcript: no alignment exists, so nothing could
            be learnt from it. If a run goes on with other settings than its own, or is at its end.
        """
        if path is not None:
            require_own_path("Transcriber", path)
        training = training or Training()
        inputs = [self._features_of(x, i) for i, x in enumerate(inputs)]
        texts = as_transcripts("Transcriber", texts)
        labels = [self.alphabet.encode(text) for text in texts]
        self._require_alignments(inputs, labels, texts)
        lengths = np.array([len(x) for x in inputs])
        steps = -(-len(inputs) // training.batch_size)
        self._compile(training, steps)
        if path is not None:  # before an epoch of it, not after
            require_savable("Transcriber", self.model, path)
        losses = []
        while self.epochs_done < training.epochs:
            epoch = self.epochs_done
            rng = np.random.default_rng([training.seed, epoch])
            in_order = epoch < training.sorted_epochs
            total = 0.0
            for rows in bucketed(lengths, training.batch_size, None if in_order else rng):
                x = [self._disturbed(inputs[i], training, rng) for i in rows]
                loss = self.model.train_on_batch(pad(x), pad_labels([labels[i] for i in rows]))
                total += float(loss) * len(rows)
            self.epochs_done += 1
            losses.append(total / len(inputs))
            if path is not None:
                self.save(path)
            if after_epoch is not None:
                after_epoch(self.epochs_done, losses[-1])
        return losses

    def _compile(self, training: Training, steps: int) -> None:
        from gru_np.optimizers import Adam, serialize
        from gru_np.schedules import CosineDecay

        rate = CosineDecay(training.learning_rate, max(training.epochs * steps, 1))
        adam = Adam(rate, global_clipnorm=training.clipnorm)
        if not self.epochs_done:
            self.model.compile("ctc", adam)
            return
        # Begun already: loss, optimiser and its state are those of the run that goes on.
        wanted, found = serialize(adam), serialize(self.model.optimizer)
        anew = "; epochs_done = 0 begins a new run with the weights of now"
        if self.epochs_done >= training.epochs:
            raise ValueError(
                f"Transcriber: epochs must be more than the {self.epochs_done} that are done, got "
                f"{training.epochs}{anew}"
            )
        if wanted != found:
            raise ValueError(
                "Transcriber: training and the number of utterances must be those of the run that "
                f"goes on, whose rate falls to zero at its end, {found['config']}; got "
                f"{wanted['config']}{anew}"
            )

    def _disturbed(self, x: Array, training: Training, rng: np.random.Generator) -> Array:
        if training.augment:
            x = spec_augment(x, rng, self.features)
        if training.noise:
            x = x + training.noise * rng.standard_normal(x.shape, dtype=np.float32)
        return x

    def _require_alignments(
        self, inputs: Sequence[Array], labels: list[list[int]], texts: Sequence[str]
    ) -> None:
        if len(inputs) != len(labels) or not labels:
            raise ValueError(
                f"Transcriber: inputs and texts must be as many, and some; "
                f"got {len(inputs)} and {len(labels)}"
            )
        needed = ctc.least_steps(pad_labels(labels), np.array([len(row) for row in labels]))
        for x, least, text in zip(inputs, needed.tolist(), texts, strict=True):
            if len(x) < max(least, 1):
                raise ValueError(
                    f"Transcriber: {text!r} needs at least {max(least, 1)} time steps, its sound "
                    f"has {len(x)}; leave it out or stack fewer frames"
                )

    # ------------------------------------------------------------------------- transcription

    @property
    def streams(self) -> bool:
        """Whether it can write while it listens: nothing in it needs the end of the sound."""
        whole = any(isinstance(layer, Bidirectional) for layer in self.model.layers)
        return not whole and self.features.normalize != "utterance"

    def log_probabilities(self, x: Array) -> Array:
        """From features (T, F) to ln y (T, V)."""
        x = self._features_of(x)
        return _log(self.model.predict(x[None])[0]) if len(x) else self._nothing()

    def _features_of(self, x: Any, i: int | None = None) -> Array:
        """Take in the features (T, F) of an utterance."""
        what = "features" if i is None else f"features {i}"
        x = as_array("Transcriber", x, what, REAL, finite=True)
        require_rank("Transcriber", what, x, ("time", self.features.size))
        return x.astype(np.float32, copy=False)

    def log_probabilities_of(self, inputs: Sequence[Array], batch_size: int = 32) -> list[Array]:
        """Do the same for many utterances, in batches of similar length."""
        inputs = [self._features_of(x, i) for i, x in enumerate(inputs)]
        found: dict[int, Array] = {}
        for rows in bucketed(np.array([len(x) for x in inputs]), batch_size):
            log_y = _log(self.model.predict(pad([inputs[i] for i in rows]), batch_size=len(rows)))
            found |= {int(i): log_y[at, : len(inputs[i])] for at, i in enumerate(rows)}
        return [found[i] for i in range(len(inputs))]

    def transcribe(
        self,
        sound: Any,
        beam_width: int | None = None,
        language_model: LanguageModel | None = None,
        **search: Any,
    ) -> Transcript:
        """Write down a sound file, or samples (N,).

        Memory is bounded whatever the length. A model that `streams` reads block by block, its
        state carried; any other gets pieces of at most 20 s, cut where it is quiet. A search, too,
        begins anew at each such cut.

        Parameters
        ----------
        sound : str, path, Audio or (N,) array
            At the rate of `features`; floats in -1 .. 1, or integers of 8, 16 or 32 bits, which are
            divided by the range of their type.
        beam_width : int, optional
            Search with this many prefixes (`gru_np.ctc_decoding.prefix_beam_search`); without it,
            the best path is taken.
        language_model : LanguageModel, optional
            For the search.
        **search
            `weight` and the other settings of the search.
        """
        if self.features.kind == "given":
            raise ValueError(
                "transcribe: the features are given, not made of sound; use log_probabilities"
            )
        decode = self._decoder(beam_width, language_model, search)
        if self.streams and beam_width is None:  # scores may go as soon as their best path is known
            stream = self.stream()
            for block in self._blocks(sound):
                stream.feed(block)
            stream.finish()
            return stream.transcript
        spans: list[Span] = []
        frames = 0
        for log_y in self._pieces(sound):
            found = decode(log_y)
            spans += [Span(s.label, s.begin + frames, s.end + frames) for s in found]
            if self.alphabet.unit == "character" and " " in self.alphabet.symbols and found:
                space = self.alphabet.encode(" ")[0]
                spans.append(Span(space, frames + len(log_y), frames + len(log_y)))
            frames += len(log_y)
        return self.transcript(spans)

    def stream(self) -> "Stream":
        """Begin to listen: see `Stream`."""
        return Stream(self)

    def transcript(self, spans: Iterable[Span]) -> Transcript:
        """From labels and their time steps to words and their seconds."""
        seconds = self.features.step_seconds
        words: list[Word] = []
        symbols: list[Span] = []

        def end_word() -> None:
            if symbols:
                text = self.alphabet.decode(span.label for span in symbols)
                begin, end = symbols[0].begin * seconds, symbols[-1].end * seconds
                words.append(Word(text, round(begin, 4), round(end, 4)))
                symbols.clear()

        for span in spans:
            if self.alphabet.unit == "word":
                end_word()
            elif self.alphabet.decode([span.label]) == " ":
                end_word()
                continue
            symbols.append(span)
        end_word()
        return Transcript(" ".join(word.text for word in words), words)

    def _decoder(
        self, beam_width: int | None, language_model: LanguageModel | None, search: dict[str, Any]
    ) -> Callable[[Array], list[Span]]:
        if beam_width is None:
            if language_model is not None or search:
                raise ValueError("transcribe: a language model needs a search; give beam_width")
            return ctc_decoding.greedy

        def decode(log_y: Array) -> list[Span]:
            best = ctc_decoding.prefix_beam_search(
                log_y, beam_width, language_model=language_model, **search
            )[0]
            return ctc_decoding.align(log_y, best.labels)

        return decode

    def _pieces(self, sound: Any) -> Iterator[Array]:
        """Give ln y of the sound, in pieces that can be decoded one after the other."""
        pieces = cut_where_quiet(self._blocks(sound), self.features.rate)
        if self.streams:  # the state is carried across the cuts
            stream = self.stream()
            waiting = self._nothing()
            for piece in pieces:
                if len(waiting):
                    yield waiting
                waiting = stream.scores(piece)
            yield np.concatenate([waiting, stream.last_scores()])
            return
        for piece in pieces:
            yield self.log_probabilities(self.features(piece))

    def _blocks(self, sound: Any) -> Iterator[Array]:
        if not isinstance(sound, str | os.PathLike):
            samples = as_samples("transcribe", sound, self.features.rate)
            size = int(BLOCK_SECONDS * self.features.rate)
            yield from (samples[i : i + size] for i in range(0, len(samples), size))
            return
        with AudioFile(sound) as file:
            require_rate(sound, file.rate, self.features.rate)
            yield from file.blocks(BLOCK_SECONDS)

    def _nothing(self) -> Array:
        return np.zeros((0, self.alphabet.outputs), np.float32)


class Stream:
    """Transcription of sound that is still arriving: the state of the GRU is carried along.

    The text is that of the whole file, in whatever pieces it is fed. A time step is decided
    `latency` seconds after its sound began.

    Parameters
    ----------
    transcriber : Transcriber
        One that `streams`: GRUs of one direction, features not normalised by utterance.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.speech import Alphabet, Features, Transcriber
    >>> features = Features("spectrogram", rate=8000, bins=4, normalize=None)
    >>> transcriber = Transcriber.create(
    ...     features, Alphabet("ab"), units=8, bidirectional=False, seed=0
    ... )
    >>> sound = np.random.default_rng(0).standard_normal(8000)
    >>> stream = transcriber.stream()
    >>> heard = stream.feed(sound[:3000]) + stream.feed(sound[3000:]) + stream.finish()
    >>> heard == transcriber.transcribe(sound).text, stream.latency
    (True, 0.025)
    """

    def __init__(self, transcriber: Transcriber):
        if not transcriber.streams:
            raise ValueError(
                "Stream: the model must have GRUs of one direction and features that are not "
                "normalised by utterance; train it with gru-np train-speech --streaming"
            )
        self.transcriber = transcriber
        self.decoder = Greedy()
        self.latency = transcriber.features.latency
        self._features = FeatureStream(transcriber.features)
        self._states: Any = None

    def feed(self, samples: Any) -> str:
        """Take samples (N,) of any number; give the text that is new."""
        return self._write(self.scores(samples))

    def finish(self) -> str:
        """Give the text of the last frames."""
        return self._write(self.last_scores())

    @property
    def transcript(self) -> Transcript:
        """All that was said so far, with times."""
        return self.transcriber.transcript(self.decoder.spans)

    def scores(self, samples: Any) -> Array:
        """Take samples; give ln y (T, V) of the time steps that are complete."""
        return self._run(self._features.feed(samples))

    def last_scores(self) -> Array:
        """Give ln y of what is left."""
        return self._run(self._features.finish())

    def _run(self, x: Array) -> Array:
        if not len(x):
            return self.transcriber._nothing()
        down = self.transcriber.model._forward(x[None], states=self._states)
        self._states = down.states
        return _log(down.y[0])

    def _write(self, log_y: Array) -> str:
        first = not self.decoder.spans
        new = self.decoder.feed(log_y)
        alphabet = self.transcriber.alphabet
        text = alphabet.decode(new)
        return text if first or not new else alphabet.separator + text


def _log(y: Array) -> Array:
    return np.log(np.maximum(y, np.finfo(y.dtype).tiny))


# ------------------------------------------------------------------------------ ragged batches


def bucketed(lengths: Any, batch_size: int, rng: np.random.Generator | None = None) -> list[Array]:
    """Put utterances of similar length into batches, so that little is padded.

    Parameters
    ----------
    lengths : (N,) int
    batch_size : int
    rng : Generator, optional
        Varies lengths by a tenth before they are sorted, and shuffles the batches; without it the
        shortest come first, always in the same order.

    Returns
    -------
    list of (B,) int
        The rows of each batch.

    Examples
    --------
    >>> from gru_np.speech import bucketed
    >>> [rows.tolist() for rows in bucketed([5, 90, 7, 80, 6], 2)]
    [[0, 4], [2, 3], [1]]
    """
    sizes = as_array("bucketed", lengths, "lengths", "iuf", finite=True).astype(float)
    require_rank("bucketed", "lengths", sizes, ("utterances",))
    require_count("bucketed", "batch_size", batch_size)
    if rng is not None:
        sizes = sizes * rng.uniform(0.9, 1.1, len(sizes))
    order = np.argsort(sizes, kind="stable")
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    if rng is not None:
        rng.shuffle(batches)
    return batches


def pad(inputs: Sequence[Array]) -> Array:
    """Put utterances (T, F) of different lengths into one array (B, T, F), padded for `Masking`."""
    inputs = [as_floats("pad", one, f"input {i}", real=True) for i, one in enumerate(inputs)]
    if not inputs:
        raise ValueError("pad: inputs must hold an utterance at least, got none")
    for i, one in enumerate(inputs):
        require_rank("pad", f"input {i}", one, ("time", inputs[0].shape[-1] if one.ndim else "F"))
    x = np.full((len(inputs), max(map(len, inputs)), inputs[0].shape[1]), PADDING, np.float32)
    for row, one in zip(x, inputs, strict=True):
        row[: len(one)] = one
    return x


def pad_labels(labels: Sequence[Sequence[int]]) -> Array:
    """Put labels of different lengths into one array (B, L), padded with -1 as CTC wants it."""
    rows = [as_array("pad_labels", one, f"labels {i}", REAL) for i, one in enumerate(labels)]
    for i, one in enumerate(rows):
        require_rank("pad_labels", f"labels {i}", one, ("labels",))
        if one.size and one.dtype.kind not in "iu":
            raise TypeError(f"pad_labels: labels {i} must be integers, got {one.dtype}")
    if not rows:
        raise ValueError("pad_labels: labels must be of an utterance at least, got none")
    y = np.full((len(rows), max(map(len, rows))), -1)
    for row, one in zip(y, rows, strict=True):
        row[: len(one)] = one
    return y


def cut_where_quiet(
    blocks: Iterable[Array], rate: int, longest: float = LONGEST_PIECE
) -> Iterator[Array]:
    """Cut sound into pieces of at most `longest` seconds, where it is quietest.

    Parameters
    ----------
    blocks : iterable of (N,) array
        Sound, as it comes.
    rate : int
        Samples a second.
    longest : float
        A cut falls into the second half of these seconds.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.speech import cut_where_quiet
    >>> sound = np.ones(5000)
    >>> sound[3000:3200] = 0
    >>> [len(piece) for piece in cut_where_quiet([sound], rate=1000, longest=4.0)]
    [3100, 1900]
    """
    require_count("cut_where_quiet", "rate", rate)
    if not 2 / rate <= longest < math.inf:
        raise ValueError(
            f"cut_where_quiet: longest must be at least two samples, in seconds, got {longest}"
        )
    most, quiet = int(longest * rate), max(int(QUIET * rate), 1)
    held = np.zeros(0, np.float32)
    for block in blocks:
        held = np.concatenate([held, as_samples("cut_where_quiet", block)])
        while len(held) > most:
            half = held[most // 2 : most].astype(np.float64)
            loudness = np.convolve(half**2, np.ones(quiet), "valid")
            # of equally quiet places, the middle one
            places = np.flatnonzero(loudness <= loudness.min() * (1 + 1e-9) + 1e-12)
            cut = most // 2 + int(places[len(places) // 2]) + quiet // 2
            yield held[:cut]
            held = held[cut:]
    if len(held):
        yield held
