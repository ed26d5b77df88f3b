"""Containers: what an audio file's header promises, against the bytes really there.

libsndfile clamps the sizes of a truncated file without a word, and returns what is left as if it were the
whole. So the sizes that WAV, AIFF, AU and Ogg files state are checked here, before decoding. FLAC shows in
decoding, MP3 by the length it states or that is counted here; CAF, W64 and RF64 are trusted.

Names: `AudioFault`, `check_container`, `check_rate`, `mp3_lengths`.
"""

import struct

LOWEST_RATE = 1000  # hertz; below this a header is damaged, and resampling would fill the memory
STREAMED = 0x7FFFF000  # sizes from here on mean "unknown" in a header written to a pipe (sox, ffmpeg)


class AudioFault(ValueError):
    """A file that cannot be used; `reason` says why ("truncated: …")."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


def check_rate(rate: float) -> None:
    """Raise AudioFault where a header's sample rate (hertz) is 0 or next to it."""
    if rate < LOWEST_RATE:
        raise AudioFault(f"sample rate: {rate:g} Hz in the header")


def _check_size(promised: int, present: int, frame: int) -> None:
    """Raise when at least one whole frame (bytes) of the promised audio (bytes) is not there."""
    frame = max(frame, 1)
    if promised // frame > present // frame:
        raise AudioFault(f"truncated: the header promises {promised // frame} frames, {present // frame} are there")


def check_container(encoded: bytes) -> None:
    """Compare what a WAV, AIFF, AU or Ogg file says of itself with its bytes; other containers pass.

    Args:
        encoded: a whole audio file.

    Raises:
        AudioFault: a sample rate next to 0, or fewer whole frames (Ogg: bytes) than promised.
    """
    magic = encoded[:4]
    try:
        if magic in (b"RIFF", b"RIFX") and encoded[8:12] == b"WAVE":
            _check_wav(encoded, "<" if magic == b"RIFF" else ">")
        elif magic == b"FORM" and encoded[8:12] in (b"AIFF", b"AIFC"):
            _check_aiff(encoded)
        elif magic in (b".snd", b"dns."):
            _check_au(encoded, ">" if magic == b".snd" else "<")
        elif magic == b"OggS":
            _check_ogg(encoded)
    except struct.error as error:
        raise AudioFault("truncated: the file ends within its header") from error


def _check_wav(encoded: bytes, order: str) -> None:
    frame, at = 1, 12
    while at + 8 <= len(encoded):
        chunk, size = encoded[at : at + 4], struct.unpack_from(f"{order}I", encoded, at + 4)[0]
        if chunk == b"fmt ":
            rate, _, frame = struct.unpack_from(f"{order}IIH", encoded, at + 12)
            check_rate(rate)
        elif chunk == b"data":
            if 0 < size < STREAMED:
                _check_size(size, len(encoded) - at - 8, frame)
            return
        at += 8 + size + size % 2


def _check_aiff(encoded: bytes) -> None:
    frame, at = 1, 12
    while at + 8 <= len(encoded):
        chunk, size = encoded[at : at + 4], struct.unpack_from(">I", encoded, at + 4)[0]
        if chunk == b"COMM":
            channels, _, bits, exponent, mantissa = struct.unpack_from(">HIHHQ", encoded, at + 8)
            frame = channels * ((bits + 7) // 8)
            check_rate(mantissa * 2.0 ** (min(exponent & 0x7FFF, 16383 + 63) - 16383 - 63))
        elif chunk == b"SSND":
            if 8 < size < STREAMED:
                _check_size(size - 8, len(encoded) - at - 16, frame)
            return
        at += 8 + size + size % 2


def _check_au(encoded: bytes, order: str) -> None:
    offset, size, encoding, rate, channels = struct.unpack_from(f"{order}5I", encoded, 4)
    check_rate(rate)
    if 0 < size < STREAMED:
        width = {3: 2, 4: 3, 5: 4, 6: 4, 7: 8}.get(encoding, 1)
        _check_size(size, len(encoded) - offset, channels * width)


def _check_ogg(encoded: bytes) -> None:
    at = 0
    # Each page says how long it is; libsndfile drops a cut one, and much before it, in silence.
    while encoded[at : at + 4] == b"OggS":
        if at + 27 > len(encoded):
            raise AudioFault("truncated: the file ends within an Ogg page")
        body = at + 27 + encoded[at + 26]
        at = body + sum(encoded[at + 27 : body])
        if at > len(encoded):
            raise AudioFault("truncated: the file ends within an Ogg page")


MP3_KBITS = {  # by MPEG version (3: 1, 2: 2, 0: 2.5), layer III
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
MP3_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


def mp3_lengths(encoded: bytes) -> tuple[bool, int]:
    """Whether an MP3 states its length, and the samples its frames add up to.

    Args:
        encoded: a whole MP3 file.

    Returns:
        True where its first frame is a Xing, Info or VBRI header; and the samples of all layer III frames up
        to the first that is no whole frame, that header's included.

    Reference: ISO 11172-3, section 2.4.2.3; ISO 13818-3 for the lower sampling frequencies.
    """
    at, samples = 0, 0
    if encoded[:3] == b"ID3" and len(encoded) >= 10:
        b = encoded[6:10]
        at = 10 + (b[0] << 21 | b[1] << 14 | b[2] << 7 | b[3])
    stated = any(tag in encoded[at : at + 256] for tag in (b"Xing", b"Info", b"VBRI"))
    while at + 4 <= len(encoded) and encoded[at] == 0xFF and encoded[at + 1] >= 0xE0:
        version, layer = encoded[at + 1] >> 3 & 3, encoded[at + 1] >> 1 & 3
        kbits, rate, padding = encoded[at + 2] >> 4, encoded[at + 2] >> 2 & 3, encoded[at + 2] >> 1 & 1
        if version == 1 or layer != 1 or kbits in (0, 15) or rate == 3:
            break
        size = 1152 if version == 3 else 576
        at += size // 8 * 1000 * MP3_KBITS[version or 2][kbits] // MP3_RATES[version][rate] + padding
        samples += size if at <= len(encoded) else 0
    return stated, samples
