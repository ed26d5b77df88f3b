import os

import numpy as np
import pytest
import soundfile

from mirjax.data.audio import load_clips
from mirjax.data.builders import prepare
from mirjax.data.builders.spoken_digit import index
from mirjax.data.dataset import open_source
from mirjax.data.splits import partition

RNG = np.random.default_rng(0)
NAMES = [f"{digit}_{speaker}_{take}" for digit in (0, 1) for speaker in ("ann", "bo_b") for take in (0, 4, 5, 12)]


@pytest.fixture
def checkout(tmp_path):
    """16 recordings as the authors name them."""
    (tmp_path / "co" / "recordings").mkdir(parents=True)
    for name in NAMES:
        soundfile.write(tmp_path / "co" / "recordings" / f"{name}.wav", 0.1 * RNG.standard_normal(900), 8000)
    (tmp_path / "co" / "metadata.py").write_text("")
    return tmp_path / "co"


def test_a_checkout_is_split_by_the_authors_rule(checkout, tmp_path):
    """Hand-worked: takes 0-4 are test, 5 and 12 train; the bytes are the files'."""
    path = prepare("spoken_digit", checkout, tmp_path / "sets")
    assert path.parent == tmp_path / "sets" / "mirjax_spoken_digit" and path.is_dir()
    source = open_source("spoken_digit", data_dir=tmp_path / "sets")
    assert source.ids == tuple(sorted(NAMES))
    for i, id in enumerate(source.ids):
        digit, rest = id.split("_", 1)
        speaker, take = rest.rsplit("_", 1)
        assert source.labels[i] == digit
        assert (source.metadata["speaker"][i], source.metadata["take"][i]) == (speaker, take)
        assert source.splits[i] == ("test" if take in "04" else "train")
        assert source.encoded(i) == (checkout / "recordings" / f"{id}.wav").read_bytes()
    assert source.folds is None and source.groups == source.metadata["speaker"]
    assert source.facts.licence == "CC BY-SA 4.0"


def test_a_manifests_columns_rule(checkout, tmp_path):
    """Oracle: the same manifest opened without TFDS; a second prepare replaces the first."""
    prepare("spoken_digit", checkout, tmp_path / "sets")
    splits = ["train", "val", "test"]
    rows = [f"recordings/{n}.wav,{n[0]},{splits[i % 3]},{i % 2}" for i, n in enumerate(NAMES)]
    (checkout / "manifest.csv").write_text("path,label,split,fold\n" + "\n".join(rows))
    prepare("spoken_digit", os.fspath(checkout), os.fspath(tmp_path / "sets"))
    prepared = open_source("spoken_digit", data_dir=tmp_path / "sets")
    direct = open_source(checkout)
    order = np.argsort(direct.ids)
    for column in ("ids", "labels", "splits", "folds"):
        np.testing.assert_array_equal(getattr(prepared, column), np.array(getattr(direct, column))[order])
    assert set(prepared.metadata["speaker"]) == {"ann", "bo_b"}
    clips = load_clips(prepared, progress=False)
    for i, k in enumerate(order[:3]):
        np.testing.assert_array_equal(clips.audio(i), load_clips(direct, progress=False).audio(k))
    assert partition(clips).kind == "cv"


def test_a_manifest_with_columns_needs_no_names(checkout):
    """Hand-worked: speaker and take from columns; folds only, so no split; neither, so the authors' rule."""
    rows = ["a.wav,0,0,cy,3", "b.wav,1,1,di,7"]
    for name in ("a.wav", "b.wav"):
        (checkout / name).write_bytes(b"x")
    (checkout / "manifest.csv").write_text("path,label,fold,speaker,take\n" + "\n".join(rows))
    assert [(r.speaker, r.take, r.split, r.fold) for r in index(checkout)] == [("cy", 3, "", "0"), ("di", 7, "", "1")]
    rows = ["a.wav,0,cy,3", "b.wav,1,di,7"]
    (checkout / "manifest.csv").write_text("path,label,speaker,take\n" + "\n".join(rows))
    assert [(r.take, r.split, r.fold) for r in index(checkout)] == [(3, "test", ""), (7, "train", "")]


def test_a_manifest_with_folds_only_is_prepared(checkout, tmp_path):
    """Oracle: the manifest's rows; a set without split stays without. Column names in any case."""
    rows = {f"recordings/{n}.wav": (n[0], str(i % 2), "cy" if i % 2 else "di") for i, n in enumerate(NAMES)}
    lines = [",".join((path, *row)) for path, row in rows.items()]
    (checkout / "manifest.csv").write_text("Path,LABEL,Fold,Speaker\n" + "\n".join(lines))
    prepare("spoken_digit", checkout, tmp_path / "sets")
    source = open_source("spoken_digit", data_dir=tmp_path / "sets")
    assert source.splits is None and set(source.ids) == set(rows)
    stored = zip(source.ids, source.labels, source.folds, source.metadata["speaker"], strict=True)
    assert {id: tuple(row) for id, *row in stored} == rows
    assert [source.encoded(i) for i in range(16)] == [(checkout / id).read_bytes() for id in source.ids]


def test_a_wrong_folder_is_refused(checkout, tmp_path):
    """Issue: clear errors that name what is wrong."""
    with pytest.raises(ValueError, match=r"'spoken_digits'; nearest: spoken_digit"):
        prepare("spoken_digits", checkout, tmp_path)
    with pytest.raises(ValueError, match=r"source=.*nowhere is no folder; give a checkout with recordings"):
        prepare("spoken_digit", tmp_path / "nowhere", tmp_path)
    with pytest.raises(ValueError, match=r"has neither recordings/\*\.wav nor a manifest\.csv"):
        prepare("spoken_digit", checkout / "recordings", tmp_path)
    for bad in ("seven_ann_1", "7_ann", "77_ann_1"):
        (checkout / "recordings" / f"{bad}.wav").write_bytes(b"")
    with pytest.raises(ValueError, match=r"3 names are not digit_speaker_take\.wav: 77_ann_1\.wav, 7_ann\.wav, seven"):
        prepare("spoken_digit", checkout, tmp_path)
    manifest = checkout / "manifest.csv"
    manifest.write_text("path,label\nrecordings/0_ann_0.wav,0\nrecordings/0_ann_1.wav,1\nrecordings/9_no_1.wav,0\n")
    with pytest.raises(ValueError, match=r"2 files are missing: recordings/0_ann_1\.wav, recordings/9_no_1\.wav"):
        prepare("spoken_digit", checkout, tmp_path)
    manifest.write_text("path,label\nrecordings/0_ann_0.wav,zero\nrecordings/0_ann_4.wav,1\n")
    with pytest.raises(ValueError, match="1 labels are no digits: 'zero' of recordings/0_ann_0"):
        prepare("spoken_digit", checkout, tmp_path)
    assert not (tmp_path / "mirjax_spoken_digit").exists()
