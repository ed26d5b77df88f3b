"""Patches: batches that follow from the step alone, every window once, masks, and what is refused."""

import dataclasses
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mirjax.data import patches

LENGTHS = np.array([10, 25, 40, 7, 31, 18, 22, 16, 55])


def clips(fit="repeat", key="representation", lengths=LENGTHS, labels=None):
    """Clips whose values tell clip and step: 100 · clip + step, two bands (the second negative) or a waveform."""
    steps = [100.0 * clip + np.arange(length, dtype=np.float32) for clip, length in enumerate(lengths)]
    arrays = steps if key == "audio" else [np.stack([x, -x], axis=1) for x in steps]
    labels = np.arange(len(lengths), dtype=np.int32) % 3 if labels is None else labels
    return patches.Clips(arrays.__getitem__, lengths, labels, key, -1 if key == "audio" else 0, fit)


def training(**options):
    options = {"chosen": np.arange(len(LENGTHS)), "batch_size": 4, "patch": 8, "seed": 5} | options
    return patches.TrainingBatches(options.pop("clips", clips()), **options)


def told(batch):
    """(clip, first step, steps) of the rows that count, read off their values."""
    rows = np.flatnonzero(batch["mask"])
    values = batch["representation"][rows][..., 0]
    return [(int(x[0] // 100), int(x[0] % 100), len(x)) for x in values]


def equal(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


# ── patches ──


def test_windows_by_hand():
    """Hand-worked: every hop steps as long as a window fits; what is too short, and what fits exactly, has one."""
    assert list(patches.windows(10, 4, 3)) == [0, 3, 6]
    assert list(patches.windows(10, 4, 4)) == [0, 4]
    assert list(patches.windows(12, 4, 4)) == [0, 4, 8]
    assert list(patches.windows(4, 4, 1)) == [0]
    assert list(patches.windows(3, 4, 2)) == [0]
    assert list(patches.windows(10, 4, 60)) == [0]


@pytest.mark.parametrize(("fit", "expected"), [("repeat", [300, 301, 302, 303, 304, 305, 306, 300, 301]), ("zero", 0)])
def test_a_patch_by_hand(fit, expected):
    """Hand-worked: steps of a clip; a shorter one is repeated, or filled up with zeros."""
    inside = clips(fit).patch(1, 5, 4)
    np.testing.assert_array_equal(inside, [[105, -105], [106, -106], [107, -107], [108, -108]])
    short = clips(fit).patch(3, 0, 9)
    assert short.shape == (9, 2)
    np.testing.assert_array_equal(short[:7, 0], np.arange(300, 307))
    np.testing.assert_array_equal(short[7:, 0], [300, 301] if fit == "repeat" else [expected] * 2)


def test_audio_has_time_last():
    """Hand-worked: a waveform, and two channels of one."""
    np.testing.assert_array_equal(clips(key="audio").patch(1, 3, 2), [103, 104])
    stereo = np.stack([np.arange(6.0), -np.arange(6.0)])
    two = patches.Clips(lambda _: stereo, np.array([6]), np.array([0]), "audio", -1, "repeat")
    np.testing.assert_array_equal(two.patch(0, 2, 3), [[2, 3, 4], [-2, -3, -4]])
    np.testing.assert_array_equal(two.patch(0, 0, 8)[1], [0, -1, -2, -3, -4, -5, 0, -1])


@pytest.mark.parametrize("fit", ["repeat", "zero"])
def test_patches_of_clips_that_need_not_be_read_whole(fit):
    """Oracle: patches of the same clips, read whole; within, at the end of and longer than a clip."""
    whole, asked = clips(fit, key="audio"), []

    def cut(clip, start, stop):
        asked.append((clip, start, stop))
        return whole.read(clip)[start:stop]

    cutting = dataclasses.replace(whole, read=None, cut=cut)
    places = [(1, 5, 4), (3, 0, 9), (0, 0, 20)]
    for clip, start, length in places:
        np.testing.assert_array_equal(cutting.patch(clip, start, length), whole.patch(clip, start, length))
    assert asked == [(clip, start, start + length) for clip, start, length in places]


def test_rows_beyond_the_clips_are_outside_the_mask():
    """Hand-worked: two clips in a batch of five; labels, clips and values of the others are 0."""
    labels = np.eye(9, dtype=np.float32)
    batch = clips(labels=labels).batch([4, 2], [0, 30], 8, 5)
    assert batch["mask"].tolist() == [True, True, False, False, False]
    assert batch["clip"].tolist() == [4, 2, 0, 0, 0]
    np.testing.assert_array_equal(batch["label"][:2], labels[[4, 2]])
    assert not batch["label"][2:].any() and not batch["representation"][2:].any()
    assert told(batch) == [(4, 0, 8), (2, 30, 8)]
    assert batch["representation"].dtype == np.float32 and batch["clip"].dtype == np.int32


# ── training ──


@pytest.mark.parametrize("kind", patches.PATCHES)
@pytest.mark.parametrize("count", [2, 4])
def test_processes_make_the_rows_of_one(kind, count):
    """Oracle: the batch of a single process, over four epochs."""
    options = {"patches": kind, "batch_size": 8, "hop": 4}
    whole = training(**options)
    parts = [training(share=(number, count), **options) for number in range(count)]
    for step in range(4 * whole.steps_per_epoch):
        together = [part[step] for part in parts]
        assert all(len(part["mask"]) == 8 // count for part in together)
        joined = {name: np.concatenate([part[name] for part in together]) for name in together[0]}
        assert equal(joined, whole[step])
        np.testing.assert_array_equal(parts[0].ids(step), whole[step]["clip"])


@pytest.mark.parametrize("options", [{"threads": 1}, {"threads": 7, "ahead": 9}])
def test_threads_do_not_matter_and_any_step_can_come_first(options):
    """Oracle: batches by number, in this thread."""
    batches = training(patches="random")
    for first in (0, 3, 11):
        stream = batches.iterate(first, **options)
        for step in range(first, first + 6):
            assert equal(next(stream), batches[step])


@pytest.mark.slow
def test_workers_do_not_matter(tmp_path):
    """Oracle: batches by number, in this process; two worker processes make them, in a program of their own."""
    script = tmp_path / "read.py"
    script.write_text(
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import dataclasses\n"
        "from tests.data import test_patches as t\n"
        "if __name__ == '__main__':\n"
        "    batches = t.training(clips=dataclasses.replace(t.clips(), read=t.read))\n"
        "    stream = batches.iterate(2, workers=2)\n"
        "    assert all(t.equal(next(stream), batches[s]) for s in range(2, 9))\n"
        "    print('equal')\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, str(script), str(root)], capture_output=True, text=True, timeout=300, cwd=root
    )
    assert done.stdout.strip().endswith("equal"), done.stderr[-2000:]


def read(clip):
    """A clip of `clips`, by a function that worker processes can be sent."""
    return clips().read(clip)


def test_an_epoch_is_a_pass_in_a_new_order():
    """Hand-worked: nine clips in batches of four: eight different ones an epoch, not always the same eight."""
    batches = training()
    assert batches.steps_per_epoch == 2
    epochs = [np.concatenate([batches[2 * e + i]["clip"] for i in range(2)]) for e in range(60)]
    assert all(len(set(epoch.tolist())) == 8 for epoch in epochs)
    assert not np.array_equal(epochs[0], epochs[1])
    left_out = Counter(int((set(range(9)) - set(epoch.tolist())).pop()) for epoch in epochs)
    assert set(left_out) == set(range(9))


def test_random_patches_lie_within_their_clips_and_reach_both_ends():
    """Hand-worked: a clip of 10 steps has patches of 8 at 0, 1 and 2, all of them; one of 7 steps has one."""
    batches = training(batch_size=9)
    starts = {clip: set() for clip in range(9)}
    for epoch in range(60):
        for clip, start, length in told(batches[epoch]):
            assert length == 8 and start + 8 <= max(8, LENGTHS[clip])
            starts[clip].add(start)
    assert starts[0] == {0, 1, 2} and starts[3] == {0}
    assert len(starts[8]) > 20


def test_the_seed_decides_and_nothing_else():
    """Oracle: the same value made anew; another seed gives other orders and other patches."""
    one, again, other = training(), training(), training(seed=6)
    assert all(equal(one[step], again[step]) for step in range(10))
    assert not all(np.array_equal(one[step]["clip"], other[step]["clip"]) for step in range(10))


def test_windows_are_trained_on_once_an_epoch():
    """Oracle: `windows` of every chosen clip; with one row a batch an epoch is exactly all of them."""
    chosen = np.array([1, 3, 4])
    batches = training(chosen=chosen, batch_size=1, patches="windows", hop=6)
    expected = [(int(c), s, 8) for c in chosen for s in patches.windows(int(LENGTHS[c]), 8, 6)]
    assert batches.steps_per_epoch == len(expected) == 3 + 1 + 4
    for epoch in range(2):
        found = [told(batches[epoch * len(expected) + i])[0] for i in range(len(expected))]
        assert sorted(found) == sorted(expected)
        assert found != sorted(expected)


# ── evaluation ──


@pytest.mark.parametrize("hop", [None, 3, 60])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_window_is_evaluated_once(hop, count):
    """Oracle: `windows` of every clip; none is lost, whatever the processes, and only the last batch is filled up."""
    chosen = np.array([8, 0, 3, 5, 7, 1])
    expected = [(int(c), s, 8) for c in chosen for s in patches.windows(int(LENGTHS[c]), 8, hop or 8)]
    found = []
    for number in range(count):
        batches = patches.EvaluationBatches(clips(), chosen, 4, 8, hop, (number, count))
        masks = [batch["mask"] for batch in batches]
        assert len(masks) == len(batches)
        assert all(mask.all() for mask in masks[:-1]) and masks[-1].any()
        for batch in batches:
            assert len(batch["mask"]) == 4
            np.testing.assert_array_equal(batch["label"][batch["mask"]], batch["clip"][batch["mask"]] % 3)
            found += told(batch)
    assert sorted(found) == sorted(expected)
    assert {clip for clip, _, _ in found} == set(chosen.tolist())


def test_whole_clips_tell_their_steps():
    """Hand-worked: clips of 7 to 55 steps come in lengths of 8…15 · 2ᵏ, zeros after `steps`; every clip once."""
    batches = patches.EvaluationBatches(clips("repeat"), np.arange(9), 2, None)
    seen = {}
    for batch in batches:
        values, steps = batch["representation"], batch["steps"]
        assert steps.dtype == np.int32 and (steps[~batch["mask"]] == values.shape[1]).all()
        for row in np.flatnonzero(batch["mask"]):
            clip, length = int(batch["clip"][row]), int(steps[row])
            np.testing.assert_array_equal(values[row, :length, 0], 100 * clip + np.arange(length))
            assert not values[row, length:].any()
            seen[clip] = (length, values.shape[1])
    assert {clip: length for clip, (length, _) in seen.items()} == dict(enumerate(LENGTHS.tolist()))
    assert [seen[clip][1] for clip in range(9)] == [10, 26, 40, 7, 32, 18, 22, 16, 56]


def test_padding_is_at_most_an_eighth():
    """Hand-worked: of any length from 8 steps on; and there are eight lengths to a doubling."""
    rounded = [patches._round_up(length) for length in range(8, 5000)]
    assert all(length <= up <= 1.125 * length for length, up in zip(range(8, 5000), rounded, strict=True))
    assert len({up for up in rounded if 1024 <= up < 2048}) == 8


# ── refusals ──


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patches": "all"}, "patches='all' is not one of random, windows"),
        ({"chosen": np.array([], int)}, "there are no training clips; choose at least one"),
        ({"batch_size": 0}, "batch_size=0 must lie from 1 to the 9 training examples"),
        ({"batch_size": 10}, "batch_size=10 must lie from 1 to the 9 training examples"),
        ({"batch_size": 3, "share": (0, 2)}, "batch_size=3 cannot be shared by 2 processes evenly; choose a multiple"),
    ],
)
def test_refusals(options, message):
    """Hand-worked: name, value and remedy."""
    with pytest.raises(ValueError, match=message):
        training(**options)


def test_an_unknown_fit_is_refused():
    """Hand-worked: the fit is named where it is needed."""
    with pytest.raises(ValueError, match="fit='loop' is not one of repeat, zero"):
        clips("loop").patch(3, 0, 9)
