import io
import os
import struct

import librosa
import numpy as np
import pytest
import soundfile
import soxr

from mirjax.data.audio import AudioFault, decode, load_clips
from mirjax.data.containers import mp3_lengths
from mirjax.data.dataset import open_source

RNG = np.random.default_rng(0)
STEREO = (0.2 * RNG.standard_normal((6001, 2)) + 0.3 * np.sin(np.arange(6001) * 0.05)[:, None]).astype(np.float32)


def encode(samples, rate=22050, format="WAV", subtype=None, **options):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format, subtype=subtype, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def clip():
    return open_source("rhythm_small").encoded(0)  # real audio: Ogg Vorbis, 22.05 kHz, mono


def test_samples_are_soundfiles_resampled_by_soxr(clip):
    """Oracle: soundfile and soxr called directly, and librosa.load with soxr_hq."""
    samples, rate = soundfile.read(io.BytesIO(clip), dtype="float32")
    ours = decode(clip, sample_rate=12000)
    assert ours.dtype == np.float32 and ours.shape == (144000,)
    np.testing.assert_array_equal(ours, soxr.resample(samples, rate, 12000, "HQ"))
    other, _ = librosa.load(io.BytesIO(clip), sr=12000, res_type="soxr_hq")
    np.testing.assert_array_equal(ours, other)
    np.testing.assert_array_equal(decode(clip, sample_rate=rate), samples)


@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG", "MP3", "AU", "AIFF", "CAF"])
def test_channels_are_averaged_or_kept(format):
    """Oracle: soundfile's frames, averaged in float64; and soxr on each channel."""
    encoded = encode(STEREO, format=format)
    frames, _ = soundfile.read(io.BytesIO(encoded))
    mono = decode(encoded, sample_rate=22050)
    assert mono.shape == (len(STEREO),)
    np.testing.assert_allclose(mono, frames.mean(1), atol=1e-7)
    both = decode(encoded, sample_rate=12000, channels=2)
    each = [soxr.resample(frames[:, c].astype(np.float32), 22050, 12000, "HQ") for c in (0, 1)]
    assert both.flags.c_contiguous
    np.testing.assert_allclose(both, np.stack(each), atol=1e-6)


def test_one_channel_is_repeated_and_many_are_averaged():
    """Hand-worked: constants in 16 bits are exact."""
    mono = decode(encode(np.full(100, 0.5)), sample_rate=22050, channels=2)
    np.testing.assert_array_equal(mono, np.full((2, 100), 0.5, np.float32))
    surround = encode(np.tile([0.5, 0.25, 0.0, 0.25], (100, 1)))
    np.testing.assert_array_equal(decode(surround, sample_rate=22050), np.full(100, 0.25, np.float32))
    with pytest.raises(AudioFault, match="channels: 4"):
        decode(surround, sample_rate=22050, channels=2)
    with pytest.raises(ValueError, match="channels=3; ask for 1 or 2"):
        decode(surround, sample_rate=22050, channels=3)
    with pytest.raises(ValueError, match="sample_rate=0"):
        decode(surround, sample_rate=0)


def test_integers_stored_as_floats_pass():
    """Hand-worked: 16-bit samples written as floats without scaling, and a peak of exactly 1e6."""
    for peak in (32768.0, 1e6):
        samples = np.array([0.0, -peak, peak, 1.0] * 50, np.float32)
        np.testing.assert_array_equal(decode(encode(samples, subtype="FLOAT"), sample_rate=22050), samples)


def with_rate(encoded, rate):
    return encoded[:24] + struct.pack("<I", rate) + encoded[28:]


def with_data_size(encoded, size):
    at = encoded.index(b"data") + 4
    return encoded[:at] + struct.pack("<I", size) + encoded[at + 4 :]


def halve(encoded):
    return encoded[: len(encoded) // 2]


def without_length(mp3):
    """An MP3 without its first frame, the Info or Xing header."""
    return mp3[mp3.index(mp3[:2], 4) :]


# Variable bit rate: libsndfile guesses the length from the first frame, too short here, too long when reversed.
FADING = np.tile(STEREO, (20, 1)) * (np.arange(20 * len(STEREO))[:, None] < 60000)
NAN = STEREO.copy()
NAN[17, 1] = np.nan
INF = STEREO.copy()
INF[0, 0] = -np.inf
FAULTS = {
    "no bytes": (lambda: b"", "empty: the file has 0 bytes"),
    "no frames": (lambda: encode(STEREO[:0]), "empty: 0 frames"),
    "too few frames": (lambda: encode(STEREO[:1], rate=96000), "empty: 1 frames at 96000 Hz"),
    "NaN": (lambda: encode(NAN, subtype="FLOAT"), "not finite: 1 samples"),
    "infinity": (lambda: encode(INF, subtype="FLOAT"), "not finite: 1 samples"),
    "absurd": (lambda: encode(1e30 * np.sign(STEREO), subtype="FLOAT"), r"implausible: peak 1e\+30"),
    "absurd below": (lambda: encode(np.minimum(-1.1e6 * STEREO, 0), subtype="FLOAT"), r"implausible: peak 1\.\d+e\+06"),
    "text": (lambda: b"This is no audio.\n" * 50, "text: .*'This is no audio"),
    "noise": (lambda: RNG.bytes(5000), "unreadable: "),
    "rate 0": (lambda: with_rate(encode(STEREO), 0), "sample rate: 0 Hz"),
    "rate 1": (lambda: with_rate(encode(STEREO), 1), "sample rate: 1 Hz"),
    "wav": (lambda: encode(STEREO)[:-4], "truncated: the header promises 6001 frames, 6000 are there"),
    "wav, half": (lambda: encode(STEREO)[:12000], "truncated: the header promises 6001 frames, 2989"),
    "wav, header": (lambda: encode(STEREO)[:30], "truncated: the file ends within its header"),
    "wav, adpcm": (lambda: encode(STEREO, subtype="IMA_ADPCM")[:-1000], "truncated: "),
    "wav, lying": (lambda: with_data_size(encode(STEREO), 10**9), "truncated: the header promises 250000000"),
    "au": (lambda: encode(STEREO, format="AU")[:-4], "truncated: the header promises 6001 frames, 6000 are"),
    "aiff": (lambda: encode(STEREO, format="AIFF")[:-4], "truncated: the header promises 6001 frames, 6000"),
    "flac": (lambda: encode(STEREO, format="FLAC")[:9000], "truncated or damaged: .* of 6001 frames"),
    "mp3": (lambda: halve(encode(STEREO, format="MP3")), "truncated: 6001 frames are promised"),
    "mp3, loud start": (
        lambda: without_length(encode(FADING, rate=44100, format="MP3", bitrate_mode="VARIABLE")),
        "truncated: 12.... frames are promised, .* decode",
    ),
    "ogg": (lambda: encode(STEREO, format="OGG")[:-3], "truncated: the file ends within an Ogg page"),
    "ogg, half": (lambda: encode(STEREO, format="OGG")[:4500], "truncated: the file ends within an Ogg page"),
    "m4a": (lambda: b"\0\0\0\x20ftypM4A " + bytes(500), "unreadable: neither soundfile nor librosa"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_faulty_file_is_named(case):
    """Issue: bad input; frames counted by hand (4 bytes a frame, 44-byte header)."""
    make, reason = FAULTS[case]
    with pytest.raises(AudioFault, match=reason) as caught:
        decode(make(), sample_rate=12000)
    assert str(caught.value) == caught.value.reason


def test_a_stream_of_unknown_length_is_no_fault():
    """Oracle: soundfile on the same bytes; 0xFFFFFFFF and sox's 0x7FFFF000 are what pipes leave in headers."""
    wav, au = encode(STEREO), encode(STEREO, format="AU")
    for stream in (
        with_data_size(wav, 0xFFFFFFFF),
        with_data_size(wav, 0x7FFFF000),
        au[:8] + b"\xff" * 4 + au[12:],
    ):
        frames, _ = soundfile.read(io.BytesIO(stream), dtype="float32")
        assert len(frames) == len(STEREO)
        np.testing.assert_array_equal(decode(stream, sample_rate=22050), (frames[:, 0] + frames[:, 1]) / 2)


@pytest.mark.parametrize("cut", [1, 9])
@pytest.mark.parametrize("mode", ["VARIABLE", "CONSTANT"])
def test_mp3_without_a_length_header_is_no_fault(mode, cut):
    """Oracle: soundfile; without that header libsndfile guesses more frames than there are."""
    stream = encode(FADING[::-1], rate=44100, format="MP3", bitrate_mode=mode)
    for _ in range(cut):
        stream = without_length(stream)
    with soundfile.SoundFile(io.BytesIO(stream)) as file:
        promised, frames = file.frames, file.read(dtype="float32", always_2d=True)
    assert promised > len(frames) > 0.9 * len(FADING)
    np.testing.assert_array_equal(decode(stream, sample_rate=44100), (frames[:, 0] + frames[:, 1]) / 2)


@pytest.mark.parametrize("rate", [44100, 22050, 11025])
@pytest.mark.parametrize("mode", ["VARIABLE", "CONSTANT"])
def test_mp3_frames_are_counted(rate, mode):
    """Oracle: the samples encoded; an encoder adds its delay and fills up, at most three frames."""
    mp3 = encode(FADING, rate=rate, format="MP3", bitrate_mode=mode)
    stated, counted = mp3_lengths(without_length(mp3))
    assert not stated
    frame = 1152 if rate == 44100 else 576
    assert counted % frame == 0 and 0 <= counted - len(FADING) <= 3 * frame
    assert mp3_lengths(mp3) == (True, counted + frame)


def test_librosa_reads_what_soundfile_cannot(monkeypatch):
    """Hand-worked: what librosa gives is what we give; its failures are faults (FAULTS, m4a)."""
    given = {}

    def load(path, *, sr, mono):
        given["bytes"] = path.read_bytes()
        return STEREO.T, 22050

    monkeypatch.setattr(librosa, "load", load)
    m4a = b"\0\0\0\x20ftypM4A " + bytes(500)
    np.testing.assert_array_equal(decode(m4a, sample_rate=22050, channels=2), STEREO.T)
    assert given["bytes"] == m4a


# ── load_clips ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def folder(tmp_path):
    """Two classes, three good clips each."""
    for i, name in enumerate(("x/0", "x/1", "x/2", "y/0", "y/1", "y/2")):
        file = tmp_path / "data" / f"{name}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode(STEREO[: 3000 + i], rate=8000))
    return tmp_path / "data"


def load(source, **options):
    return load_clips(source if not hasattr(source, "joinpath") else open_source(source), progress=False, **options)


def test_clips_carry_the_sources_columns(tmp_path, folder):
    """Oracle: the manifest's own rows; lengths by soxr."""
    rows = [f"{c}/{i}.wav,{c},{s},{i},ann" for i, s in enumerate(("train", "valid", "test")) for c in "xy"]
    (folder / "m.csv").write_text("path,label,split,fold,artist\n" + "\n".join(rows))
    clips = load(open_source(folder / "m.csv", group="artist"))
    for column, values in zip(
        zip(*(row.split(",") for row in rows), strict=True), "ids labels splits folds groups".split(), strict=True
    ):
        np.testing.assert_array_equal(getattr(clips, values), column)
    np.testing.assert_array_equal(clips.metadata["artist"], ["ann"] * 6)
    assert (len(clips), clips.name, clips.group, clips.sample_rate) == (6, "m", "artist", 12000)
    expected = [soxr.resample(soundfile.read(folder / i)[0].mean(1), 8000, 12000, "HQ") for i in clips.ids]
    np.testing.assert_array_equal(clips.lengths, [len(samples) for samples in expected])
    for i, samples in enumerate(expected):
        np.testing.assert_allclose(clips.audio(i), samples, atol=1e-6)


def test_faulty_clips_are_left_out_and_change_nothing_else(folder, caplog):
    """Oracle: the same folder without them; a manifest also names a missing file and a folder."""
    before = load(folder)
    (folder / "x" / "1b.wav").write_text("not audio")
    (folder / "y" / "0b.wav").write_bytes(encode(STEREO)[:2000])
    (folder / "y" / "3.mp3").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"3 of 9 clips left out: x/1b\.wav \(text: .*y/0b\.wav \(trunc"):
        after = load(folder)
    assert [fault.id for fault in after.faults] == ["x/1b.wav", "y/0b.wav", "y/3.mp3"]
    assert len([r for r in caplog.records if "left out" in r.message and "y/3.mp3 (empty" in r.message]) == 1
    assert any("left out" in note for note in after.notes)
    np.testing.assert_array_equal(after.ids, before.ids)
    assert after.content_hash == before.content_hash
    for i in range(len(before)):
        np.testing.assert_array_equal(after.audio(i), before.audio(i))
    with pytest.raises(ValueError, match=r"3 of 9 clips are faulty, first x/1b\.wav \(text.*strict=False"):
        load(folder, strict=True)
    (folder / "m.csv").write_text("path,label\nx/0.wav,x\nx/9.wav,x\ny,y\ny/0.wav,y\n")
    with pytest.warns(UserWarning, match="2 of 4"):
        clips = load(open_source(folder / "m.csv"))
    assert [fault.reason for fault in clips.faults] == ["missing or not a file"] * 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_a_fault_and_never_waited_for(folder):
    """Hand-worked: opening a pipe that nobody writes to, or reading /dev/zero, would never end."""
    os.mkfifo(folder / "x" / "pipe.wav")
    (folder / "y" / "zero.wav").symlink_to("/dev/zero")
    with pytest.raises(OSError, match="missing or not a file"):
        open_source(folder).encoded(3)
    with pytest.warns(UserWarning, match="2 of 8 clips left out"):
        clips = load(folder)
    assert [(f.id, f.reason) for f in clips.faults] == [
        ("x/pipe.wav", "missing or not a file"),
        ("y/zero.wav", "missing or not a file"),
    ]


def test_nothing_or_one_class_left_is_an_error(folder):
    """Issue: all files faulty; one class."""
    for file in (folder / "x").iterdir():
        file.write_bytes(b"")
    with pytest.warns(UserWarning, match="3 of 6"), pytest.raises(ValueError, match="only class 'y' is left"):
        load(folder)
    for file in (folder / "y").iterdir():
        file.write_bytes(b"")
    with pytest.raises(ValueError, match=r"all 6 clips are faulty.*x/0\.wav \(empty"):
        load(folder)


def test_silent_clips_are_kept_and_counted(folder):
    """Hand-worked: one file of zeros."""
    (folder / "x" / "1.wav").write_bytes(encode(np.zeros(3000), rate=8000))
    with pytest.warns(UserWarning, match=r"1 of 6 clips hold only zeros \(kept\): x/1\.wav"):
        clips = load(folder)
    assert clips.silent == ("x/1.wav",) and len(clips) == 6 and not clips.faults
    assert not clips.audio(1).any()


def test_samples_do_not_depend_on_the_order_of_clips(folder):
    """Oracle: each clip by itself, through decode."""
    ids = ["y/1.wav", "x/0.wav", "y/0.wav", "x/2.wav"]
    (folder / "m.csv").write_text("path,label\n" + "\n".join(f"{i},{i[0]}" for i in ids))
    clips = load(open_source(folder / "m.csv"))
    for i, id in enumerate(ids):
        np.testing.assert_array_equal(clips.audio(i), decode((folder / id).read_bytes(), sample_rate=12000))


def test_content_hash_tells_files_and_columns_apart(folder):
    """Hand-worked: each single change gives another hash; settings and repetition do not."""
    first = load(folder)
    assert load(folder).content_hash == load(folder, sample_rate=8000, channels=2).content_hash == first.content_hash
    hashes = {first.content_hash}
    rows = [f"{c}/{i}.wav,{c},{i},a{i}" for c in "xy" for i in range(3)]
    for header, changed in (
        ("path,label", rows),
        ("path,label,fold", rows),
        ("path,label,fold", [*rows[:-1], "y/2.wav,y,1,a2"]),
        ("path,label,fold,artist", rows),
        ("path,label", [*rows[:-1], "y/2.wav,x,2,a2"]),
        ("path,label", rows[::-1]),
    ):
        width = len(header.split(","))
        (folder / "m.csv").write_text("\n".join((header, *(",".join(r.split(",")[:width]) for r in changed))))
        hashes.add(load(open_source(folder / "m.csv", group="artist" if width == 4 else None)).content_hash)
    assert len(hashes) == 6  # a manifest without more columns is the same data as the folder
    (folder / "y" / "2.wav").write_bytes(encode(STEREO[:2999], rate=8000))
    assert load(folder).content_hash not in hashes


@pytest.mark.parametrize("name", ["digits_small", "rhythm_small"])
def test_embedded_sets_decode_without_faults(name, recwarn):
    """Oracle: soundfile's durations."""
    source = open_source(name)
    clips = load(source)
    assert not clips.faults and not clips.silent and not recwarn.list and len(clips) == len(source)
    seconds = [soundfile.info(io.BytesIO(source.encoded(i))).duration for i in range(len(source))]
    np.testing.assert_allclose(clips.lengths / 12000, seconds, atol=1.5 / 12000)
