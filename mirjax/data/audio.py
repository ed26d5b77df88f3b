"""Audio: from a file's bytes to float32 samples, once, and from a source to its clips.

Samples are float32, nominally in [-1, 1]: mono `f32[N]`, or `f32[2, N]` where a model asks for two channels.
Decoding is soundfile's (wav, flac, ogg, opus, mp3, au, aiff, caf, …; librosa for AAC and its like),
resampling soxr's HQ.

A file that cannot be trusted is a fault, with a named reason; it is left out and never changes what other
files give: missing or not a file · unreadable · text · empty · truncated · sample rate · channels ·
not finite · implausible.

Decoded clips are cached as `.npy` (float32, followed by a CRC-32), one file for each content and setting, so
that a second run does not decode, and so that a large set need not fit in memory.

Names: `decode`, `AudioFault`, `load_clips`, `Clips`, `Fault`.
"""

import hashlib
import io
import logging
import os
import struct
import tempfile
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .catalogue import Facts
from .containers import AudioFault, check_container, check_rate, mp3_lengths
from .dataset import Source

logger = logging.getLogger(__name__)

DECODER_VERSION = 1  # in the cache's keys, beside its libraries' versions: raise it whenever decode's samples change
BLOCK = 1 << 22  # samples read at a time, so that a header that promises terabytes allocates little
MP3_FRAME = 1152  # samples
HIGHEST_PEAK = 1e6  # integers stored as floats reach 32768; what is far beyond is no sound


@dataclass(frozen=True)
class Fault:
    """A clip left out: its id and the reason."""

    id: str
    reason: str


# ── decoding ──────────────────────────────────────────────────────────────────────────────────────


def decode(encoded: bytes, *, sample_rate: int, channels: int = 1) -> np.ndarray:
    """Decode the bytes of an audio file, mix its channels and resample.

    Args:
        encoded: a whole audio file.
        sample_rate: of the result, in hertz.
        channels: 1 (the average of the file's channels) or 2 (a mono file is repeated on both).

    Returns:
        f32[N], or f32[2, N] for two channels.

    Raises:
        AudioFault: the file is unreadable, text, empty, truncated, of no plausible sample rate, holds NaN or
            infinity or a peak above 1e6, or has more than two channels where two are asked for.
        ValueError: channels is neither 1 nor 2, or sample_rate is not positive.
    """
    if channels not in (1, 2):
        raise ValueError(f"channels={channels}; ask for 1 or 2")
    if sample_rate <= 0:
        raise ValueError(f"sample_rate={sample_rate}; give a positive number of hertz")
    if not encoded:
        raise AudioFault("empty: the file has 0 bytes")
    check_container(encoded)
    frames, rate = _read_frames(encoded)
    check_rate(rate)
    if not len(frames):
        raise AudioFault("empty: 0 frames of audio")
    if not np.isfinite(frames).all():
        raise AudioFault(f"not finite: {np.count_nonzero(~np.isfinite(frames))} samples are NaN or infinite")
    if (peak := max(frames.max(), -frames.min())) > HIGHEST_PEAK:
        raise AudioFault(f"implausible: peak {peak:g}, where full scale is 1")
    audio = _mix(frames, channels)
    if rate != sample_rate:
        import soxr

        audio = soxr.resample(audio, rate, sample_rate, quality="HQ")
    if not len(audio):
        raise AudioFault(f"empty: {len(frames)} frames at {rate} Hz are no sample at {sample_rate} Hz")
    return np.ascontiguousarray(audio.T, dtype=np.float32)


def _mix(frames: np.ndarray, channels: int) -> np.ndarray:
    """f32[N, C] → f32[N] or f32[N, 2]."""
    given = frames.shape[1]
    if channels == 2:
        if given > 2:
            raise AudioFault(f"channels: {given} in the file where 2 are asked for")
        return frames if given == 2 else np.repeat(frames, 2, axis=1)
    mix = frames[:, 0].copy()
    for c in range(1, given):  # numpy's mean over an axis of two is thirty times slower
        mix += frames[:, c]
    return mix / np.float32(given) if given > 1 else mix


def _read_frames(encoded: bytes) -> tuple[np.ndarray, int]:
    """All frames f32[N, C] and the sample rate."""
    import soundfile

    try:
        file = soundfile.SoundFile(io.BytesIO(encoded))
    except (soundfile.SoundFileError, TypeError, ValueError) as error:
        if _is_mpeg4_or_like(encoded):
            return _read_with_librosa(encoded)
        if _is_text(encoded):
            raise AudioFault(f"text: no audio file, it begins {encoded[:20].decode('utf-8', 'replace')!r}") from error
        raise AudioFault(f"unreadable: {getattr(error, 'error_string', error)}") from error
    blocks, read = [], 0
    with file:
        promised, size = file.frames, BLOCK // file.channels + 1
        try:
            while len(block := file.read(min(size, promised - read), dtype="float32", always_2d=True)):
                blocks.append(block)
                read += len(block)
        except soundfile.SoundFileError as error:
            reason = f"truncated or damaged: decoding stops after {read} of {promised} frames"
            raise AudioFault(f"{reason} ({getattr(error, 'error_string', error)})") from error
        lost, slack = promised - read, 0
        if file.format == "MP3":
            stated, counted = mp3_lengths(encoded)
            slack = MP3_FRAME  # encoders differ in whether the frame that states the length counts
            if not stated:
                # libsndfile's length is a guess then: no promise, but it stops there. A stream cut out of another
                # lacks bits for its first few frames, which is no loss.
                lost, slack = counted - read, 8 * MP3_FRAME
        if lost > slack:
            raise AudioFault(f"truncated: {read + lost} frames are promised, {read} decode")
        rate = file.samplerate
    return (blocks[0] if len(blocks) == 1 else np.concatenate(blocks) if blocks else np.empty((0, 1), "f4")), rate


def _is_text(encoded: bytes) -> bool:
    head = encoded[:512]
    return all(byte >= 0x20 or byte in b"\t\n\r\f" for byte in head) and b"\x7f" not in head


def _is_mpeg4_or_like(encoded: bytes) -> bool:
    """MP4/M4A, raw AAC, WMA, Matroska: what librosa's fallback may read where soundfile cannot."""
    return encoded[4:8] == b"ftyp" or encoded[:2] in (b"\xff\xf1", b"\xff\xf9") or (
        encoded[:4] in (b"\x30\x26\xb2\x75", b"\x1a\x45\xdf\xa3")
    )  # fmt: skip


def _read_with_librosa(encoded: bytes) -> tuple[np.ndarray, int]:
    import librosa

    try:
        # The fallback calls a decoder of the system, which wants a file.
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = Path(folder, "clip")
            path.write_bytes(encoded)
            audio, rate = librosa.load(path, sr=None, mono=False)
    except Exception as error:  # each of its decoders raises errors of its own
        reason = f"unreadable: neither soundfile nor librosa can ({str(error) or type(error).__name__})"
        raise AudioFault(f"{reason}; install ffmpeg or convert it") from error
    return np.atleast_2d(audio).T.astype(np.float32, copy=False), int(rate)


# ── clips and their cache ─────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, eq=False)
class Clips:
    """The usable clips of a source, decoded.

    Args:
        facts: what is true of the data set.
        ids, labels: str[M].
        splits, folds, groups: str[M] or None.
        group: as asked of `open_source`: a metadata column, "none", or None (the catalogue's).
        metadata: further columns, str[M] each.
        sample_rate: hertz.
        channels: 1 or 2.
        lengths: int64[M], samples.
        content_hash: sha256 (hex) over ids, labels, splits, folds, groups and file contents, in order.
        faults: the clips left out, with the reason.
        silent: ids of the clips that hold only zeros (kept).
        notes: what was ignored, left out or is silent, as sentences.
        read: clip number → samples, from the cache, from memory, or decoded anew.
        cut: clip number, first sample, end → these samples, without reading the others; None: of `read`.
    """

    facts: Facts
    ids: np.ndarray
    labels: np.ndarray
    splits: np.ndarray | None
    folds: np.ndarray | None
    groups: np.ndarray | None
    group: str | None
    metadata: dict[str, np.ndarray]
    sample_rate: int
    channels: int
    lengths: np.ndarray
    content_hash: str
    faults: tuple[Fault, ...]
    silent: tuple[str, ...]
    notes: tuple[str, ...]
    read: Callable[[int], np.ndarray] = field(repr=False)
    cut: Callable[[int, int, int], np.ndarray] | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The data set's name in records."""
        return self.facts.name

    def audio(self, i: int) -> np.ndarray:
        """Samples of clip i: f32[N], or f32[2, N] with two channels."""
        return self.read(i)

    def piece(self, i: int, start: int, stop: int) -> np.ndarray:
        """Samples `start` to `stop` of clip i (to its end, where it is shorter): f32[n], or f32[2, n].

        Of a cached clip nothing else is read; its check sum was compared when the clips were loaded.
        """
        return self.read(i)[..., start:stop] if self.cut is None else self.cut(i, start, stop)

    def __len__(self) -> int:
        return len(self.ids)


def load_clips(
    source: Source,
    *,
    sample_rate: int = 12000,
    channels: int = 1,
    cache: str | os.PathLike | None = None,
    strict: bool = False,
    progress: bool = True,
) -> Clips:
    """Decode every clip of a source, or find it in the cache, and leave out the faulty ones.

    Args:
        source: from `open_source`.
        sample_rate: hertz.
        channels: 1 or 2, see `decode`.
        cache: folder of the cache; decoded clips lie in its `audio/`. None keeps them in memory.
        strict: raise on the first fault instead of leaving it out.
        progress: show a progress bar.

    Returns:
        `Clips`, in the source's order. With a cache, memory holds no samples.

    Raises:
        ValueError: all clips are faulty; fewer than two classes are left; or, if strict, any clip is faulty
            (the first is named, all are counted).
    """
    from tqdm import tqdm

    store = _Store(None if cache is None else Path(cache) / "audio", source, sample_rate, channels)
    kept, hashes, lengths, silent, faults = [], [], [], [], []
    for i in tqdm(range(len(source)), desc=f"decode {source.facts.name}", unit="clip", disable=not progress):
        try:
            content, audio = store.load(i)
        except AudioFault as fault:
            faults.append(Fault(source.ids[i], fault.reason))
            continue
        kept.append(i)
        hashes.append(content)
        lengths.append(audio.shape[-1])
        if not audio.any():
            silent.append(source.ids[i])
    name = source.facts.name
    notes = list(source.notes)
    if faults:
        listed = [f"{fault.id} ({fault.reason})" for fault in faults]
        if strict:
            raise ValueError(
                f"{name}: {len(faults)} of {len(source)} clips are faulty, first {listed[0]}; "
                "repair or remove them, or leave them out with strict=False"
            )
        if not kept:
            raise ValueError(f"{name}: all {len(source)} clips are faulty; check the files: {_few(listed)}")
        notes.append(_warn(f"{name}: {len(faults)} of {len(source)} clips left out", listed))
    if silent:
        notes.append(_warn(f"{name}: {len(silent)} of {len(source)} clips hold only zeros (kept)", silent))
    pick = np.array(kept)
    ids, labels = np.array(source.ids)[pick], np.array(source.labels)[pick]
    if len(set(labels)) < 2:
        raise ValueError(
            f"{name}: only class {str(labels[0])!r} is left after leaving out {len(faults)} faulty clips; "
            "repair the files of another class"
        )
    splits, folds, groups = (
        None if column is None else np.array(column)[pick] for column in (source.splits, source.folds, source.groups)
    )
    return Clips(
        facts=source.facts,
        ids=ids,
        labels=labels,
        splits=splits,
        folds=folds,
        groups=groups,
        group=source.group,
        metadata={column: np.array(values)[pick] for column, values in source.metadata.items()},
        sample_rate=sample_rate,
        channels=channels,
        lengths=np.array(lengths, dtype=np.int64),
        content_hash=_hash_columns(ids, labels, splits, folds, groups, hashes),
        faults=tuple(faults),
        silent=tuple(silent),
        notes=tuple(notes),
        read=lambda i: store.load(kept[i])[1],
        cut=lambda i, start, stop: store.cut(kept[i], start, stop),
    )


def _warn(what: str, listed: list[str]) -> str:
    """Log all of them once, warn with the first few; the logged sentence."""
    warnings.warn(f"{what}: {_few(listed)}", stacklevel=3)
    sentence = f"{what}: {'; '.join(listed)}"
    logger.warning(sentence)
    return sentence


def _few(listed: list[str]) -> str:
    return "; ".join(listed[:5]) + ("; …" if len(listed) > 5 else "")


def _hash_columns(*columns) -> str:
    digest = hashlib.sha256()
    for column in columns:
        for value in () if column is None else column:
            text = str(value).encode()  # a length before each value: ("ab", "c") is not ("a", "bc")
            digest.update(struct.pack("<Q", len(text)) + text)
        digest.update(b"absent;" if column is None else b"end;")
    return digest.hexdigest()


class _Store:
    """Decoded clips of one source and setting: in files as long as the disk takes them, else in memory."""

    def __init__(self, folder: Path | None, source: Source, sample_rate: int, channels: int):
        self.folder, self.source, self.sample_rate, self.channels = folder, source, sample_rate, channels
        self.writable = folder is not None
        self.known: dict[int, tuple[str, Path | None]] = {}  # clip number → content hash, cache file
        self.held: dict[int, np.ndarray] = {}

    def load(self, i: int) -> tuple[str, np.ndarray]:
        """Content hash and samples of the source's clip i; AudioFault where there are none."""
        if i in self.held:
            return self.known[i][0], self.held[i].copy()
        content, path = self.known.get(i, (None, None))
        if path is not None and (audio := _read_cached(path, self.channels)) is not None:
            return content, audio
        encoded = self._encoded(i)
        before, content = content, hashlib.sha256(encoded).hexdigest()
        if before not in (None, content):
            raise ValueError(f"{self.source.ids[i]} has changed since it was loaded; load the data set again")
        if self.folder is not None:
            setting = f"{content} {self.sample_rate} {self.channels} {_decoder_versions()}"
            key = hashlib.sha256(setting.encode()).hexdigest()
            path = self.folder / key[:2] / f"{key}.npy"
        audio = None if path is None else _read_cached(path, self.channels)
        stored = audio is not None
        if not stored:
            audio = decode(encoded, sample_rate=self.sample_rate, channels=self.channels)
            stored = self._write(path, audio)
        self.known[i] = content, path
        if not stored:
            self.held[i] = audio.copy()
        return content, audio

    def cut(self, i: int, start: int, stop: int) -> np.ndarray:
        """Samples `start` to `stop` of a clip that was loaded before."""
        if i in self.held:
            return self.held[i][..., start:stop].copy()
        try:
            return np.array(np.load(self.known[i][1], mmap_mode="r")[..., start:stop])
        except (OSError, ValueError, EOFError):  # gone, or torn since it was loaded
            return self.load(i)[1][..., start:stop]

    def _encoded(self, i: int) -> bytes:
        try:
            return self.source.encoded(i)
        except FileNotFoundError as error:
            raise AudioFault("missing or not a file") from error
        except OSError as error:
            raise AudioFault(f"unreadable: {error.strerror or error}") from error

    def _write(self, path: Path | None, audio: np.ndarray) -> bool:
        if not self.writable:
            return False
        try:
            _write_cached(path, audio)
        except OSError as error:
            self.writable = False
            reason = error.strerror or error
            message = f"audio cache {self.folder} takes no more files ({reason}); going on in memory"
            warnings.warn(message, stacklevel=4)
            logger.warning(message)
        return self.writable


def _decoder_versions() -> str:
    """What the samples depend on besides the file and the setting: other decoders may give other samples."""
    import soundfile
    import soxr

    libraries = soundfile.__libsndfile_version__, soxr.__libsoxr_version__
    return " ".join(map(str, (DECODER_VERSION, soundfile.__version__, soxr.__version__, *libraries)))


def _write_cached(path: Path, audio: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        with open(unfinished, "wb") as file:
            np.save(file, audio)
            file.write(struct.pack("<I", zlib.crc32(audio)))
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def _read_cached(path: Path, channels: int) -> np.ndarray | None:
    """The cached samples, or None where the file is not there, torn or damaged."""
    try:
        with open(path, "rb") as file:
            audio = np.load(file, allow_pickle=False)
            sound = file.read() == struct.pack("<I", zlib.crc32(audio))
    except FileNotFoundError:
        return None
    except Exception:  # a torn header makes numpy raise almost anything
        sound = False
    if sound and audio.dtype == np.float32 and audio.ndim == channels:
        return audio
    logger.warning("audio cache: %s is damaged, decoding anew", path.name)
    return None
