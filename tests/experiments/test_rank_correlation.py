"""The study of untrained and trained ranks: what it refuses, how it resumes, and that one process works at a time."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from mirjax import config, features, proxies, results
from mirjax.config import UsageError
from mirjax.data import audio, dataset, splits
from mirjax.experiments import proxy_scores
from mirjax.experiments.rank_correlation import RankCorrelation
from mirjax.models import space

NAMES = ("space/frames-d1-f8-p2-elu-nonorm-mean", "space/rhythm-d1-f8-p2-relu-nonorm-max", "temporal-n8")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"networks": 2}, "networks=2 must be at least 3, to have ranks"),
        ({"networks": 10_000}, "count=10000 must be from 1 to 1000"),
        ({"networks": ("vgg-n24", "space/none", "temporal-n8")}, "space/none"),
        ({"seconds": (1.0, 2.0)}, r"seconds=\(1.0, 2.0\) must be one length, or one for each of the 1 data sets"),
        ({"data": ("digits_smal",)}, "nearest: digits_small"),
        ({"rule": "halve"}, "rule 'halve' is unknown"),
        ({"folds": ("9",)}, "folds='9' is no fold of rhythm_small; known: 0, 1, 2"),
        ({"seconds": (0.5,)}, "cannot take clips of 0.5 s"),
    ],
)
def test_refusals(fields, message, tmp_path):
    """Hand-worked: name, value and remedy, before any network is trained."""
    with pytest.raises((UsageError, ValueError), match=message):
        settings = {"networks": 12, "cache": str(tmp_path / "cache")} | fields
        RankCorrelation(**settings).run(tmp_path / "run", progress=False)
    assert not list(tmp_path.glob("run/*/*/records.jsonl"))


def test_the_first_ten_are_the_study_s():
    """Hand-worked: the ten of the publication come first, and the same names whatever the number."""
    few, many = (RankCorrelation(networks=n).space() for n in (12, 60))
    assert many[:12] == few and few[0] == "vgg-n24" and not any(name.startswith("space/") for name in few[:10])
    assert len(set(many)) == 60


def line(network, proxy, value):
    """A row of a file of scores."""
    numbers = {"numbers": proxies.NUMBERS[proxy]} if proxy in proxies.NUMBERS else {}
    return {"network": network, "seed": 0, "proxy": proxy, "value": value} | numbers


def test_scores_cut_short_are_left_out(tmp_path):
    """Hand-worked: nine rows and a torn one are one network; reading changes nothing."""
    count = len(proxies.PROXIES)
    names = list(proxies.PROXIES)
    rows = [line(f"n{i // count}", names[i % count], 1.0) for i in range(count + 1)]
    path = tmp_path / "proxies.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"network": "n1", "se')
    before = path.read_text()
    assert proxy_scores.read_scores(path) == rows[:count]
    assert proxy_scores.read_scores(tmp_path / "none") == []
    assert path.read_text() == before
    path.write_text("{torn\n" + before)
    with pytest.raises(ValueError, match="line 1 is damaged; mend or delete it"):
        proxy_scores.read_scores(path)


def test_scores_go_on(tmp_path):
    """Oracle: the file of a run that nothing cut short, times aside."""
    small = dataclasses.replace(RankCorrelation().smoke(), networks=NAMES, cache=str(tmp_path / "cache"))
    ((_, _, trained),) = small.parts()
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    proxy_scores.add_scores(whole, trained, (0, 1), progress=False)
    lines = whole.read_text().splitlines(keepends=True)
    cut.write_text("".join(lines[: len(lines) // 2 + 3]) + lines[-1][:20])
    proxy_scores.add_scores(cut, trained, (0, 1), progress=False)
    found, expected = ([r | {"seconds": 0} for r in proxy_scores.read_scores(path)] for path in (cut, whole))
    assert found == expected and len(found) == len(NAMES) * 2 * len(proxies.PROXIES)
    assert cut.read_text().count("\n") == len(lines)


def test_scores_are_of_one_batch_of_training_clips(tmp_path):
    """Oracle: the batch by hand: 32 clips of fold 0's training clips, cut to 3 s, standardised by all of these."""
    small = dataclasses.replace(RankCorrelation().smoke(), networks=NAMES, cache=str(tmp_path / "cache"))
    ((_, _, trained),) = small.parts()
    path = tmp_path / "proxies.jsonl"
    proxy_scores.add_scores(path, trained, (1,), progress=False)
    found = {(row["network"], row["proxy"]): row["value"] for row in proxy_scores.read_scores(path)}
    clips = audio.load_clips(dataset.open_source("rhythm_small"), progress=False)
    partition = splits.partition(clips, protocol="auto")
    rest, _ = splits.validation(partition.folds[0], partition, clips.labels)
    chosen = np.sort(np.random.default_rng(0).permutation(rest)[:32])
    model = space.build(NAMES[0], num_classes=8)
    maps = np.stack([np.asarray(model.representation(clips.audio(i)[:36_000])) for i in range(len(clips))])
    x = (maps[chosen] - maps[rest].mean()) / maps[rest].std()
    labels = np.unique(clips.labels, return_inverse=True)[1][chosen]
    variables = features.initialise(model, jax.random.key(1), 36_000)
    assert len(rest) == 38
    for name in ("gradient_norm", "naswot", "linear_on_pooled_input"):
        assert found[NAMES[0], name] == pytest.approx(proxies.PROXIES[name](model, variables, x, labels), rel=1e-4), (
            name
        )


def test_scores_whose_numbers_changed_are_computed_anew(tmp_path, monkeypatch):
    """Hand-worked: of one network the line of one score is of an earlier version; it alone is computed, once."""
    small = dataclasses.replace(RankCorrelation().smoke(), networks=NAMES, cache=str(tmp_path / "cache"))
    ((_, _, trained),) = small.parts()
    path = tmp_path / "proxies.jsonl"
    monkeypatch.setitem(proxies.NUMBERS, "num_parameters", 3)
    rows = [line(network, proxy, 7.0) for network in NAMES for proxy in proxies.PROXIES]
    (stale,) = [row for row in rows if (row["network"], row["proxy"]) == (NAMES[1], "num_parameters")]
    stale["numbers"] = 2
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    proxy_scores.add_scores(path, trained, (0,), progress=False)
    found = proxy_scores.read_scores(path)
    assert len(found) == len(rows)
    (new,) = [row for row in found if row["value"] != 7.0]
    assert (new["network"], new["proxy"], new["numbers"]) == (NAMES[1], "num_parameters", 3)


def test_one_process_at_a_time(tmp_path):
    """Oracle: the lock of the folder, held here."""
    small = RankCorrelation().smoke()
    with results.held(tmp_path / "rhythm_small"), pytest.raises(results.RunFolderBusy, match="is in use by process"):
        small.run(tmp_path, progress=False)


def test_settings_that_grow_keep_the_folder():
    """Hand-worked: more networks, seeds and data extend a run in place; another rate starts a new one."""
    study = RankCorrelation()
    folder = study.default_workdir()
    for grown in (["networks=70"], ["seeds=5", "trained_seeds=3"], ["data=rhythm_small,digits_small", "seconds=6,2"]):
        assert config.override(study, grown).default_workdir() == folder
    assert config.override(study, ["learning_rate=0.01"]).default_workdir() != folder
