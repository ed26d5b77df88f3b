"""What a rank correlation says, from a table whose numbers are known."""

import csv
import itertools
import json

import numpy as np
import pytest
from scipy import stats

from mirjax import rankings
from mirjax.experiments import rank_report, rank_table

NETWORKS = ("sample-n23", "frame_many-n20", "frame-n40", *(f"net{i}" for i in range(3, 8)))
PROXIES = {
    "num_parameters": [3, 1, 2, 8, 5, 4, 7, 6],
    "gigaflops": [1.5, 0.5, 0.25, 2, 8, 4, 1, 3],
    "naswot": [30.0, 10, 20, 25, 15, 50, 40, 45],
    "linear_on_pooled_input": [0.2, 0.2, 0.2, 0.5, 0.5, 0.5, 0.5, 0.5],
}
# Infinite for the first network, and the last has none.
SYNFLOW = ((-np.inf,), (1.0,), (3.0,), (2.0,), (5.0,), (4.0,), (9.0,), ())


def packed(correct):
    return f"{len(correct)}:{np.packbits(correct).tobytes().hex()}"


@pytest.fixture
def table(tmp_path):
    """Decisions on 73 clips of eight networks, untrained (three seeds) and trained (two), and four proxies."""
    rng = np.random.default_rng(0)
    rows, correct = [], {}
    for kind, method, given, seeds in (("untrained", "elm", "raw", 3), ("trained", "trained", "", 2)):
        for i, network in enumerate(NETWORKS):
            for seed in range(seeds):
                right = rng.random(73) < 0.2 + 0.07 * i + (0.1 if kind == "trained" else 0)
                correct.setdefault(kind, {}).setdefault(network, []).append(right)
                epochs = 30 + i if kind == "trained" else ""
                seconds = 1.0 + seed + i
                rows.append([network, "set", kind, method, given, seed, right.mean(), seconds, epochs, packed(right)])
    for i, network in enumerate(NETWORKS):
        for name, values in PROXIES.items():
            rows.append([network, "set", "proxy", name, "", 0, values[i], 0.0, "", ""])
        for seed, value in enumerate(SYNFLOW[i]):
            rows.append([network, "set", "proxy", "synflow", "", seed, value, 0.0, "", ""])
    path = tmp_path / "table.csv"
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([rank_table.COLUMNS, *rows])
    return path, {kind: np.array([each[n] for n in NETWORKS]) for kind, each in correct.items()}


def renamed(path):
    """The same table of a set of another name."""
    other = path.with_name("renamed.csv")
    header, _, rows = path.read_text().partition("\n")
    other.write_text(f"{header}\n{rows.replace(',set,', ',renamed,')}")
    return other


def mean_scores(correct):
    """Right decisions of every network, of all seeds: whole numbers, so ties are ties."""
    return {kind: each.sum(axis=(1, 2)) / each[0].size for kind, each in correct.items()}


def method(found, name):
    return next(each for each in found.methods if each.name == name)


def test_correlations_and_regrets(table, tmp_path):
    """Oracle: scipy's Spearman and Kendall of the means over seeds; regret of the first one by hand."""
    path, correct = table
    means = mean_scores(correct)
    report = rank_report.build_report([path], tmp_path / "out")
    (found,) = report.sets
    elm = method(found, "elm (raw)")
    assert elm.spearman.correlation == pytest.approx(stats.spearmanr(*means.values())[0])
    assert elm.kendall.correlation == pytest.approx(stats.kendalltau(*means.values())[0])
    assert elm.spearman.low <= elm.spearman.correlation <= elm.spearman.high
    highest = means["untrained"] == means["untrained"].max()
    assert elm.regrets[0].regret == pytest.approx(means["trained"].max() - means["trained"][highest].mean())
    proxy = method(found, "num_parameters")
    assert proxy.spearman.correlation == pytest.approx(stats.spearmanr(PROXIES["num_parameters"], means["trained"])[0])
    assert found.num_clips == 73 and found.trained.correct.shape == (8, 2, 73)
    assert elm.seconds == np.median(1.0 + np.arange(8))  # of the quickest seed
    text = (tmp_path / "out" / "report.md").read_text()
    assert f"{elm.spearman.correlation:.2f}" in text and "at random" in text
    wins = (means["trained"] > means["untrained"]).sum()
    gain = 100 * (means["trained"] - means["untrained"]).mean()
    assert f"(elm (raw)): {wins} of 8 networks are better trained, {gain:+.1f} points" in text
    assert "and 34 epochs (median; 30 to 37, which 2 of 16 reached)" in text and "A training took 4 s and" in text
    orderings = [line for line in text.splitlines() if "(everywhere)" in line]
    assert [line.split(" (")[0] for line in orderings] == ["| sample > frame_many", "| frame_many > frame"]
    lead = 100 * (means["trained"][0] - means["trained"][1])
    assert orderings[0].split(" | ")[2].startswith(f"{lead:+.1f} (")
    assert "Untrained and trained differences point the same way in " in text
    for name in ("rank_scatter.png", "rank_correlations.png"):
        assert (tmp_path / "out" / name).read_bytes()[:4] == b"\x89PNG"


def residuals(values, controls):
    """What least squares on the ranks of the controls leaves of the ranks."""
    design = np.column_stack([np.ones(len(values)), *(stats.rankdata(each) for each in controls)])
    ranks = stats.rankdata(values)
    return ranks - design @ np.linalg.lstsq(design, ranks, rcond=None)[0]


def test_what_size_and_input_explain(table, tmp_path):
    """Oracle: numpy's least squares on ranks, and scipy's Pearson of what is left."""
    path, correct = table
    means = mean_scores(correct)
    (found,) = rank_report.build_report([path], tmp_path / "out").sets
    elm = method(found, "elm (raw)")
    controls = [PROXIES["num_parameters"], PROXIES["gigaflops"]]
    for value, own in ((elm.partial, controls), (elm.partial_input, [*controls, PROXIES["linear_on_pooled_input"]])):
        left = [residuals(means[kind], own) for kind in ("untrained", "trained")]
        assert value == pytest.approx(stats.pearsonr(*left)[0], abs=1e-9)


def test_infinite_proxies_and_the_vote(table, tmp_path):
    """Oracle: scipy's ranks, of the networks that a proxy is finite for; the vote is the mean of three rankings."""
    path, correct = table
    means = mean_scores(correct)
    (found,) = rank_report.build_report([path], tmp_path / "out").sets
    finite = [i for i, values in enumerate(SYNFLOW) if len(values) and np.isfinite(values[0])]
    ranks = stats.rankdata([SYNFLOW[i][0] for i in finite])
    synflow = method(found, "synflow")
    assert synflow.num_networks == len(finite) == 6 and len(found.networks) == 8
    assert synflow.spearman.correlation == pytest.approx(stats.spearmanr(ranks, means["trained"][finite])[0])
    votes = [means["untrained"][finite], ranks, np.array(PROXIES["naswot"])[finite]]
    expected = stats.spearmanr(np.mean([stats.rankdata(each) for each in votes], axis=0), means["trained"][finite])[0]
    assert method(found, "vote: elm (raw), synflow, naswot").spearman.correlation == pytest.approx(expected)
    assert "synflow: 6 of 8 networks" in (tmp_path / "out" / "report.md").read_text()


def test_noise_of_seeds(table, tmp_path):
    """Oracle: the functions of `rankings`, whose own tests have theirs; of one seed the report says what lacks."""
    path, correct = table
    (found,) = rank_report.build_report([path], tmp_path / "out").sets
    sides = [each.astype(float) for each in (correct["untrained"], correct["trained"])]
    assert method(found, "elm (raw)").attenuation == rankings.attenuation(*sides)
    assert found.ceiling == rankings.noise_ceiling(sides[1])
    single = tmp_path / "single.csv"
    lines = path.read_text().splitlines(keepends=True)
    single.write_text("".join(line for line in lines if not ("trained,trained" in line and ",,1," in line)))
    report = rank_report.build_report([single], tmp_path / "single")
    assert report.sets[0].ceiling is None and "With one trained seed the intervals compare" in report.to_markdown()
    lines = rank_report.build_report([single, renamed(single)], tmp_path / "two").to_markdown().splitlines()
    assert sum(" | 8 | 1 | – | – | 73 | " in line for line in lines) == 2


def test_a_written_table_reads_back(table, tmp_path):
    """Hand-worked: the rows of the table that was given."""
    path, _ = table
    rank_report.build_report([path], tmp_path / "out")
    assert rank_table.read_table(tmp_path / "out" / "table.csv") == rank_table.read_table(path)


def test_several_data_sets_are_summed_up(table, tmp_path):
    """Oracle: the mean of the correlations of each; the second set is the first with its networks' names turned.

    Two seeds agree by scipy's Spearman h, and the ceiling is √(2 h / (1 + h)).
    """
    path, correct = table
    other = tmp_path / "other.csv"
    rows = list(csv.DictReader(open(path, encoding="utf-8", newline="")))
    turned = dict(zip(NETWORKS, NETWORKS[::-1], strict=True))
    for row in rows:
        row["set"] = "second"
        row["network"] = turned[row["network"]] if row["method"] == "num_parameters" else row["network"]
    with open(other, "w", newline="") as file:
        writer = csv.DictWriter(file, rank_table.COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    report = rank_report.build_report([path, other], tmp_path / "out")
    proxies = [next(m.spearman.correlation for m in s.methods if m.name == "num_parameters") for s in report.sets]
    assert proxies[0] != proxies[1]
    lines = report.to_markdown().split("## All data sets")[1].splitlines()
    line = next(line for line in lines if line.startswith("| num_parameters"))
    assert line.split(" | ")[1:5] == [*(f"{value:.2f}" for value in (*proxies, np.mean(proxies))), "–"]
    line = next(line for line in lines if line.startswith("| elm (raw)"))
    left = [method(each, "elm (raw)").partial_input for each in report.sets]
    assert line.split(" | ")[4] == f"{np.mean(left):.2f}" and left[0] != left[1]
    means = mean_scores(correct)
    gain = means["trained"] - means["untrained"]
    halves = stats.spearmanr(*correct["trained"].sum(2).T).statistic
    noise = [f"{halves:.2f}", f"{np.sqrt(2 * halves / (1 + halves)):.2f}"]
    numbers = ["8", "2", *noise, "73", f"{100 * np.median(means['trained']):.1f}"]
    for name in ("set", "second"):
        cells = next(line for line in lines if line.startswith(f"| {name} |")).strip("| ").split(" | ")
        assert cells == [name, *numbers, f"{100 * gain.mean():+.1f} ({(gain > 0).sum()})"]
    assert any(line.startswith("| data set | ") and line.endswith("| trained, median | elm (raw) |") for line in lines)
    lead = [f"{100 * (means[kind][1] - means[kind][2]):+.0f}" for kind in ("untrained", "trained")]
    line = next(line for line in lines if line.startswith("| frame_many > frame (everywhere) | "))
    told = [cell.rstrip("*") for cell in line.strip("| ").split(" | ")[1:]]
    assert told[0] == " → ".join(lead) and len(told) == 2
    assert any(line.startswith("They point the same way in ") and " of 4" in line for line in lines)


DAMAGED = {
    "a torn line": (lambda row: row[:6], "line 3: 10 columns are needed; mend the line"),
    "no seconds": (lambda row: [*row[:7], "", *row[8:]], "line 3: seconds='' is no number"),
    "no seed": (lambda row: [*row[:5], "", *row[6:]], "line 3: seed='' is no number"),
    "another kind": (lambda row: [*row[:2], "both", *row[3:]], "line 3: kind='both' is not one of untrained, trained"),
    "no digits": (lambda row: [*row[:9], "73:zz"], "line 3: correct='73:zz'… holds no decisions"),
    "digits cut short": (lambda row: [*row[:9], row[9][:-4]], "line 3: correct='73:.*64 bits for 73 clips"),
    "no decisions": (lambda row: [*row[:9], ""], "line 3: proxies have no decisions"),
    "other clips": (lambda row: [*row[:9], "8:ff"], r"set, elm \(raw\): networks were tested on different numbers of"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_tables_are_told_by_line(table, tmp_path, damage):
    """Hand-worked: file, line, column, value and remedy."""
    change, message = DAMAGED[damage]
    rows = list(csv.reader(open(table[0], encoding="utf-8", newline="")))
    rows[2] = change(rows[2])
    with open(table[0], "w", newline="") as file:
        csv.writer(file).writerows(rows)
    with pytest.raises(ValueError, match=message):
        rank_report.build_report(table[:1], tmp_path / "out")


def test_rows_told_twice(table, tmp_path):
    """Hand-worked: the same rows count once; another value under the same name is refused."""
    path, _ = table
    assert rank_table.read_table(path, path) == rank_table.read_table(path)
    other = tmp_path / "other.csv"
    other.write_text(path.read_text().replace(",num_parameters,,0,3,", ",num_parameters,,0,4,"))
    with pytest.raises(ValueError, match="differ in set, proxy, num_parameters, , sample-n23, 0; report them apart"):
        rank_table.read_table(path, other)


def without(path, *cells):
    """A table without the trainings of some (network, seed)."""
    other = path.with_name("without.csv")
    gone = tuple(f"{network},set,trained,trained,,{seed}," for network, seed in cells)
    other.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if not line.startswith(gone)))
    return other


def test_a_training_that_lacks_costs_its_network_not_a_seed(table, tmp_path):
    """Oracle: scipy's Spearman of the other networks' means of both seeds; one diverged in each seed."""
    path, correct = table
    lacking = without(path, ("net3", 0), ("net5", 1))
    report = rank_report.build_report([lacking], tmp_path / "out")
    own = [i for i, network in enumerate(NETWORKS) if network not in ("net3", "net5")]
    assert report.sets[0].networks == tuple(NETWORKS[i] for i in own) and report.sets[0].several
    means = [each[own].mean((1, 2)).round(12) for each in correct.values()]
    assert method(report.sets[0], "elm (raw)").spearman.correlation == pytest.approx(stats.spearmanr(*means).statistic)
    assert "Left out, since a training or a screening of theirs lacks: net3, net5." in report.to_markdown()


def test_a_table_that_does_not_tell_epochs(table, tmp_path):
    """Hand-worked: the sentence about them is left out; what is no number is told with its line."""
    path, _ = table
    rows = list(csv.DictReader(open(path, encoding="utf-8", newline="")))
    for told in ("", "30 forty"):
        with open(tmp_path / "other.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, rank_table.COLUMNS)
            writer.writeheader()
            writer.writerows(row | {"epochs": told} for row in rows)
        if told:
            with pytest.raises(ValueError, match="line 2: epochs='30 forty' are no whole numbers; mend them"):
                rank_report.build_report([tmp_path / "other.csv"], tmp_path / "out")
        else:
            text = rank_report.build_report([tmp_path / "other.csv"], tmp_path / "out").to_markdown()
            assert "best: net6.\n" in text and "A training took" not in text


def test_a_seed_that_goes_on_is_not_used_yet(table, tmp_path):
    """Hand-worked: of eight networks three have the second seed; all eight are judged by the first, and it is said."""
    path, correct = table
    report = rank_report.build_report([without(path, *((n, 1) for n in NETWORKS[3:]))], tmp_path / "out")
    assert report.sets[0].networks == NETWORKS and report.sets[0].trained.values.shape == (8, 1)
    assert np.array_equal(report.sets[0].trained.correct[:, 0], correct["trained"][:, 0])
    text = report.to_markdown()
    assert "Not used yet: seed 1 of trained, which 3 of 8 networks have." in text and "Left out" not in text


def test_a_proxy_that_is_not_finite_under_one_seed(table, tmp_path):
    """Oracle: scipy's Spearman of the mean ranks, over the networks whose scores are finite under both seeds.

    The one that is not is the best trained: training the first of the others loses on it.
    """
    path, correct = table
    lines = path.read_text().splitlines(keepends=True)
    again = [9, 4, 1, 7, 2, 8.5, np.inf, 6]
    other = tmp_path / "again.csv"
    told = [f"{network},set,proxy,naswot,,1,{value},0.0,,\n" for network, value in zip(NETWORKS, again, strict=True)]
    other.write_text("".join([*lines, *told]))
    (found,) = rank_report.build_report([other], tmp_path / "out").sets
    naswot, truth = method(found, "naswot"), mean_scores(correct)["trained"]
    own = [i for i in range(8) if i != 6]
    ranks = np.mean([stats.rankdata(np.array(values)[own]) for values in (PROXIES["naswot"], again)], axis=0)
    assert naswot.num_networks == 7 and truth.argmax() == 6
    assert naswot.spearman.correlation == pytest.approx(stats.spearmanr(ranks, truth[own]).statistic)
    assert naswot.regrets[0].regret == pytest.approx(truth[6] - truth[own][ranks.argmax()]) and np.ptp(ranks) > 0


def test_an_ordering_is_clear_over_several_seeds_only(table, tmp_path):
    """Hand-worked: the first network right on all clips, the second on none; a star with two seeds, none with one."""
    path, _ = table
    lines = path.read_text().splitlines(keepends=True)
    for i, line in enumerate(lines):
        if line.startswith(("sample-n23,set,trained", "frame_many-n20,set,trained")):
            right = np.full(73, line.startswith("sample"))
            lines[i] = line[: line.rindex(",") + 1] + packed(right) + "\n"
    path.write_text("".join(lines))
    for table_, star in ((path, "*"), (without(path, *((n, 1) for n in NETWORKS)), "")):
        (found,) = rank_report.build_report([table_], tmp_path / "out").sets
        first = found.orderings[0]
        assert first.trained.low > 0 and first.trained.difference == pytest.approx(1) and first.clear == bool(star)
        text = rank_report.RankReport((found, found), ()).to_markdown()
        assert f" → +100{star} | " in text and ("with *" in text) == bool(star)


def test_a_set_that_is_not_trained_yet_does_not_hide_the_others(table, tmp_path):
    """Hand-worked: a note instead of the set; alone it is an error."""
    path, _ = table
    lines = path.read_text().splitlines(keepends=True)
    other = tmp_path / "other.csv"
    rest = [line.replace(",set,", ",other,") for line in lines[1:] if ",trained,trained," not in line]
    other.write_text("".join([lines[0], *rest]))
    report = rank_report.build_report([path, other], tmp_path / "out")
    assert [found.name for found in report.sets] == ["set"]
    assert "other: 0 networks are trained and screened, and ranks need 3" in report.to_markdown()
    with pytest.raises(ValueError, match="other: 0 networks are trained"):
        rank_report.build_report([other], tmp_path / "out")


def test_a_run_folder_s_decisions_are_aligned(tmp_path):
    """Oracle: decisions drawn here, written in another order of clips for each cell, and untrained on more clips."""
    rng, clips = np.random.default_rng(1), [f"clip{i}.wav" for i in range(11)]
    expected = {}
    for kind, classifier, own in (("untrained", "elm", clips), ("trained", "trained", clips[3:9])):
        folder = tmp_path / "set" / kind
        (folder / "predictions").mkdir(parents=True)
        with open(folder / "records.jsonl", "w") as file:
            for network in ("a", "b", "mfcc"):
                right = {clip: bool(rng.integers(2)) for clip in own}
                expected[network, kind] = [right[clip] for clip in clips[3:9]]
                order = rng.permutation(own)
                common = {"fold": "0", "group": None, "label": "x", "scores": None}
                rows = [common | {"id": clip, "prediction": "x" if right[clip] else "y"} for clip in order]
                (folder / "predictions" / f"{network}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
                record = {
                    "architecture": network, "input": "raw",
                    "classifier": classifier if network != "mfcc" else "elm",
                    "seed": 0, "num_features": 4, "predictions": f"{network}.jsonl", "seconds": 2.0, "n_train": 5,
                    "n_test": 6, "feature_seconds_per_clip": 0.1 if kind == "untrained" else 0.0,
                }  # fmt: skip
                for fold, metric in itertools.product(range(2), ("accuracy", "macro_f1")):
                    epochs = {"epochs": 7 + 2 * fold} if kind == "trained" else {}
                    of_fold = {
                        "fingerprint": f"{network} {fold} {metric}",
                        "fold": f"{fold}",
                        "hyperparameters": epochs,
                    }
                    file.write(json.dumps(record | of_fold) + "\n")
    rows = rank_table.read_table(tmp_path)
    assert {(row["network"], row["kind"]) for row in rows} == {(n, k) for n in "ab" for k in ("untrained", "trained")}
    for row in rows:
        assert rank_table.unpack(row["correct"]).tolist() == expected[row["network"], row["kind"]]
        assert row["value"] == pytest.approx(np.mean(expected[row["network"], row["kind"]]), abs=1e-6)
        assert row["seconds"] == pytest.approx(2.0 + (1.1 if row["kind"] == "untrained" else 0))
        assert row["epochs"] == ("7 9" if row["kind"] == "trained" else "")


def test_what_is_no_table_is_told(table, tmp_path):
    """Hand-worked: another CSV, and an empty folder."""
    (tmp_path / "other.csv").write_text("path,label\na.wav,x\n")
    with pytest.raises(ValueError, match="is no table of a rank correlation"):
        rank_table.read_table(tmp_path / "other.csv")
    with pytest.raises(ValueError, match="holds no rank correlation"):
        rank_table.read_table(tmp_path / "nothing")
    with pytest.raises(ValueError, match="is a table; say where the report goes"):
        rank_report.build_report([table[0]])
