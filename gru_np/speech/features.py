"""From sound to what a network reads: spectra, their changes over time, normalised and stacked.

Notation: N samples, T frames, F features of a frame. Frame t covers the samples from
t · shift on, as long as the window; a window that would reach beyond the end is left out.

    sound (N,) -> spectra (T, bins) -> with deltas (T, F) -> normalised -> stacked (T / stack, ...)

Log-mel and MFCC are Kaldi's (kaldi-native-fbank, extra `audio`). "spectrogram" needs nothing but
NumPy: the log power in equal bands, Hann window; enough for tones, not meant for speech.
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from gru_np._aliases import Array
from gru_np._checks import require_choice, require_count, require_rank
from gru_np._intake import REAL, as_array, as_floats
from gru_np.speech.audio import Audio, as_samples

KINDS = ("log_mel", "mfcc", "spectrogram", "given")
DELTA_REACH = 2  # frames on either side
# Power of a frequency in sound of 16 bits that is nothing but rounding.
SILENCE = 1e-8
KALDI_SCALE = 32768  # Kaldi's samples are 16-bit integers


@dataclass(frozen=True)
class Features:
    """Which features, of which sound; applies them to whole utterances.

    Parameters
    ----------
    kind : {"log_mel", "mfcc", "spectrogram", "given"}
        "given" is for spectra that come from elsewhere, (T, bins).
    rate : int
        Samples a second that the sound must have.
    bins : int
        Mel bands, cepstra or bands.
    window, shift : float
        Length of a frame and the time from one to the next, in seconds.
    deltas : {0, 1, 2}
        Append the changes over time, and the changes of these.
    stack : int
        Put this many frames one behind the other into one, for fewer time steps.
    normalize : {"utterance", "global"} or None
        Take each feature to mean 0 and deviation 1: over each utterance, which needs all of it at
        once, or by `mean` and `deviation`, found by `fit`, which a stream can do.
    mean, deviation : tuple of float
        For "global".
    floor : float
        Power of a band below which all is alike, for samples in -1 .. 1. The logarithm of digital
        silence would outweigh all speech when an utterance is normalised. The default is about the
        rounding of 16 bits; 1e-4 hides gaps and edges that were made silent.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.speech import Features
    >>> features = Features("spectrogram", rate=8000, bins=16, deltas=1, stack=2)
    >>> sound = np.random.default_rng(0).standard_normal(8000)
    >>> features(sound).shape, features.size, round(features.latency, 3)
    ((49, 64), 64, 0.055)
    """

    kind: str = "log_mel"
    rate: int = 16000
    bins: int = 40
    window: float = 0.025
    shift: float = 0.010
    deltas: int = 0
    stack: int = 1
    normalize: str | None = "utterance"
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    floor: float = SILENCE

    def __post_init__(self) -> None:
        require_choice("Features", "kind", self.kind, KINDS)
        for name in ("rate", "bins", "stack"):
            require_count("Features", name, getattr(self, name))
        if self.deltas not in (0, 1, 2):
            raise ValueError(f"Features: deltas must be 0, 1 or 2, got {self.deltas!r}")
        if self.normalize is not None:
            require_choice("Features", "normalize", self.normalize, ("utterance", "global"))
        if not self.floor > 0:
            raise ValueError(f"Features: floor must be a positive power, got {self.floor!r}")
        samples = self.shift * self.rate
        if not (self.window >= self.shift > 0 and samples >= 0.5 and math.isfinite(self.window)):
            raise ValueError(
                "Features: window and shift must be seconds with window >= shift > 0, and "
                f"a shift at least a sample of {self.rate} Hz, "
                f"got {self.window} and {self.shift}"
            )

    # ------------------------------------------------------------------------------- sizes

    @property
    def size(self) -> int:
        """Features of a time step the network sees."""
        return self.bins * (1 + self.deltas) * self.stack

    @property
    def step_seconds(self) -> float:
        """Seconds from one time step the network sees to the next."""
        return self.shift * self.stack

    @property
    def latency(self) -> float:
        """Seconds of sound from the beginning of a time step until a stream can compute it."""
        return self.window + self.shift * (DELTA_REACH * self.deltas + self.stack - 1)

    @property
    def window_samples(self) -> int:
        """Samples of a frame."""
        return round(self.window * self.rate)

    @property
    def shift_samples(self) -> int:
        """Samples from the beginning of one frame to that of the next."""
        return round(self.shift * self.rate)

    def get_config(self) -> dict[str, Any]:
        """Give the settings, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Features":
        """Take the settings back."""
        pairs = {name: tuple(config[name]) for name in ("mean", "deviation")}
        return cls(**(config | pairs))

    # ------------------------------------------------------------------------- whole utterances

    def __call__(self, sound: Any) -> Array:
        """From samples (N,), or from given spectra (T, bins), to what the network reads."""
        return self.finish(self.with_deltas(self.spectra(sound)))

    def spectra(self, samples: Any) -> Array:
        """From samples (N,) to spectra (T, bins) float32; given ones pass.

        Samples are floats in -1 .. 1, or integers of 8, 16 or 32 bits, which are divided by the
        range of their type; an `Audio`, as `read_audio` gives it, must have our rate.
        """
        if self.kind == "given":
            spectra = as_array("Features", samples, "given spectra", REAL, finite=True)
            require_rank("Features", "given spectra", spectra, ("time", self.bins))
            return spectra.astype(np.float32, copy=False)
        samples = as_samples("Features", samples, self.rate).astype(np.float32, copy=False)
        if len(samples) < self.window_samples:
            return np.zeros((0, self.bins), np.float32)
        return self._spectrogram(samples) if self.kind == "spectrogram" else self._kaldi(samples)

    def with_deltas(self, x: Array) -> Array:
        """Append the changes over time of (T, bins), and the changes of these."""
        parts = [x]
        for _ in range(self.deltas):
            parts.append(delta(parts[-1]))
        return np.concatenate(parts, axis=1) if self.deltas else x

    def finish(self, x: Array) -> Array:
        """Normalise and stack (T, F); the last frame is repeated until the stack is full."""
        if self.normalize == "utterance" and len(x):
            x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-5)
        elif self.normalize == "global":
            x = (x - self._global("mean")) / self._global("deviation")
        missing = -len(x) % self.stack
        if missing:
            x = np.concatenate([x, np.repeat(x[-1:], missing, axis=0)])
        return x.reshape(-1, self.size).astype(np.float32, copy=False)

    def fit(self, sounds: Any) -> "Features":
        """Give these features with the mean and deviation of some sounds, for "global"."""
        total: Any = 0.0
        squares: Any = 0.0
        count = 0
        if isinstance(sounds, Audio) or getattr(sounds, "ndim", 2) == 1:
            raise TypeError("Features.fit: sounds must be several, got one; give [sound]")
        for sound in sounds:
            x = self.with_deltas(self.spectra(sound)).astype(np.float64)
            total = total + x.sum(axis=0)
            squares = squares + (x * x).sum(axis=0)
            count += len(x)
        if count == 0:
            raise ValueError("Features.fit: the sounds hold no frames")
        mean = total / count
        deviation = np.sqrt(np.maximum(squares / count - mean**2, 0)) + 1e-5
        return replace(
            self, normalize="global", mean=tuple(mean.tolist()), deviation=tuple(deviation.tolist())
        )

    def _global(self, name: str) -> Array:
        values = np.asarray(getattr(self, name), np.float32)
        if len(values) != self.bins * (1 + self.deltas):
            raise ValueError(
                f"Features: global normalisation needs {self.bins * (1 + self.deltas)} numbers as "
                f"{name}, got {len(values)}; call fit first"
            )
        return values

    def _spectrogram(self, samples: Array) -> Array:
        frames = np.lib.stride_tricks.sliding_window_view(samples, self.window_samples)
        frames = frames[:: self.shift_samples] * np.hanning(self.window_samples).astype(np.float32)
        points = 1 << (self.window_samples - 1).bit_length()
        spectrum = np.fft.rfft(frames, points)[:, 1:]  # without the constant part
        power = (spectrum.real**2 + spectrum.imag**2).astype(np.float64)
        if self.bins > power.shape[1]:
            raise ValueError(
                f"Features: a window of {self.window} s at {self.rate} Hz has "
                f"{power.shape[1]} frequencies, too few for {self.bins} bins"
            )
        edges = np.linspace(0, power.shape[1], self.bins + 1).astype(int)[:-1]
        bands = np.add.reduceat(power, edges, axis=1)
        return np.log(bands + self.floor).astype(np.float32)

    def _kaldi(self, samples: Array) -> Array:
        knf = _kaldi_native_fbank()
        options = knf.FbankOptions() if self.kind == "log_mel" else knf.MfccOptions()
        options.frame_opts.samp_freq = self.rate
        options.frame_opts.frame_length_ms = self.window * 1000
        options.frame_opts.frame_shift_ms = self.shift * 1000
        options.frame_opts.dither = 0.0  # the same sound, the same features
        if self.kind == "log_mel":
            options.mel_opts.num_bins = self.bins
        else:
            options.num_ceps = self.bins
            options.mel_opts.num_bins = max(23, self.bins)
        computer = (knf.OnlineFbank if self.kind == "log_mel" else knf.OnlineMfcc)(options)
        computer.accept_waveform(self.rate, (samples * KALDI_SCALE).tolist())
        computer.input_finished()
        frames = [computer.get_frame(t) for t in range(computer.num_frames_ready)]
        x = np.asarray(frames, np.float32).reshape(-1, self.bins)
        return np.maximum(x, np.log(self.floor * KALDI_SCALE**2)) if self.kind == "log_mel" else x


def _kaldi_native_fbank() -> Any:
    try:
        import kaldi_native_fbank
    except ImportError as error:
        raise ImportError(
            "log-mel and MFCC features need kaldi-native-fbank: pip install gru_np[audio]"
        ) from error
    return kaldi_native_fbank


def delta(x: Array) -> Array:
    """Change of each feature over time: the slope over two frames on either side.

        d_t = Σ_{n=1..2} n (x_{t+n} - x_{t-n}) / (2 Σ_{n=1..2} n²)

    The first and last frame are repeated beyond the ends. Source: the HTK book, section 5.9.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.speech import delta
    >>> delta(np.arange(6.0)[:, None])[2:4, 0].tolist()
    [1.0, 1.0]
    """
    x = as_floats("delta", x, real=True)
    require_rank("delta", "x", x, ("time", "features"))
    if not len(x):
        return x
    around = np.pad(x, [(DELTA_REACH, DELTA_REACH), (0, 0)], mode="edge")
    T = len(x)
    slope = sum(
        n * (around[DELTA_REACH + n :][:T] - around[DELTA_REACH - n :][:T])
        for n in range(1, DELTA_REACH + 1)
    )
    return np.asarray(slope / (2 * sum(n * n for n in range(1, DELTA_REACH + 1))), x.dtype)


class FeatureStream:
    """Features of sound that arrives in pieces of any length: the same numbers as of the whole.

    Parameters
    ----------
    features : Features
        Not normalised by utterance, which would need the end.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.speech import Features, FeatureStream
    >>> features = Features("spectrogram", rate=8000, bins=16, normalize=None, stack=3)
    >>> sound = np.random.default_rng(0).standard_normal(8000).astype(np.float32)
    >>> stream = FeatureStream(features)
    >>> pieces = [stream.feed(sound[:1234]), stream.feed(sound[1234:]), stream.finish()]
    >>> np.array_equal(np.concatenate(pieces), features(sound))
    True
    """

    def __init__(self, features: Features):
        if features.normalize == "utterance":
            raise ValueError(
                "FeatureStream: features must not be normalised by utterance, which needs all of "
                "it; use normalize='global'"
            )
        if features.kind == "given":
            raise ValueError("FeatureStream: given spectra are not made of samples")
        self.features = features
        self._samples = np.zeros(0, np.float32)  # from the beginning of the next frame on
        self._spectra = np.zeros((0, features.bins), np.float32)  # the next, and those before it
        self._before = 0  # how many of these are only there for the deltas of the next
        self._waiting = np.zeros((0, features.size // features.stack), np.float32)  # for a stack

    def feed(self, samples: Any) -> Array:
        """Take samples (N,); give the time steps (T, size) that are complete."""
        sound = as_samples("FeatureStream", samples, self.features.rate)
        return self._advance(sound.astype(np.float32, copy=False), last=False)

    def finish(self) -> Array:
        """Give what is left."""
        return self._advance(np.zeros(0, np.float32), last=True)

    def _advance(self, samples: Array, last: bool) -> Array:
        features = self.features
        self._samples = np.concatenate([self._samples, samples])
        new = features.spectra(self._samples)
        self._samples = self._samples[len(new) * features.shift_samples :]

        reach = DELTA_REACH * features.deltas
        spectra = np.concatenate([self._spectra, new])
        end = len(spectra) if last else max(len(spectra) - reach, self._before)
        ready = features.with_deltas(spectra)[self._before : end]
        keep = max(end - reach, 0)
        self._spectra, self._before = spectra[keep:], end - keep

        waiting = np.concatenate([self._waiting, ready])
        whole = len(waiting) if last else len(waiting) - len(waiting) % features.stack
        self._waiting = waiting[whole:]
        return features.finish(waiting[:whole])


def spec_augment(
    x: Array,
    rng: np.random.Generator,
    features: Features,
    time_masks: int = 2,
    longest: float = 0.1,
    frequency_masks: int = 2,
    widest: float = 0.2,
) -> Array:
    """Hide random stretches of time and bands of frequency, in a copy.

    Parameters
    ----------
    x : (T, size)
        Normalised features, so that zero is their mean.
    rng : Generator
    features : Features
        How x is laid out: a band is hidden in all its deltas and stacked frames.
    time_masks, frequency_masks : int
        How many of each.
    longest, widest : float
        Largest share of the time, and of the bins, that one may hide.

    Notes
    -----
    Source: arXiv:1904.08779, section 2, without the warping of time.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.speech import Features, spec_augment
    >>> x = np.ones((20, 10))
    >>> hidden = spec_augment(x, np.random.default_rng(1), Features(bins=10)) == 0
    >>> bool(hidden.any()), bool(hidden.all())
    (True, False)
    """
    x = as_floats("spec_augment", x, real=True)
    require_rank("spec_augment", "x", x, ("time", features.size))
    T = len(x)
    y = x.reshape(
        T, x.shape[1] // features.bins, features.bins
    ).copy()  # (T, stack and deltas, bins)
    for _ in range(time_masks):
        length = int(rng.integers(0, int(longest * T) + 1))
        begin = int(rng.integers(0, T - length + 1))
        y[begin : begin + length] = 0
    for _ in range(frequency_masks):
        width = int(rng.integers(0, int(widest * features.bins) + 1))
        begin = int(rng.integers(0, features.bins - width + 1))
        y[:, :, begin : begin + width] = 0
    return y.reshape(x.shape)
