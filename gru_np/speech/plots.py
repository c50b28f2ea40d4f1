"""What the network hears when: label posteriors over the spectrogram (extra `plot`)."""

import os
from typing import Any

import numpy as np

from gru_np.ctc_decoding import greedy
from gru_np.speech.audio import as_samples, read_audio
from gru_np.speech.features import Features
from gru_np.speech.transcriber import Transcriber

# Matplotlib's own cycle without its grey, which is the blank's.
SHADES = [f"C{i}" for i in range(10) if i != 7]


def plot_posteriors(
    transcriber: Transcriber, sound: Any, least: float = 0.1, figure: Any = None
) -> Any:
    """Draw the posterior of each symbol over time, above the spectrogram of the sound.

    What the best path hears is written over the posteriors, an open box for a space.

    Parameters
    ----------
    transcriber : Transcriber
    sound : str, path, Audio or (N,) array
        An utterance.
    least : float
        Symbols that never reach this probability are left out; the blank is drawn in grey.
    figure : matplotlib Figure, optional
        Where to draw.

    Returns
    -------
    (2,) array of Axes

    Raises
    ------
    ImportError
        If matplotlib is not installed, naming the extra.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.speech import Alphabet, Features, Transcriber, plot_posteriors
    >>> features = Features("spectrogram", rate=8000, bins=16)
    >>> transcriber = Transcriber.create(features, Alphabet("ab"), units=8, seed=0)
    >>> axes = plot_posteriors(transcriber, np.zeros(8000))  # doctest: +SKIP
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install gru_np[plot]") from error
    features = transcriber.features
    if isinstance(sound, str | os.PathLike):
        sound = read_audio(sound, features.rate)
    samples = as_samples("plot_posteriors", sound, features.rate)
    log_y = transcriber.log_probabilities(features(samples))
    y = np.exp(log_y)  # (T, V)
    picture = Features("spectrogram", features.rate, bins=80).spectra(samples)
    seconds = len(samples) / features.rate

    figure = figure or plt.figure(figsize=(10, 5), layout="constrained")
    top, bottom = figure.subplots(2, sharex=True)
    times = np.arange(len(y)) * features.step_seconds
    top.fill_between(times, y[:, 0], color="0.9", label="blank", step="post")
    labels = [k for k in range(1, y.shape[1]) if y[:, k].max(initial=0) >= least]
    for i, label in enumerate(labels):
        top.step(times, y[:, label], where="post", color=SHADES[i % len(SHADES)])
    # Each symbol is named where it was heard, so that nobody has to tell colours apart.
    spans = greedy(log_y)
    for span in spans:
        middle = (span.begin + span.end) / 2 * features.step_seconds
        symbol = transcriber.alphabet.decode([span.label]).replace(" ", "\u2423")  # an open box
        top.text(middle, 1.02, symbol, ha="center", va="bottom", fontsize="small")
    words = transcriber.transcript(spans).words
    spelled = transcriber.alphabet.unit == "character" and len(words) > 1
    for word in words if spelled else []:
        top.text((word.begin + word.end) / 2, 1.12, word.text, ha="center", va="bottom")
    top.set(ylabel="posterior", ylim=(0, 1.24 if spelled else 1.12), yticks=(0, 0.5, 1))
    top.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small", frameon=False)
    bottom.imshow(
        picture.T,
        origin="lower",
        aspect="auto",
        extent=(0, seconds, 0, features.rate / 2000),
        cmap="cividis",
    )
    bottom.set(xlabel="time, s", ylabel="frequency, kHz", xlim=(0, seconds))
    return np.array([top, bottom])
