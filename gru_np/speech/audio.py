"""Audio files as one channel of float32: WAV by ourselves, the rest through soundfile.

WAV holding PCM of 8, 16, 24 or 32 bits or floats of 32 or 64 bits is read with the standard library
alone, block by block, so a file of any length needs little memory. Several channels become their
mean. Samples lie in -1 .. 1; rates are in hertz, times in seconds.
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gru_np._aliases import Array
from gru_np._checks import require_count, spell
from gru_np._files import open_input
from gru_np._intake import as_array

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
HIGHEST_RATE = 2**31 - 1  # its bytes a second have 32 bits in a header
LONGEST_FORMAT = 64  # bytes of a format that are read; those that we know have 40 at most
# What programs write for a length that they did not know when they began, as into a pipe, less a
# header or a part of a frame. A file that announces so much and holds less is read to its end.
UNKNOWN_SIZES = (range(0x7FFF0000, 0x80000001), range(0xFFFF0000, 0x100000000))
LOUDEST = 32.0  # no samples in -1 .. 1, whatever was done to them, but integers become floats are


class AudioError(ValueError):
    """A sound file that cannot be used; the message is one sentence that says why."""


class Audio(NamedTuple):
    """Sound: samples (N,) float32 in -1 .. 1, and how many there are in a second."""

    samples: Array
    rate: int


INTEGERS = tuple(map(np.dtype, ("i1", "u1", "i2", "i4")))  # that sound has a range for


class _Format(NamedTuple):
    kind: int
    channels: int
    rate: int
    bits: int


class AudioFile:
    """A sound file, opened and understood, to be read in blocks.

    Parameters
    ----------
    path : str or path
        WAV, or whatever soundfile reads (FLAC, Ogg, MP3, AIFF, ...) if the extra `audio` is there.

    Attributes
    ----------
    rate : int
        Samples a second.
    frames : int
        Samples of each channel.

    Raises
    ------
    AudioError
        If the file is missing, empty, cut short, or not audio.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from gru_np.speech import AudioFile, write_wav
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_wav(f"{folder}/a.wav", np.zeros(8000), 8000)
    ...     with AudioFile(f"{folder}/a.wav") as file:
    ...         file.rate, [len(block) for block in file.blocks(0.75)]
    (8000, [6000, 2000])
    """

    def __init__(self, path: Any):
        self.path = Path(path)
        self._sound: Any = None
        try:
            self._file = open_input(self.path)
        except (OSError, ValueError) as error:
            raise AudioError(str(error)) from None
        try:
            if not self._open_wav():
                self._open_other()
            if self.frames == 0:
                raise AudioError(f"{path}: holds no samples")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "AudioFile":
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._sound is not None:
            self._sound.close()
        self._file.close()

    def blocks(self, seconds: float = 10.0) -> Iterator[Array]:
        """Yield all samples, mono float32, in blocks of this length; the last is shorter."""
        size = max(int(seconds * self.rate), 1)
        for start in range(0, self.frames, size):
            block = self._read(min(size, self.frames - start))
            if not np.isfinite(block).all():
                raise AudioError(f"{self.path}: holds samples that are NaN or infinite")
            yield block

    def _read(self, frames: int) -> Array:
        if self._sound is not None:
            samples = self._sound.read(frames, dtype="float32", always_2d=True)
        else:
            form = self._format
            raw = self._file.read(frames * form.channels * form.bits // 8)
            samples = _decode(raw, form).reshape(-1, form.channels)
        if len(samples) != frames:
            raise AudioError(f"{self.path}: is cut short")
        return np.asarray(samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1))

    def _open_wav(self) -> bool:
        """Read the header, up to the first sample; False if this is not a WAV we read."""
        file = self._file
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        if size == 0:
            raise AudioError(f"{self.path}: is empty")
        head = file.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return False
        announced = struct.unpack("<I", head[4:8])[0] + 8
        form = None
        while len(chunk := file.read(8)) == 8:
            name, length = chunk[:4], struct.unpack("<I", chunk[4:])[0]
            if name == b"fmt ":
                form = self._read_format(file.read(min(length, LONGEST_FORMAT)))
                file.seek(max(length - LONGEST_FORMAT, 0), os.SEEK_CUR)
                if form is None:
                    return False
            elif name == b"data":
                if form is None:
                    break
                held = size - file.tell()
                beyond = length > held and any(length in sizes for sizes in UNKNOWN_SIZES)
                if beyond or (length == 0 and announced != size):  # no length was filled in
                    length = held
                each = form.channels * form.bits // 8
                if length > held:
                    raise AudioError(
                        f"{self.path}: is cut short; its header announces "
                        f"{length / each / form.rate:.2f} s, the file holds "
                        f"{held / each / form.rate:.2f} s"
                    )
                self._format, self.rate, self.frames = form, form.rate, length // each
                return True
            else:
                file.seek(length, os.SEEK_CUR)
            file.seek(length % 2, os.SEEK_CUR)  # chunks begin at even places
        raise AudioError(f"{self.path}: is a damaged WAV file: it holds no sound data")

    def _read_format(self, chunk: bytes) -> _Format | None:
        if len(chunk) < 16:
            raise AudioError(f"{self.path}: is a damaged WAV file: its header is cut short")
        kind, channels, rate, _, _, bits = struct.unpack("<HHIIHH", chunk[:16])
        if kind == EXTENSIBLE and len(chunk) >= 26:
            kind = struct.unpack("<H", chunk[24:26])[0]
        if channels == 0 or rate == 0:
            raise AudioError(
                f"{self.path}: is a damaged WAV file: {channels} channels at {rate} Hz"
            )
        ours = {PCM: (8, 16, 24, 32), FLOAT: (32, 64)}
        return _Format(kind, channels, rate, bits) if bits in ours.get(kind, ()) else None

    def _open_other(self) -> None:
        try:
            import soundfile
        except ImportError:
            raise AudioError(
                f"{self.path}: is not a WAV file of plain samples; for other formats, "
                "pip install gru_np[audio]"
            ) from None
        try:
            self._file.seek(0)
            self._sound = soundfile.SoundFile(self._file)
        except soundfile.LibsndfileError:
            raise AudioError(f"{self.path}: is not an audio file") from None
        self.rate, self.frames = self._sound.samplerate, self._sound.frames


def _decode(raw: bytes, form: _Format) -> Array:
    """Turn the bytes of whole samples into float32 in -1 .. 1."""
    if form.kind == FLOAT:
        return np.frombuffer(raw, f"<f{form.bits // 8}").astype(np.float32)
    if form.bits == 8:  # the one width without a sign
        return (np.frombuffer(raw, np.uint8).astype(np.float32) - 128) / 128
    if form.bits == 24:  # as the upper three bytes of a 32-bit number
        wide = np.zeros((len(raw) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(raw, np.uint8).reshape(-1, 3)
        return (wide.view("<i4")[:, 0] / 2.0**31).astype(np.float32)
    whole = np.frombuffer(raw, f"<i{form.bits // 8}")
    return (whole / 2.0 ** (form.bits - 1)).astype(np.float32)


def read_audio(path: Any, rate: int | None = None) -> Audio:
    """Read a whole sound file.

    Parameters
    ----------
    path : str or path
        As for `AudioFile`.
    rate : int, optional
        The rate it must have.

    Returns
    -------
    Audio

    Raises
    ------
    AudioError
        If it cannot be read, or has another rate: nothing is resampled behind your back.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from gru_np.speech import read_audio, write_wav
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_wav(f"{folder}/a.wav", np.array([0.0, 0.5, -0.5]), 8000)
    ...     read_audio(f"{folder}/a.wav").samples.tolist()
    [0.0, 0.5, -0.5]
    """
    with AudioFile(path) as file:
        require_rate(path, file.rate, rate)
        return Audio(np.concatenate(list(file.blocks())), file.rate)


def require_rate(path: Any, rate: int, expected: int | None) -> None:
    """Raise unless the rate is the expected one, if one is."""
    if expected is not None and rate != expected:
        raise AudioError(
            f"{path}: has {rate} Hz, the model expects {expected} Hz; convert it first, for "
            f"example with: ffmpeg -i IN -ar {expected} OUT.wav"
        )


def as_samples(who: str, sound: Any, rate: int | None = None) -> Array:
    """Give the samples of one channel (N,) as floats in -1 .. 1, or raise.

    Integers of 8, 16 and 32 bits are divided by the range of their type, as WAV files are read;
    those of 64 bits have no such range, and floats far beyond 1 were integers once: both are
    refused. An `Audio` must have the rate, if one is given.
    """
    if isinstance(sound, Audio):
        require_rate(who, sound.rate, rate)
        sound = sound.samples
    elif isinstance(sound, tuple | str | os.PathLike):
        raise TypeError(
            f"{who}: sound must be an array of samples, got a {type(sound).__name__}; "
            "read_audio reads a file"
        )
    samples = as_array(who, sound, "sound", "iuf", "samples", "give floats in -1 .. 1", finite=True)
    if samples.ndim != 1:
        channels = min(samples.shape) if samples.ndim == 2 else 0
        advice = (
            "; take one channel, or the mean of floats in -1 .. 1 over them"
            if 0 < channels <= 8
            else ""
        )
        raise ValueError(
            f"{who}: sound must be one channel of shape (samples,), got {spell(samples.shape)}"
            + advice
        )
    if samples.dtype.kind in "iu":
        if samples.dtype not in INTEGERS:
            raise TypeError(
                f"{who}: integer samples must be of 8, 16 or 32 bits, whose range is that of "
                f"-1 .. 1, got {samples.dtype}; give their own type, np.int16 perhaps, or floats"
            )
        offset = 128 if samples.dtype == np.uint8 else 0  # the one type without a sign
        half = 2.0 ** (8 * samples.dtype.itemsize - 1)
        return ((samples.astype(np.float64) - offset) / half).astype(np.float32)
    if samples.size and (loudest := float(np.abs(samples).max())) > LOUDEST:
        raise ValueError(
            f"{who}: sound must lie in -1 .. 1, got samples up to {loudest:.6g}; divide those of "
            "16 bits by 32768"
        )
    return samples


def write_wav(path: Any, samples: Any, rate: int) -> None:
    """Write one channel as WAV of 16 bits; what lies beyond -1 .. 1 is clipped.

    Parameters
    ----------
    path : str or path
    samples : (N,) array
        Floats in -1 .. 1, or integers of 8, 16 or 32 bits, which are divided by their range.
    rate : int
        In hertz.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from gru_np.speech import read_audio, write_wav
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_wav(f"{folder}/a.wav", np.zeros(80), 8000)
    ...     read_audio(f"{folder}/a.wav").rate
    8000
    """
    import wave

    rate = require_count("write_wav", "rate", rate)
    if rate > HIGHEST_RATE:
        raise ValueError(f"write_wav: rate must be at most {HIGHEST_RATE} Hz, got {rate}")
    sound = as_samples("write_wav", samples).astype(np.float64)
    whole = np.clip(np.round(sound * 32768), -32768, 32767).astype("<i2")
    with wave.open(os.fspath(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(whole.tobytes())
