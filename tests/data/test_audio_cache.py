import errno
import os
import shutil
import sys

import numpy as np
import pytest
import soundfile

from mirjax.data import audio
from mirjax.data.dataset import open_source

RNG = np.random.default_rng(0)


@pytest.fixture
def folder(tmp_path):
    for name in ("x/0", "x/1", "y/0", "y/1"):
        file = tmp_path / "data" / f"{name}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, 0.1 * RNG.standard_normal((2000, 2)), 8000)
    return tmp_path / "data"


@pytest.fixture
def decoded(monkeypatch):
    """How many clips have been decoded."""
    calls, decode = [], audio.decode

    def counting(encoded, **settings):
        calls.append(settings)
        return decode(encoded, **settings)

    monkeypatch.setattr(audio, "decode", counting)
    return calls


def load(folder, **options):
    clips = audio.load_clips(open_source(folder), progress=False, **options)
    return clips, [clips.audio(i) for i in range(len(clips))]


def assert_same(a, b):
    for x, y in zip(a, b, strict=True):
        assert x.dtype == y.dtype == np.float32
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("channels", [1, 2])
def test_second_run_does_not_decode(folder, tmp_path, decoded, channels):
    """Oracle: the number of calls of decode; the same samples without a cache, bit for bit."""
    clips, first = load(folder, cache=tmp_path / "cache", channels=channels)
    assert len(decoded) == 4
    again, second = load(folder, cache=tmp_path / "cache", channels=channels)
    assert len(decoded) == 4
    assert_same(first, second)
    assert_same(first, load(folder, channels=channels)[1])
    assert again.content_hash == clips.content_hash
    np.testing.assert_array_equal(again.lengths, clips.lengths)


def test_cache_is_keyed_by_content_and_settings(folder, tmp_path, decoded):
    """Hand-worked: a moved file is found, a changed one and another setting are not."""
    cache = tmp_path / "cache"
    load(folder, cache=cache)
    (folder / "x" / "0.wav").rename(folder / "x" / "7.wav")
    load(folder, cache=cache)
    assert len(decoded) == 4
    soundfile.write(folder / "x" / "7.wav", 0.1 * RNG.standard_normal(2000), 8000)
    load(folder, cache=cache)
    assert len(decoded) == 5
    load(folder, cache=cache, sample_rate=8000)
    assert len(decoded) == 9
    assert len(list(cache.rglob("*.npy"))) == 9 and not list(cache.rglob("*.tmp"))
    file = next(cache.rglob("*.npy"))
    assert file.parent.name == file.name[:2] and file.parent.parent == cache / "audio"
    assert np.load(file).dtype == np.float32


@pytest.mark.parametrize(
    "library,version",
    [
        ("soundfile", "__version__"),
        ("soundfile", "__libsndfile_version__"),
        ("soxr", "__version__"),
        ("soxr", "__libsoxr_version__"),
    ],
)
def test_another_decoder_or_resampler_decodes_anew(folder, tmp_path, decoded, monkeypatch, library, version):
    """Oracle: the number of calls of decode; the old version's files are found again."""
    load(folder, cache=tmp_path / "cache")
    with monkeypatch.context() as other:
        other.setattr(sys.modules[library], version, "999.0")
        load(folder, cache=tmp_path / "cache")
        assert len(decoded) == 8
    load(folder, cache=tmp_path / "cache")
    assert len(decoded) == 8


@pytest.mark.parametrize("damage", ["torn", "torn header", "empty", "flipped", "shape"])
def test_damaged_cache_file_is_decoded_anew(folder, tmp_path, decoded, damage):
    """Hand-worked: damage to one file costs one decoding and changes no sample."""
    cache = tmp_path / "cache"
    _, before = load(folder, cache=cache)
    file = sorted(cache.rglob("*.npy"))[0]
    good = file.read_bytes()
    file.write_bytes(
        {
            "torn": good[:-100],
            "torn header": good[:50],
            "empty": b"",
            "flipped": good[:300] + bytes([good[300] ^ 1]) + good[301:],
            "shape": good.replace(b"(3000,)", b"(2999,)"),
        }[damage]
    )
    assert_same(load(folder, cache=cache)[1], before)
    assert len(decoded) == 5
    assert file.read_bytes() == good


def test_cache_lost_while_running_is_decoded_anew(folder, tmp_path, decoded):
    """Hand-worked: the samples survive; a source file that changed meanwhile is told."""
    clips, before = load(folder, cache=tmp_path / "cache")
    shutil.rmtree(tmp_path / "cache")
    assert_same([clips.audio(i) for i in range(4)], before)
    assert len(decoded) == 8
    shutil.rmtree(tmp_path / "cache")
    soundfile.write(folder / "x" / "0.wav", np.zeros(2000), 8000)
    with pytest.raises(ValueError, match=r"x/0\.wav has changed since it was loaded"):
        clips.audio(0)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("cached", [True, False])
def test_pieces_are_cut_without_reading_the_clip(folder, tmp_path, decoded, monkeypatch, channels, cached):
    """Oracle: slices of the whole clip; beyond its end there is nothing. A caller's piece is its own."""
    clips, whole = load(folder, cache=tmp_path / "cache" if cached else None, channels=channels)
    with monkeypatch.context() as patched:
        patched.setattr(audio, "_read_cached", None)  # would read all of it
        for start, stop in ((0, 10), (1000, 3000), (2990, 4000), (4000, 5000)):
            piece = clips.piece(1, start, stop)
            assert type(piece) is np.ndarray
            assert_same([piece], [whole[1][..., start:stop]])
            piece[:] = 7
        assert_same([clips.piece(1, 0, 3000)], [whole[1]])
    assert len(decoded) == 4


@pytest.mark.parametrize("damage", ["lost", "torn", "empty"])
def test_pieces_of_a_cache_damaged_while_running(folder, tmp_path, decoded, damage):
    """Hand-worked: the clip is decoded anew, once."""
    clips, whole = load(folder, cache=tmp_path / "cache")
    for file in tmp_path.rglob("*.npy"):
        file.unlink() if damage == "lost" else os.truncate(file, 300 if damage == "torn" else 0)
    for _ in range(2):
        assert_same([clips.piece(0, 5, 50)], [whole[0][5:50]])
    assert len(decoded) == 5


def test_full_disk_is_one_warning_and_goes_on_in_memory(folder, tmp_path, decoded, monkeypatch, recwarn):
    """Oracle: the run without a cache; the disk takes one file, then raises ENOSPC."""
    replace, written = os.replace, []

    def full_after_one(source, target):
        if written:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(target)
        replace(source, target)

    monkeypatch.setattr(audio.os, "replace", full_after_one)
    clips, samples = load(folder, cache=tmp_path / "cache")
    assert [str(w.message) for w in recwarn.list if "No space left on device" in str(w.message)] == [
        f"audio cache {tmp_path / 'cache' / 'audio'} takes no more files (No space left on device); going on in memory"
    ]
    assert len(decoded) == 4
    assert len(list(tmp_path.rglob("*.npy"))) == 1 and not list(tmp_path.rglob("*.tmp"))
    samples[2][:] = 0  # what a caller does to its copy
    assert_same([clips.audio(i) for i in range(4)], load(folder)[1])


def test_unusable_cache_folder_is_one_warning(folder, tmp_path, decoded):
    """Hand-worked: a file lies where the folder should be."""
    (tmp_path / "cache").write_text("a file")
    with pytest.warns(UserWarning, match="takes no more files") as caught:
        _, samples = load(folder, cache=tmp_path / "cache")
    assert len(caught) == 1
    assert_same(samples, load(folder)[1])
    assert len(decoded) == 8


def test_with_a_cache_memory_holds_no_samples(folder, tmp_path):
    """Oracle: the files; what they hold is what is given, read anew each time."""
    clips, _ = load(folder, cache=tmp_path / "cache")
    a, b = clips.audio(0), clips.audio(0)
    assert a is not b
    a[:] = 0
    np.testing.assert_array_equal(clips.audio(0), b)
    by_file = sorted(np.load(file).tobytes() for file in tmp_path.rglob("*.npy"))
    assert by_file == sorted(clips.audio(i).tobytes() for i in range(4))
