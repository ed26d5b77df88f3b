import csv
import os
from collections import Counter
from importlib import resources

import pytest

from mirjax.config import UsageError
from mirjax.data.dataset import default_data_dir, open_source


def write(path, content=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def manifest(folder, *rows, header="path,label"):
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "manifest.csv"
    file.write_text("\n".join((header, *rows)) + "\n", encoding="utf-8")
    return file


def test_folder_takes_the_first_component_as_class(tmp_path):
    """Hand-worked: a small tree with nested, hidden, foreign and misplaced files."""
    write(tmp_path / "rock" / "b.wav", b"rock b")
    write(tmp_path / "rock" / "album" / "a.FLAC", b"rock a")
    write(tmp_path / "jazz" / "ä ö.mp3", b"jazz")
    for ignored in (
        "rock/cover.jpg",
        "rock/notes.txt",
        "rock/.a.wav",
        ".git/x.wav",
        "jazz/README",
        "stray.wav",
    ):
        write(tmp_path / ignored)
    source = open_source(tmp_path)
    assert source.ids == ("jazz/ä ö.mp3", "rock/album/a.FLAC", "rock/b.wav")
    assert source.labels == ("jazz", "rock", "rock")
    assert [source[i].encoded for i in range(len(source))] == [b"jazz", b"rock a", b"rock b"]
    assert (source[1].id, source[1].label) == (source.ids[1], "rock")
    assert source.facts.name == tmp_path.name
    assert source.splits is source.folds is source.groups is None
    (note,) = source.notes
    for words in ("1 hidden", "1 not audio (.jpg)", "1 not audio (.txt)", "1 not audio (no extension)"):
        assert words in note
    assert "1 audio outside any class folder" in note


def test_folder_with_a_link_to_its_parent_ends(tmp_path):
    """Hand-worked: two clips, whatever the link repeats."""
    write(tmp_path / "a" / "1.wav")
    write(tmp_path / "b" / "1.wav")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    assert open_source(tmp_path).ids == ("a/1.wav", "b/1.wav")


def test_folder_without_clips_or_with_one_class_is_refused(tmp_path):
    """Issue: zero files; one class."""
    (tmp_path / "a").mkdir()
    with pytest.raises(ValueError, match=r"no audio files.*the folder is empty.*class/clip\.wav"):
        open_source(tmp_path)
    write(tmp_path / "a" / "x.txt")
    with pytest.raises(ValueError, match=r"no audio files.*1 not audio \(\.txt\)"):
        open_source(tmp_path)
    write(tmp_path / "a" / "x.wav")
    with pytest.raises(ValueError, match=r"2 different labels are needed, found 1 \(a\)"):
        open_source(tmp_path)


def test_manifest_keeps_every_column(tmp_path):
    """Oracle: csv.DictReader."""
    rows = (
        'a/1.wav,x,train,1,"Bach, J. S.",60',
        "a/2.wav,y,validation,2,Ravel,",
        "b/../3.wav,x,test,10,Ravel,9",
    )
    file = manifest(tmp_path, *rows, header="path,label,split,fold,artist,bpm")
    write(tmp_path / "a" / "2.wav", b"two")
    expected = list(csv.DictReader(file.open(encoding="utf-8")))
    for given in (file, tmp_path):
        source = open_source(given, group="artist")
        assert source.ids == tuple(row["path"] for row in expected)
        assert source.labels == tuple(row["label"] for row in expected)
        assert source.splits == ("train", "valid", "test")
        assert source.folds == ("1", "2", "10")
        assert source.metadata == {k: tuple(row[k] for row in expected) for k in ("artist", "bpm")}
        assert source.groups == tuple(row["artist"] for row in expected)
        assert source.facts.name == tmp_path.name
        assert source.encoded(1) == b"two"
        with pytest.raises(FileNotFoundError):
            source.encoded(0)
    assert open_source(file, group="none").groups is None
    assert open_source(file.rename(tmp_path / "small.csv")).facts.name == "small"


def test_manifest_takes_a_byte_order_mark_blanks_and_empty_columns(tmp_path):
    """Hand-worked: what spreadsheets write."""
    (tmp_path / "m.csv").write_bytes("\ufeffpath, label,split,fold\r\n a.wav , x ,,\r\n\r\nb.wav,ü,,\r\n".encode())
    source = open_source(tmp_path / "m.csv")
    assert (source.ids, source.labels) == (("a.wav", "b.wav"), ("x", "ü"))
    assert source.splits is source.folds is None


def test_manifest_names_may_be_upper_case(tmp_path):
    """Hand-worked: the four known columns and the split names; other columns and fold names keep their spelling."""
    rows = ("A.wav,X,Train,F1,b", "b.wav,y,VAL,f2,c", "c.wav,y,TEST,F3,c", "d.wav,y,Validation,f1,c")
    source = open_source(manifest(tmp_path, *rows, header="Path, LABEL,Split,FOLD,Artist"))
    assert (source.ids[0], source.labels[:2]) == ("A.wav", ("X", "y"))
    assert source.splits == ("train", "valid", "test", "valid")
    assert source.folds == ("F1", "f2", "F3", "f1")
    assert source.metadata == {"Artist": ("b", "c", "c", "c")}


def test_file_names_that_are_no_utf8_are_refused(tmp_path):
    """Hand-worked: ü in Latin-1, in a clip's, a class's, the folder's and the manifest's name."""
    foreign = os.fsdecode(b"\xfc")
    cases = {
        "clip": (("x/1.wav", f"y/{foreign}.wav"), r"1: 'y/\\udcfc\.wav'; rename"),
        "class": (("x/1.wav", f"{foreign}/1.wav", f"{foreign}/2.wav"), r"2: '\\udcfc/[12]\.wav', '\\udcfc/[12]\.wav'"),
        foreign: (("x/1.wav", "y/1.wav"), r"folder .*\\udcfc: .* 1: '\\udcfc'; rename"),
    }
    for name, (files, message) in cases.items():
        try:
            for file in files:
                write(tmp_path / name / file)
        except OSError:
            pytest.skip("this file system takes no such names")
        with pytest.raises(ValueError, match=f"not UTF-8, {message}" if name != foreign else message) as caught:
            open_source(tmp_path / name)
        str(caught.value).encode()  # can be written to a log
    with pytest.raises(ValueError, match=r"not UTF-8, 1: '\\udcfc'; rename"):
        open_source(manifest(tmp_path, "a.wav,x", "b.wav,y").rename(tmp_path / f"{foreign}.csv"))
    write(tmp_path / "ignored" / "x" / f"notes.{foreign}")
    write(tmp_path / "ignored" / "x" / "1.wav")
    write(tmp_path / "ignored" / "y" / "1.wav")
    source = open_source(tmp_path / "ignored")
    assert len(source) == 2 and r"not audio (.\udcfc)" in source.notes[0]


TWO = ("a.wav,x,1", "b.wav,y,2")
BAD_MANIFESTS = {
    "missing column": (("a.wav,x",), "path,class", r"no column label.*path,class"),
    "semicolons": (("a.wav;x",), "path;label", r"no column path and no column label"),
    "doubled column": (("a.wav,x,x",), "path,label,label", r"doubled columns, 1: label"),
    "doubled in another case": (("a.wav,x,x",), "path,label,Label", r"doubled columns, 1: label"),
    "NUL": (
        ("a.wav,x", '"b.w\0av",y', "", "c.wav,y\0"),
        "path,label",
        r"m[^\0]*NUL characters in 2: line 3, line 5; remove them",
    ),
    "no rows": ((), "path,label", r"is empty.*no rows"),
    "empty label": (("a.wav,x", "b.wav,", "c.wav, "), "path,label", r"empty label of 2: b\.wav, c\.wav"),
    "duplicate": (("a.wav,x", "b.wav,y", "./a.wav,x"), "path,label", r"duplicate ids, 1: a\.wav"),
    "unknown split": (
        (*(f"{i}.wav,x,dev" for i in range(7)), "b.wav,y,train"),
        "path,label,split",
        r"unknown split name, 7: 'dev' of 0\.wav,.*4\.wav, …; known: train, valid, validation, val, test",
    ),
    "half a split": (
        ("a.wav,x,train", "b.wav,y,"),
        "path,label,split",
        r"unknown split name, 1: '' of b\.wav",
    ),
    "half a fold": (("a.wav,x,1", "b.wav,y,"), "path,label,fold", r"empty fold of 1: b\.wav"),
    "absolute": (("/etc/a.wav,x", "b.wav,y"), "path,label", r"1: '/etc/a\.wav'.*relative to the manifest"),
    "windows": (("C:\\a.wav,x", "b.wav,y"), "path,label", r"outside its folder, 1"),
    "escaping": (("c/../../a.wav,x", "..\\b.wav,y", ",y"), "path,label", r"outside its folder, 3"),
    "one class": (("a.wav,x", "b.wav,x"), "path,label", r"2 different labels are needed, found 1 \(x\)"),
    "row too long": (
        ("a.wav,x,and,more", "b.wav,y"),
        "path,label",
        r"have not 2 fields, 1: a\.wav,x,and,more",
    ),
    "row too short": (("a.wav", "b.wav,y"), "path,label", r"have not 2 fields, 1: a\.wav"),
}


@pytest.mark.parametrize("case", BAD_MANIFESTS)
def test_bad_manifest_is_refused_at_opening(tmp_path, case):
    """Issue: bad input; the message counts and names the offenders."""
    rows, header, message = BAD_MANIFESTS[case]
    with pytest.raises(ValueError, match=message):
        open_source(manifest(tmp_path, *rows, header=header))


def test_bytes_that_are_no_utf8_are_refused(tmp_path):
    """Hand-worked: Latin-1, and an empty file."""
    (tmp_path / "m.csv").write_bytes("path,label\na.wav,Jazz\nb.wav,Schlager für alle\n".encode("latin-1"))
    with pytest.raises(ValueError, match="not UTF-8"):
        open_source(tmp_path / "m.csv")
    (tmp_path / "m.csv").write_bytes(b"")
    with pytest.raises(ValueError, match="no column path and no column label"):
        open_source(tmp_path / "m.csv")


def test_unknown_group_lists_the_nearest(tmp_path):
    """Hand-worked: one letter too many; a column with a hole."""
    file = manifest(tmp_path, *TWO, header="path,label,artist")
    with pytest.raises(UsageError, match=r"'artists'; nearest: artist; or group=none"):
        open_source(file, group="artists")
    file = manifest(tmp_path, "a.wav,x,", "b.wav,y,2", header="path,label,artist")
    with pytest.raises(ValueError, match=r"no value in group column 'artist' for 1: a\.wav"):
        open_source(file, group="artist")


def test_what_is_neither_name_nor_folder_nor_manifest_is_refused(tmp_path):
    """Hand-worked: a misspelt name, nothing at all, a text file, a set not prepared yet."""
    with pytest.raises(UsageError, match=r"'digit_small'; nearest: digits_small"):
        open_source("digit_small")
    with pytest.raises(ValueError, match="unknown data set ''"):
        open_source("")
    write(tmp_path / "notes.txt")
    with pytest.raises(ValueError, match="is a file but no manifest"):
        open_source(tmp_path / "notes.txt")
    with pytest.raises(ValueError, match=r"not prepared under.*prepare spoken_digit source=FOLDER"):
        open_source("spoken_digit", data_dir=tmp_path)
    assert default_data_dir().parts[-3:] == (".cache", "mirjax", "tfds")


def test_digits_small_is_what_its_readme_says():
    """Hand-worked: 10 digits × 4 speakers × 6 takes; a fold is a speaker; the names carry the same facts."""
    source = open_source("digits_small")
    assert len(source) == 240
    assert set(Counter(zip(source.labels, source.metadata["speaker"], strict=True)).values()) == {6}
    assert len(set(zip(source.folds, source.metadata["speaker"], strict=True))) == 4
    assert source.groups == source.metadata["speaker"]
    assert tuple(sorted(set(source.labels))) == source.facts.classes
    for i, id in enumerate(source.ids):
        speaker, take = source.metadata["speaker"][i], source.metadata["take"][i]
        assert id == f"audio/{source.labels[i]}_{speaker}_{take}.wav"
    assert source[0].encoded[:4] == b"RIFF"


def test_rhythm_small_is_what_its_readme_says():
    """Hand-worked: 8 classes × 9 clips, 3 of each class in each of 3 folds."""
    source = open_source("rhythm_small")
    assert len(source) == 72
    counts = Counter(zip(source.labels, source.folds, strict=True))
    assert len(counts) == 24 and set(counts.values()) == {3}
    assert tuple(sorted(set(source.labels))) == source.facts.classes
    assert set(source.metadata) == {"tempo", "meter"}
    assert source.splits is source.groups is None


def test_embedded_sets_stay_small():
    """Issue: under 8 MB together, rhythm_small at most 4 MB; licence beside the recordings."""
    folder = resources.files("mirjax.data") / "embedded"
    sizes = {
        name: sum(file.stat().st_size for file in (folder / name).rglob("*") if file.is_file())
        for name in ("digits_small", "rhythm_small")
    }
    assert sizes["rhythm_small"] <= 4e6 and sum(sizes.values()) < 8e6
    assert "CC BY-SA 4.0" in (folder / "digits_small" / "LICENSE.txt").read_text(encoding="utf-8")
