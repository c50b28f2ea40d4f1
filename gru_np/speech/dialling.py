"""A telephone that dials: tones to learn from without any recording.

Each key is the sum of two tones (DTMF, ITU-T Q.23), of random length, loudness and distance, in
white noise. The features are our own spectrogram, so the demonstration needs no extra.
"""

import numpy as np

from gru_np._aliases import Array
from gru_np.speech.alphabet import Alphabet
from gru_np.speech.features import Features
from gru_np.speech.transcriber import Training, Transcriber

RATE = 8000  # Hz
LOW, HIGH = (697, 770, 852, 941), (1209, 1336, 1477)  # Hz
KEYS = "123456789*0#"
TRAINING_CALLS = 300
FEATURES = Features("spectrogram", rate=RATE, bins=96, stack=2)
TRAINING = Training(epochs=8, learning_rate=1e-2, sorted_epochs=1, noise=0.1)


def dial(number: str, rng: np.random.Generator, noise: float = 0.2) -> Array:
    """Synthesise the tones of a number: samples (N,) at 8000 Hz in -1 .. 1.

    Parameters
    ----------
    number : str
        Keys among 0-9, * and #.
    rng : Generator
        Decides lengths (50 to 120 ms a tone, 40 to 100 ms a pause), loudness, phases and noise.
    noise : float
        Deviation of the noise; the two tones of a key have amplitudes around 0.25 each.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.speech.dialling import dial
    >>> sound = dial("42", np.random.default_rng(0))
    >>> 0.2 < len(sound) / 8000 < 0.6
    True
    """
    pieces = [np.zeros(_duration(rng, 0.04, 0.1))]
    for key in number:
        if key not in KEYS:
            raise ValueError(f"dial: number must be made of the keys {KEYS}, got {number!r}")
        row, column = divmod(KEYS.index(key), 3)
        t = np.arange(_duration(rng, 0.05, 0.12)) / RATE
        tone = np.zeros(len(t))
        for frequency in (LOW[row], HIGH[column]):
            phase = 2 * np.pi * (frequency * t + rng.uniform())
            tone += rng.uniform(0.15, 0.35) * np.sin(phase)
        pieces += [tone, np.zeros(_duration(rng, 0.04, 0.1))]
    sound = np.concatenate(pieces)
    sound = sound + noise * rng.standard_normal(len(sound))
    return np.clip(sound, -1, 1).astype(np.float32)


def _duration(rng: np.random.Generator, least: float, most: float) -> int:
    return int(rng.uniform(least, most) * RATE)


def random_number(rng: np.random.Generator, least: int = 3, most: int = 10) -> str:
    """Draw a number to dial.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.speech.dialling import random_number
    >>> random_number(np.random.default_rng(0), 5, 5)
    '08744'
    """
    return "".join(rng.choice(list(KEYS), rng.integers(least, most + 1)))


def untrained(calls: list[Array], seed: int = 0) -> Transcriber:
    """Make the transcriber of the demonstration: one GRU of 64 units, reading forwards.

    Its features are normalised by the mean and deviation of the calls, not of each by itself: a
    short number has few tones, so its own mean would tell little.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.speech.dialling import dial, untrained
    >>> transcriber = untrained([dial("42", np.random.default_rng(0))])
    >>> transcriber.alphabet.outputs, transcriber.streams
    (13, True)
    """
    return Transcriber.create(
        FEATURES.fit(calls), Alphabet(sorted(KEYS)), units=64, layers=1, bidirectional=False,
        dropout=0.1, seed=seed,
    )  # fmt: skip
