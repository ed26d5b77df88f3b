import dataclasses

import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from mirjax.data.audio import Clips, load_clips
from mirjax.data.catalogue import Facts
from mirjax.data.dataset import open_source
from mirjax.data.splits import inner_folds, partition, validation

RNG = np.random.default_rng(0)


def make(labels, *, ids=None, splits=None, folds=None, group=None, facts_group=None, **metadata):
    """Clips without audio."""
    column = facts_group if group is None else group
    groups = None if column in (None, "none") else np.array(metadata[column])
    return Clips(
        facts=Facts("toy", group=facts_group),
        ids=np.array([f"{i:03d}" for i in range(len(labels))] if ids is None else ids),
        labels=np.array(list(labels)),
        splits=None if splits is None else np.array(splits),
        folds=None if folds is None else np.array(folds),
        groups=groups,
        group=group,
        metadata={k: np.array(v) for k, v in metadata.items()},
        sample_rate=12000,
        channels=1,
        lengths=np.ones(len(labels), int),
        content_hash="",
        faults=(),
        silent=(),
        notes=(),
        read=None,
    )


def assert_divides(fold, count):
    """Every clip is in exactly one part, and the parts ascend."""
    parts = [fold.train, fold.test] if fold.valid is None else [fold.train, fold.valid, fold.test]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(count))
    assert all((np.diff(part) > 0).all() and len(part) for part in parts)


LABELS = ["a", "b", "c"] * 20
SINGERS = [f"s{i // 5}" for i in range(60)]  # 12 singers of 5 clips


def test_made_folds_are_scikit_learns():
    """Oracle: sklearn's StratifiedKFold with the same seed."""
    made = partition(make(LABELS), seed=3)
    expected = StratifiedKFold(5, shuffle=True, random_state=3).split(np.zeros(60), LABELS)
    for fold, (train, test) in zip(made.folds, expected, strict=True):
        np.testing.assert_array_equal(fold.train, train)
        np.testing.assert_array_equal(fold.test, test)
        assert fold.valid is None
    assert made.kind == "cv" and [fold.name for fold in made.folds] == list("01234")
    np.testing.assert_array_equal(made.groups, make(LABELS).ids)
    assert "5 made folds" in made.note and "seed 3" in made.note


def test_made_folds_keep_groups_together():
    """Oracle: sklearn's StratifiedGroupKFold with the same seed; no group on both sides."""
    for clips, group in (
        (make(LABELS, singer=SINGERS, group="singer"), None),
        (make(LABELS, singer=SINGERS), "singer"),
    ):
        made = partition(clips, group=group, seed=1)
        expected = StratifiedGroupKFold(5, shuffle=True, random_state=1).split(np.zeros(60), LABELS, SINGERS)
        for fold, (_, test) in zip(made.folds, expected, strict=True):
            np.testing.assert_array_equal(fold.test, test)
            assert_divides(fold, 60)
            assert not set(made.groups[fold.train]) & set(made.groups[fold.test])
        np.testing.assert_array_equal(made.groups, SINGERS)
        for train, valid in inner_folds(made.folds[0], made, clips.labels):
            assert not set(made.groups[train]) & set(made.groups[valid])


def test_made_folds_do_not_depend_on_the_order_of_clips():
    """Hand-worked: shuffled clips fall into the same folds, by id; the hash is the same."""
    clips, order = make(LABELS, singer=SINGERS, group="singer"), RNG.permutation(60)
    shuffled = make(clips.labels[order], ids=clips.ids[order], singer=np.array(SINGERS)[order], group="singer")
    a, b = partition(clips), partition(shuffled)
    for x, y in zip(a.folds, b.folds, strict=True):
        assert set(clips.ids[x.test]) == set(shuffled.ids[y.test])
    assert a.hash == b.hash and len(a.hash) == 16
    assert partition(clips, seed=1).hash != a.hash


def test_own_folds_come_first_and_sort_as_numbers():
    """Hand-worked: 12 folds "1" to "12", and a split that is not used."""
    folds = [str(i % 12 + 1) for i in range(60)]
    own = partition(make(["a", "b", "c", "d", "e"] * 12, folds=folds, splits=["train"] * 60))
    assert own.kind == "cv" and [fold.name for fold in own.folds] == [str(k) for k in range(1, 13)]
    for k, fold in enumerate(own.folds):
        np.testing.assert_array_equal(fold.test, np.arange(k, 60, 12))
        assert_divides(fold, 60)
    named = partition(make("abab", folds=["z", "z", "y", "y"]))
    assert [fold.name for fold in named.folds] == ["y", "z"]


SPLITS = ["train"] * 36 + ["valid"] * 9 + ["test"] * 15


def test_own_split_is_taken_as_it_is():
    """Hand-worked: 36 / 9 / 15; protocol=split wins over folds, protocol=cv makes folds where there are none."""
    folds = [str(i % 3) for i in range(60)]
    for clips, protocol in (
        (make(LABELS, splits=SPLITS), "auto"),
        (make("ab" * 30, splits=SPLITS, folds=folds), "split"),
    ):
        own = partition(clips, protocol=protocol)
        (fold,) = own.folds
        assert own.kind == "split" and own.note == "the data's own split"
        np.testing.assert_array_equal(fold.train, np.arange(36))
        np.testing.assert_array_equal(fold.valid, np.arange(36, 45))
        np.testing.assert_array_equal(fold.test, np.arange(45, 60))
    made = partition(make(LABELS, splits=SPLITS), protocol="cv")
    assert made.kind == "cv" and len(made.folds) == 5


def test_validation_is_carved_off_training_clips():
    """Oracle: sklearn's first stratified fold of five among the training clips; no group on both sides."""
    splits = ["train"] * 45 + ["test"] * 15
    (fold,) = partition(make(LABELS, splits=splits), seed=2).folds
    _, expected = next(StratifiedKFold(5, shuffle=True, random_state=2).split(np.zeros(45), LABELS[:45]))
    np.testing.assert_array_equal(fold.valid, expected)
    assert_divides(fold, 60)
    grouped = partition(make(LABELS, splits=splits, singer=SINGERS, group="singer"))
    (fold,) = grouped.folds
    assert_divides(fold, 60)
    for one, other in ((fold.train, fold.valid), (fold.train, fold.test), (fold.valid, fold.test)):
        assert not set(grouped.groups[one]) & set(grouped.groups[other])
    assert "a fifth of train made validation (stratified, values of 'singer' kept together" in grouped.note
    with pytest.raises(ValueError, match="no validation clips can be carved off its 2 training clips"):
        partition(make("abab", splits=["train", "train", "test", "test"]))


def test_random_split_of_data_that_look_grouped_is_refused():
    """Issue: refused unless asked for by name; both remedies are named."""
    for column in ("Group", "speaker", "Artist", "singer", "performer", "subject", "source"):
        clips = make(LABELS, **{column: SINGERS})
        for bad, protocol in ((clips, "auto"), (make(LABELS, splits=SPLITS, **{column: SINGERS}), "cv")):
            with pytest.raises(ValueError, match=f"'{column}'.*group={column} .*or group=none to ask for a random"):
                partition(bad, protocol=protocol)
        assert len(partition(clips, group="none").folds) == len(partition(clips, group=column).folds) == 5
    with pytest.raises(ValueError, match="carving validation clips at random"):
        partition(make(LABELS, splits=["train"] * 45 + ["test"] * 15, artist=SINGERS))
    asked = partition(make(LABELS, singer=SINGERS, group="none"))
    assert set(asked.groups) == set(asked.ids)
    partition(make(LABELS, artist=[f"{i}" for i in range(60)]))  # one clip each: nothing to keep together
    partition(make(LABELS, source=["web"] * 60))  # nor can one source for all be
    partition(make(LABELS, splits=SPLITS, artist=SINGERS))  # the data's own division is theirs


def test_the_catalogues_group_is_kept_without_asking():
    """Oracle: sklearn's StratifiedGroupKFold."""
    made = partition(make(LABELS, speaker=SINGERS, facts_group="speaker"))
    expected = StratifiedGroupKFold(5, shuffle=True, random_state=0).split(np.zeros(60), LABELS, SINGERS)
    for fold, (_, test) in zip(made.folds, expected, strict=True):
        np.testing.assert_array_equal(fold.test, test)
    unsafe = partition(make(LABELS, speaker=SINGERS, facts_group="speaker"), group="none")
    assert any(set(np.array(SINGERS)[f.train]) & set(np.array(SINGERS)[f.test]) for f in unsafe.folds)


def test_a_given_group_that_straddles_is_refused():
    """Hand-worked: s1 is in two folds; a published split may straddle the catalogue's group, and the note says so."""
    folds, speaker = ["0", "0", "0", "1", "1", "1"], ["s0", "s0", "s1", "s1", "s2", "s2"]
    with pytest.raises(ValueError, match=r"group='speaker' straddles the data's own 2 folds: 1 of 3 .* first 's1'"):
        partition(make("ababab", folds=folds, speaker=speaker), group="speaker")
    splits = ["train", "train", "valid", "valid", "test", "test"]
    with pytest.raises(ValueError, match=r"straddles the data's own split: 2 of 2"):
        partition(make("ababab", splits=splits, speaker=["x", "y"] * 3), group="speaker")
    published = make("ababab", splits=splits, speaker=["x", "y"] * 3, facts_group="speaker")
    assert "of 'speaker' 2 of 2 groups are on both sides" in partition(published).note
    with pytest.raises(ValueError, match="straddles"):
        partition(published, group="speaker")


def test_a_group_nobody_gave_that_straddles_the_datas_own_division_is_noted():
    """Hand-worked: s1 and s2 are in two of three folds; no note where groups are given, ignored or kept together."""
    folds, speaker = list("001122"), ["s0", "s1", "s1", "s2", "s2", "s3"]
    found = "no group was given, yet 2 of 4 values of 'Speaker' are on both sides of it"
    assert partition(make("ababab", folds=folds, Speaker=speaker)).note == f"the data's own 3 folds; {found}"
    splits = ["train", "train", "valid", "valid", "test", "test"]
    assert found in partition(make("ababab", splits=splits, Speaker=speaker)).note
    for silent in (
        make("ababab", folds=folds, Speaker=speaker, group="none"),
        make("ababab", folds=folds, Speaker=["s0", "s0", "s1", "s1", "s2", "s2"]),
        make("ababab", folds=folds, Speaker=["s0"] * 6),
        make("ababab", folds=folds, tempo=speaker),
    ):
        assert partition(silent).note == "the data's own 3 folds"
    assert "no group" not in partition(make("ababab", folds=folds, Speaker=speaker, facts_group="Speaker")).note


BAD = {
    "protocol": (make(LABELS), dict(protocol="kfold"), r"unknown protocol 'kfold'; known: auto, cv, split"),
    "no split": (make(LABELS), dict(protocol="split"), r"toy has no split; add a column `split` or use"),
    "no test": (make("abab", splits=["train"] * 4), {}, r"its split has no test clips \(\{'train': 4\}\)"),
    "no train": (make("abab", splits=["test"] * 3 + ["valid"]), {}, r"no train clips"),
    "one fold": (make("abab", folds=["1"] * 4), {}, r"one fold only \('1'\)"),
    "group": (make(LABELS, artist=SINGERS), dict(group="artits"), r"'artits'; nearest: artist; or group=none"),
    "small class": (make("a" * 20 + "b" * 4), {}, r"class 'b' has 4 clips, fewer than the 5 folds"),
    "few groups": (
        make("ab" * 10, artist=list("1234") * 5),
        dict(group="artist"),
        r"group='artist' has 4 values, fewer than the 5 folds",
    ),
    "class in one fold": (
        make("ababcc", folds=["1", "1", "2", "2", "2", "2"]),
        {},
        r"1 classes of the test clips of fold '2' have no training clips \(c\)",
    ),
    "class in test only": (
        make("ababc", splits=["train", "train", "valid", "valid", "test"]),
        {},
        r"test clips of fold 'split' have no training clips \(c\)",
    ),
    "class of one group": (
        make("ab" * 10 + "c" * 5, artist=[str(i % 6) for i in range(20)] + ["x"] * 5),
        dict(group="artist"),
        r"have no training clips \(c\)",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_divided_is_refused(case):
    """Issue: bad input; the message names the offender and the remedy."""
    clips, options, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        partition(clips, **options)


def test_hash_tells_divisions_apart():
    """Hand-worked: other folds, ids, kinds give other hashes; labels and names of columns do not."""
    base = dict(folds=["0", "0", "1", "1"])
    hashes = [
        partition(make(*args, **kw)).hash
        for args, kw in (
            (("abab",), base),
            (("abab",), dict(folds=["1", "0", "0", "1"])),
            (("abab",), dict(folds=["a", "a", "b", "b"])),
            (("abab",), dict(ids=list("wxyz"), **base)),
            (("ababab",), dict(splits=["train", "train", "valid", "valid", "test", "test"])),
        )
    ]
    assert len(set(hashes)) == 5
    assert partition(make("baba", **base)).hash == hashes[0]


@pytest.mark.parametrize("count,inner", [(3, 2), (4, 3), (6, 5), (10, 5)])
def test_inner_folds_are_the_other_outer_folds(count, inner):
    """Hand-worked: 0 is tested; of 10, folds 1 and 6 are merged, 2 and 7, …; test clips stay out."""
    clips = make("ab" * 2 * count, folds=[str(i // 2 % count) for i in range(4 * count)])
    outer = partition(clips)
    made = inner_folds(outer.folds[0], outer, clips.labels)
    assert len(made) == inner
    for k, (train, valid) in enumerate(made):
        assert {int(f) for f in clips.folds[valid]} == set(range(1, count)[k::inner])
        np.testing.assert_array_equal(np.sort(np.concatenate([train, valid])), outer.folds[0].train)
    seen = np.sort(np.concatenate([valid for _, valid in made]))
    np.testing.assert_array_equal(seen, outer.folds[0].train)


@pytest.mark.parametrize("options,count", [({}, 5), ({"max_folds": 3}, 3), ({"max_folds": 2}, 2)])
def test_inner_folds_are_made_where_there_are_no_others(options, count):
    """Oracle: sklearn's stratified folds of the training clips, with groups and without."""
    halves = ["0"] * 30 + ["1"] * 30
    for clips in (make(LABELS, folds=halves), make(LABELS, splits=SPLITS)):
        outer = partition(clips)
        fold = outer.folds[0]
        labels = clips.labels[fold.train]
        expected = StratifiedKFold(count, shuffle=True, random_state=7).split(labels, labels)
        made = inner_folds(fold, outer, clips.labels, seed=7, **options)
        for (train, valid), (_, test) in zip(made, expected, strict=True):
            np.testing.assert_array_equal(valid, fold.train[test])
            np.testing.assert_array_equal(train, np.setdiff1d(fold.train, valid))
    clips = make(LABELS, folds=halves, singer=SINGERS, group="singer")
    outer = partition(clips)
    made = inner_folds(outer.folds[0], outer, clips.labels, **options)
    assert len(made) == count
    for train, valid in made:
        assert not set(outer.groups[train]) & set(outer.groups[valid])
    tiny = partition(make("abab", folds=["0", "0", "1", "1"]))
    with pytest.raises(ValueError, match=r"fold '0': 2 training clips are too few for selection=nested"):
        inner_folds(tiny.folds[0], tiny, np.array(list("abab")), **options)
    with pytest.raises(ValueError, match="max_folds=1; give 2 or more"):
        inner_folds(outer.folds[0], outer, clips.labels, max_folds=1)


def test_digits_small_is_divided_by_speaker():
    """Hand-worked: four folds of 60, a speaker each; a random split of it has to be asked for by name."""
    clips = load_clips(open_source("digits_small"), progress=False)
    own = partition(clips)
    assert [len(fold.test) for fold in own.folds] == [60] * 4
    for fold in own.folds:
        assert len(set(own.groups[fold.test])) == 1
        assert not set(own.groups[fold.train]) & set(own.groups[fold.test])


@pytest.mark.parametrize("share", [0.03, 0.04, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.45, 0.5, 0.59, 0.97])
def test_validation_is_the_share_asked_for(share):
    """Hand-worked: that share of 600 training clips and of each of their classes, to a clip for each part taken."""
    labels = np.array(["a", "b", "c"] * 200 + ["a"] * 30)
    splits = ["train"] * 600 + ["test"] * 30
    own = partition(make(labels, splits=splits))
    fold = dataclasses.replace(own.folds[0], train=np.arange(600), valid=None)
    rest, valid = validation(fold, own, labels, share=share)
    np.testing.assert_array_equal(np.sort(np.concatenate([rest, valid])), np.arange(600))
    assert len(valid) == pytest.approx(600 * share, abs=3)
    counts = np.unique(labels[valid], return_counts=True)[1]
    assert len(counts) == 3 and np.ptp(counts) <= 12 * share + 1


@pytest.mark.parametrize("share", [0.15, 0.35, 0.45])
def test_validation_of_small_classes(share):
    """Hand-worked: 60 clips of one class and six of nine others: each gives its share, to a clip."""
    labels = np.array(["a"] * 60 + [c for c in "bcdefghij" for _ in range(6)])
    own = partition(make(list(labels) + ["a"] * 10, splits=["train"] * 114 + ["test"] * 10))
    fold = dataclasses.replace(own.folds[0], train=np.arange(114), valid=None)
    _, valid = validation(fold, own, np.append(labels, ["a"] * 10), share=share)
    classes, counts = np.unique(labels[valid], return_counts=True)
    assert len(classes) == 10 and counts[0] == pytest.approx(60 * share, abs=1)
    assert all(abs(count - 6 * share) < 1 for count in counts[1:])


def test_validation_keeps_groups_together():
    """Hand-worked: twelve singers of five clips; no singer on both sides, and a third of them chooses."""
    clips = make(LABELS, splits=["train"] * 45 + ["test"] * 15, singer=SINGERS, group="singer")
    own = partition(clips)
    fold = dataclasses.replace(own.folds[0], train=np.arange(45), valid=None)
    rest, valid = validation(fold, own, clips.labels, share=1 / 3)
    assert not set(own.groups[rest]) & set(own.groups[valid])
    assert len(valid) == 15
    _, twentieths = validation(fold, own, clips.labels, share=0.35)  # nine singers make nine parts, not twenty
    assert len(twentieths) == 15
    with pytest.raises(ValueError, match=r"share=1\.0 must lie above 0 and below 1"):
        validation(fold, own, clips.labels, share=1.0)


def test_whole_folds_choose_where_their_share_is_near():
    """Hand-worked: of five folds the next one is a quarter of what is left, two are half; of twelve two are a fifth."""
    own = partition(make(LABELS))
    for share in (0.2, 0.25):
        _, valid = validation(own.folds[4], own, np.array(LABELS), share=share)
        np.testing.assert_array_equal(valid, own.folds[0].test)
    for share in (0.5, 0.59):
        _, valid = validation(own.folds[4], own, np.array(LABELS), share=share)
        np.testing.assert_array_equal(valid, np.union1d(own.folds[0].test, own.folds[1].test))
    _, valid = validation(own.folds[4], own, np.array(LABELS), share=0.1)  # one fold would be too many
    assert len(valid) == pytest.approx(4.8, abs=3)
    voices = partition(make(LABELS, folds=SINGERS))
    rest, valid = validation(voices.folds[3], voices, np.array(LABELS), share=0.2)
    assert len(valid) == 10 and not {SINGERS[i] for i in rest} & {SINGERS[i] for i in valid}


def test_whole_folds_do_not_choose_where_a_class_would_be_lost():
    """Hand-worked: class b lies in folds 1 and 2 alone, which would choose for fold 0; clips are drawn instead."""
    labels = np.array(["a"] * 60)
    folds = np.repeat([str(i) for i in range(10)], 6)
    labels[(folds == "1") | (folds == "2")] = ["a", "b", "b"] * 4
    own = partition(make(labels, folds=folds))
    rest, valid = validation(own.folds[0], own, labels, share=0.25)
    assert set(labels[rest]) == set(labels[valid]) == {"a", "b"} and len(valid) == pytest.approx(13.5, abs=2)
    np.testing.assert_array_equal(np.sort(np.concatenate([rest, valid])), own.folds[0].train)
    _, valid = validation(own.folds[3], own, labels, share=0.25)
    np.testing.assert_array_equal(valid, np.union1d(own.folds[4].test, own.folds[5].test))
