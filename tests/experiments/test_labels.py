"""Labels of clips as a task takes them: classes, tags, values; weights; stored predictions."""

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn import metrics as reference
from sklearn.utils import class_weight

from mirjax.experiments import labels


def clips(*given):
    return SimpleNamespace(
        name="set", ids=np.array([f"c{i}" for i in range(len(given))]), labels=np.array(given, dtype=object)
    )


def test_one_class_a_clip():
    """Hand-worked: names in sorted order, and the number of each clip's."""
    table = labels.table(clips("rock", "jazz", "rock", "blues"), "one")
    assert table.names == ("blues", "jazz", "rock") and table.values.tolist() == [2, 1, 2, 0]
    assert table.values.dtype == np.int32
    assert table.metrics == ("accuracy", "balanced_accuracy", "macro_f1")


def test_many_tags_a_clip():
    """Hand-worked: a|b|c, spaces, none, and a colon that belongs to the name."""
    table = labels.table(clips("b| a", "-", "", "c:0.5|b"), "many")
    assert table.names == ("a", "b", "c:0.5")
    np.testing.assert_array_equal(table.values, [[1, 1, 0], [0, 0, 0], [0, 0, 0], [0, 1, 1]])
    assert table.values.dtype == np.float32 and table.metrics == ("roc_auc", "pr_auc")


def test_values_of_tags():
    """Hand-worked: a name alone is 1, one not named 0; the last colon divides name and number."""
    table = labels.table(clips("a:0.3|b:0.9", "b", "key:C:0.25", "-"), "values")
    assert table.names == ("a", "b", "key:C")
    np.testing.assert_allclose(table.values, [[0.3, 0.9, 0], [0, 1, 0], [0, 0, 0.25], [0, 0, 0]])
    assert table.metrics == ("rmse",)


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        (("a:0.3", "b:loud"), "values", "set: label 'b:loud' of c1 must be tag:number|tag:number, numbers from 0 to 1"),
        (("a:nan",), "values", "set: label 'a:nan' of c0 must be tag:number"),
        (("a:1.5",), "values", "set: label 'a:1.5' of c0 must be .* numbers from 0 to 1"),
        ((":0.5",), "values", "set: label ':0.5' of c0 must be .* each tag once"),
        (("a|b", "a|b|a"), "many", r"set: label 'a\|b\|a' of c1 must be tag\|tag, each tag once"),
        (("-", ""), "many", r"set: no clip has a tag; with labels=many a label is tag\|tag, or - for none"),
    ],
)
def test_wrong_labels_name_their_clip(given, kind, message):
    """Hand-worked: data set, clip, label and remedy."""
    with pytest.raises(ValueError, match=message.replace("tag:number|tag", r"tag:number\|tag")):
        labels.table(clips(*given), kind)


def test_losses_and_outputs():
    """Hand-worked: the usual loss of each kind; two classes under another loss than cross-entropy take one output."""
    two, three = labels.table(clips("a", "b"), "one"), labels.table(clips("a", "b", "c"), "one")
    many, values = labels.table(clips("a|b", "b"), "many"), labels.table(clips("a:.5|b", "b"), "values")
    usual = [table.loss("auto") for table in (two, three, many, values)]
    assert usual == ["cross_entropy", "cross_entropy", "binary_cross_entropy", "squared_error"]
    assert three.loss("squared_error") == "squared_error"
    assert [table.num_outputs("auto") for table in (two, three, many, values)] == [2, 3, 2, 2]
    assert [table.num_outputs("binary_cross_entropy") for table in (two, three, many)] == [1, 3, 2]


def test_balanced_weights_of_classes():
    """Oracle: scikit-learn's compute_class_weight; a class that no chosen clip has divides nothing."""
    given = ["a"] * 6 + ["b"] * 3 + ["c"] * 1 + ["d"]
    table, chosen = labels.table(clips(*given), "one"), np.arange(10)
    expected = class_weight.compute_class_weight("balanced", classes=np.arange(3), y=table.values[chosen])
    found = table.balanced(chosen)
    np.testing.assert_allclose(found[:3], expected)
    assert len(found) == 4
    np.testing.assert_allclose(np.take(found, table.values[chosen]).mean(), 1)


def test_balanced_weights_of_tags():
    """Hand-worked: negatives over positives, so that both halves of a tag weigh alike."""
    table = labels.table(clips("a|b", "a", "a", "-", "b|c"), "many")
    assert table.balanced(np.arange(5)) == pytest.approx((2 / 3, 3 / 2, 4))
    with pytest.raises(ValueError, match="weights=balanced: no training clip has c; leave these tags out"):
        table.balanced(np.arange(4))
    with pytest.raises(ValueError, match="weights=balanced is for classes and tags; these labels are values"):
        labels.table(clips("a:.5"), "values").balanced(np.arange(1))


def rows(given, kind, scores):
    everything = clips(*given)
    fold = SimpleNamespace(name="2", test=np.arange(len(given)))
    partition = SimpleNamespace(groups=np.array([f"g{i}" for i in range(len(given))]))
    table = labels.table(everything, kind)
    return labels.prediction_rows(everything, partition, fold, table.values, np.asarray(scores), table)


def test_prediction_rows_of_classes():
    """Hand-worked: the highest score; a single output is that of the second class, above one half."""
    found = rows(["a", "c", "b"], "one", [[0.2, 0.5, 0.3], [0.1, 0.1, 0.8], [0.4, 0.35, 0.25]])
    assert [row["prediction"] for row in found] == ["b", "c", "a"]
    assert found[1] == {
        "id": "c1", "fold": "2", "group": "g1", "label": "c", "prediction": "c",
        "scores": {"a": 0.1, "b": 0.1, "c": 0.8},
    }  # fmt: skip
    found = rows(["a", "b", "b"], "one", [[0.5], [0.500001], [0.25]])
    assert [row["prediction"] for row in found] == ["a", "b", "a"]
    assert found[2]["scores"] == {"a": 0.75, "b": 0.25}


def test_prediction_rows_of_tags():
    """Hand-worked: every tag above one half, or none."""
    found = rows(["a|b", "-"], "many", [[0.7, 0.9], [0.5, 0.123456789]])
    assert [row["prediction"] for row in found] == ["a|b", "-"]
    assert found[1]["scores"] == {"a": 0.5, "b": 0.123457}


def test_decisions_on_moods():
    """Oracle: scikit-learn's accuracy, Hamming loss and areas, of outputs and of their rounding."""
    rng = np.random.default_rng(4)
    names = ("calm", "happy", "sad", "tense")
    truth = rng.random((60, 4)) < 0.4
    scores = np.round(np.clip(truth * 0.3 + rng.random((60, 4)) * 0.7, 0, 1), 6)
    given = ["|".join(n for n, has in zip(names, row, strict=True) if has) or "-" for row in truth]
    found = labels.judge_decisions(rows(given, "many", scores))
    rounded = np.round(scores)
    assert found["exact_match"] == pytest.approx(reference.accuracy_score(truth, rounded))
    assert found["hamming_loss"] == pytest.approx(reference.hamming_loss(truth, rounded))
    assert found["roc_auc"] == pytest.approx(reference.roc_auc_score(truth, scores, average="macro"))
    assert found["rounded_roc_auc"] == pytest.approx(reference.roc_auc_score(truth, rounded, average="macro"))
    assert found["rounded_roc_auc"] < found["roc_auc"]


def test_decisions_refuse():
    """Hand-worked: no rows, and labels that have no score."""
    with pytest.raises(ValueError, match="there are no predictions; give the rows of at least one clip"):
        labels.judge_decisions([])
    stranger = [{"label": "a|x", "scores": {"a": 0.1, "b": 0.9}}]
    with pytest.raises(ValueError, match=r"labels x are no tags of the scores \(a, b"):
        labels.judge_decisions(stranger)
