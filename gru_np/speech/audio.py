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

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
# What some programs write for a length they did not know when they began: read to the end.
UNKNOWN_SIZE = 0xFFFFFFFF


class AudioError(ValueError):
    """A sound file that cannot be used; the message is one sentence that says why."""


class Audio(NamedTuple):
    """Sound: samples (N,) float32 in -1 .. 1, and how many there are in a second."""

    samples: Array
    rate: int


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
            self._file = open(self.path, "rb")  # noqa: SIM115 - closed by close
        except FileNotFoundError:
            raise AudioError(f"{path}: there is no such file") from None
        except OSError as error:
            raise AudioError(f"{path}: cannot be opened: {error.strerror}") from None
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
        file, size = self._file, os.fstat(self._file.fileno()).st_size
        if size == 0:
            raise AudioError(f"{self.path}: is empty")
        head = file.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return False
        form = None
        while len(chunk := file.read(8)) == 8:
            name, length = chunk[:4], struct.unpack("<I", chunk[4:])[0]
            if name == b"fmt ":
                form = self._read_format(file.read(length))
                if form is None:
                    return False
            elif name == b"data":
                if form is None:
                    break
                held = size - file.tell()
                length = held if length == UNKNOWN_SIZE else length
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
            self._sound = soundfile.SoundFile(self.path)
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


def write_wav(path: Any, samples: Any, rate: int) -> None:
    """Write one channel as WAV of 16 bits; what lies beyond -1 .. 1 is clipped.

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

    whole = np.clip(np.round(np.asarray(samples, float) * 32768), -32768, 32767).astype("<i2")
    with wave.open(os.fspath(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(whole.tobytes())
