"""Tagging: losses and statistics by hand, scores of clips, metrics, and 16 real clips learnt by heart."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special
from sklearn import metrics as reference

from mirjax import optimisers, rules, train
from mirjax.data import audio, dataset, patches
from mirjax.models import backends, taggers
from mirjax.models.blocks import Conv, Head, Stack
from mirjax.signal.representations import LogMel, Waveform
from mirjax.tasks import tagging

FRAMES = 30


def network(outputs, *, fixed=False):
    """Two layers over time with the bands as channels, mean and maximum."""
    block = Conv(16, (3,))
    return taggers.Network(
        LogMel(),
        Stack((block, block)),
        backends.GlobalPool(("mean", "max")),
        Head(outputs),
        num_steps=FRAMES,
        fixed=fixed,
    )


@dataclasses.dataclass(frozen=True)
class Logits:
    """In place of a network: what it hears is its answer, [B, 1, K] or [B, T, K]."""

    per_step: bool = False
    representation = Waveform(12_000)

    def apply(self, variables, x, *, mutable=None, train=False, steps=None, method=None, rngs=None):
        """The logits x [B, T, K], or those of the first step [B, K]."""
        answer = {"logits": x if self.per_step else x[:, 0]}
        return (answer, {}) if mutable else answer


def compare(logits, labels, **options):
    """Losses and weights of rows whose logits are known."""
    logits = jnp.asarray(logits, jnp.float32)
    batch = {"representation": logits[:, None], "label": jnp.asarray(labels), "mask": np.ones(len(logits), bool)}
    task = tagging.Tagging(Logits(), **options)
    losses, weights, _ = task.losses({}, {"input": tagging.input_statistics(())}, batch, None, train=False)
    return np.asarray(losses), np.asarray(weights)


# ── losses ──

LOGITS = np.array([[1.5, -0.3, 0.2], [-2.0, 0.7, 0.1], [0.0, 0.4, -1.1], [3.0, -2.5, 0.6]])
CLASSES = np.array([0, 2, 1, 1], np.int32)
TAGS = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 1], [1, 1, 0]], np.float32)
WEIGHTS = (0.5, 2.0, 3.0)
BINARY = {"loss": "binary_cross_entropy", "output": "sigmoid"}
SQUARED = {"loss": "squared_error", "output": "sigmoid"}


def bce(targets, logits, positive=1.0):
    p = special.expit(logits)
    return (-positive * targets * np.log(p) - (1 - targets) * np.log(1 - p)).mean(-1)


def test_cross_entropy():
    """Oracle: scipy's log_softmax and scikit-learn's log_loss; the weight of its class multiplies a row."""
    losses, weights = compare(LOGITS, CLASSES)
    np.testing.assert_allclose(losses, -special.log_softmax(LOGITS, axis=1)[np.arange(4), CLASSES], rtol=2e-6)
    assert weights.tolist() == [1, 1, 1, 1]
    mean = reference.log_loss(CLASSES, special.softmax(LOGITS, axis=1), sample_weight=np.take(WEIGHTS, CLASSES))
    losses, weights = compare(LOGITS, CLASSES, weights=WEIGHTS)
    assert (losses * weights).sum() / weights.sum() == pytest.approx(mean, rel=1e-6)


def test_cross_entropy_of_tags():
    """Hand-worked: every tag of every row counts once, by its weight; a row without tags not at all."""
    labels = np.array([[1, 1, 0], [0, 0, 1], [0, 0, 0]], np.float32)
    weights = np.array([1.0, 2.0, 0.5])
    task, state = tagging.Tagging(Logits(), weights=tuple(weights)), {"input": tagging.input_statistics(())}
    logits = RNG.normal(size=(3, 3)).astype(np.float32)
    batch = {"representation": logits[:, None], "label": labels, "mask": np.ones(3, bool)}
    losses, of_rows, _ = task.losses({}, state, batch, None, train=False)
    logs = special.log_softmax(logits.astype(float), axis=1)
    expected = -(labels * weights * logs).sum() / (labels * weights).sum()
    np.testing.assert_allclose((losses * of_rows).sum() / of_rows.sum(), expected, rtol=1e-5)
    np.testing.assert_allclose(of_rows, [3, 0.5, 0])


def test_binary_cross_entropy_of_tags():
    """Oracle: −w t log p − (1 − t) log(1 − p) in float64, mean over tags."""
    np.testing.assert_allclose(compare(LOGITS, TAGS, **BINARY)[0], bce(TAGS, LOGITS), rtol=2e-6)
    losses, weights = compare(LOGITS, TAGS, weights=WEIGHTS, **BINARY)
    np.testing.assert_allclose(losses, bce(TAGS, LOGITS, np.array(WEIGHTS)), rtol=2e-6)
    assert weights.tolist() == [1, 1, 1, 1]


def test_binary_cross_entropy_of_classes():
    """Hand-worked: a sigmoid for each class; with two classes one output for the second; class weights weigh rows."""
    losses, weights = compare(LOGITS, CLASSES, weights=WEIGHTS, **BINARY)
    np.testing.assert_allclose(losses, bce(np.eye(3)[CLASSES], LOGITS), rtol=2e-6)
    np.testing.assert_allclose(weights, np.take(WEIGHTS, CLASSES))
    single, second = LOGITS[:, :1], np.array([0, 1, 1, 0], np.int32)
    losses, weights = compare(single, second, weights=(0.25, 4.0), **BINARY)
    np.testing.assert_allclose(losses, bce(second[:, None], single), rtol=2e-6)
    assert weights.tolist() == [0.25, 4, 4, 0.25]


def test_squared_error():
    """Hand-worked: of the sigmoid, or of the output as it is; values are targets, tags have weights."""
    values = TAGS * 0.3
    np.testing.assert_allclose(
        compare(LOGITS, values, **SQUARED)[0], ((special.expit(LOGITS) - values) ** 2).mean(1), rtol=2e-6
    )
    linear = {"loss": "squared_error", "output": "linear"}
    np.testing.assert_allclose(compare(LOGITS, values, **linear)[0], ((LOGITS - values) ** 2).mean(1), rtol=2e-6)
    weighted = (np.array(WEIGHTS) * (LOGITS - values) ** 2).mean(1)
    np.testing.assert_allclose(compare(LOGITS, values, weights=WEIGHTS, **linear)[0], weighted, rtol=2e-6)


def test_softened_targets():
    """Hand-worked: .02 and .98 in place of 0 and 1; the least loss of a row is then their entropy, at that output."""
    losses, _ = compare(LOGITS, TAGS, targets=(0.02, 0.98), **BINARY)
    np.testing.assert_allclose(losses, bce(0.02 + 0.96 * TAGS, LOGITS), rtol=2e-6)
    at_target, _ = compare([[special.logit(0.98)]], [[1.0]], targets=(0.02, 0.98), **BINARY)
    beyond, _ = compare([[special.logit(0.999)]], [[1.0]], targets=(0.02, 0.98), **BINARY)
    assert at_target[0] == pytest.approx(special.entr([0.02, 0.98]).sum(), rel=1e-5) and beyond[0] > at_target[0]
    losses, _ = compare([[0.3]], [1], targets=(0.1, 0.9), **SQUARED)
    assert losses[0] == pytest.approx((special.expit(0.3) - 0.9) ** 2, rel=1e-5)


def test_logits_of_every_step_are_averaged():
    """Hand-worked: a tracker's clip has the mean of its logits."""
    x = np.stack([LOGITS, LOGITS + 1, LOGITS - 4], axis=1).astype("f4")
    batch = {"representation": x, "label": CLASSES, "mask": np.ones(4, bool)}
    scores, _, _ = tagging.Tagging(Logits(per_step=True)).scores({"input": tagging.input_statistics(())}, batch)
    np.testing.assert_allclose(scores, special.softmax(LOGITS - 1, axis=1), rtol=2e-6)


def test_rows_outside_the_mask_weigh_nothing():
    """Hand-worked: weight 0, in training and in scoring."""
    batch = {
        "representation": LOGITS[:, None].astype("f4"),
        "label": CLASSES,
        "mask": np.array([True, False, True, False]),
    }
    task, state = tagging.Tagging(Logits(), weights=WEIGHTS), {"input": tagging.input_statistics(())}
    assert task.losses({}, state, batch, None, train=False)[1].tolist() == [0.5, 0, 2, 0]
    assert task.scores(state, batch)[2].tolist() == [0.5, 0, 2, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "hinge"}, "loss='hinge' is not one of cross_entropy, binary_cross_entropy, squared_error"),
        ({"output": "relu"}, "output='relu' is not one of softmax, sigmoid, linear"),
        ({"output": "sigmoid"}, "loss='cross_entropy' goes with output='softmax', not 'sigmoid'"),
        ({"dtype": "int8"}, "dtype='int8' is not one of float32, bfloat16"),
        ({"targets": (0.02, 0.98)}, r"targets=\(0.02, 0.98\) soften binary outputs; loss='cross_entropy' has \(0, 1\)"),
        (
            {"targets": (0.9, 0.1), **BINARY},
            r"targets=\(0.9, 0.1\) must be two numbers within \[0, 1\], the lower one first",
        ),
    ],
)
def test_refusals(options, message):
    """Hand-worked: name, value and remedy."""
    with pytest.raises(ValueError, match=message):
        tagging.Tagging(Logits(), **options)


# ── the input ──

RNG = np.random.default_rng(3)
SPECTROGRAMS = [RNG.normal(3, 2, (length, 4)).astype("f4") for length in (7, 12, 5)]
PATCHES = RNG.normal(-40, 5, (9, 6, 4)).astype("f4")


@pytest.mark.parametrize(
    ("kind", "given", "mean", "deviation"),
    [
        ("all", SPECTROGRAMS, np.concatenate(SPECTROGRAMS).mean(), np.concatenate(SPECTROGRAMS).std()),
        ("band", SPECTROGRAMS, np.concatenate(SPECTROGRAMS).mean(0), np.concatenate(SPECTROGRAMS).std(0)),
        ("place", PATCHES, PATCHES.astype("f8").mean(0), PATCHES.astype("f8").std(0)),
        ("patch_mean", PATCHES, PATCHES.astype("f8").mean(0), 1),
        ("all", [RNG.normal(size=50)], None, None),
    ],
)
def test_input_statistics(kind, given, mean, deviation):
    """Oracle: numpy's mean and deviation over all values, over frames, or over patches, in float64."""
    found = tagging.input_statistics(iter(given), kind)
    mean = np.mean(given) if mean is None else mean
    deviation = np.std(given) if deviation is None else deviation
    np.testing.assert_allclose(found["mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(found["deviation"], deviation, rtol=1e-5)
    assert found["mean"].dtype == found["deviation"].dtype == np.float32
    assert np.shape(found["mean"]) == np.shape(mean)


def test_a_place_that_never_changes_is_not_divided():
    """Hand-worked: its deviation of 0 counts as 1, though sums of −100.1 are not exact."""
    still = PATCHES.copy()
    still[:, 2, 1] = -100.1
    found = tagging.input_statistics(still, "place")
    assert found["deviation"][2, 1] == 1 and found["deviation"][2, 2] > 1
    assert np.allclose((still - found["mean"][None])[:, 2, 1], 0, atol=1e-4)


def test_input_statistics_refuse():
    """Hand-worked: an unknown kind, and no clips."""
    with pytest.raises(ValueError, match="normalise='frame' is not one of none, all, band, place, patch_mean"):
        tagging.input_statistics([], "frame")
    with pytest.raises(ValueError, match="normalise='band' needs training clips; there are none"):
        tagging.input_statistics([], "band")
    assert tagging.input_statistics([]) == {"mean": 0, "deviation": 1}


@pytest.mark.parametrize("kind", ["all", "band", "place"])
def test_the_network_hears_the_standardised_input(kind):
    """Oracle: (x − mean) / deviation by numpy, for a batch of patches."""
    statistics = tagging.input_statistics(PATCHES, kind)
    batch = {"representation": PATCHES, "label": np.zeros(9, np.int32), "mask": np.ones(9, bool)}
    heard = tagging.Tagging(Logits())._hear(batch, statistics, None)
    axes = {"all": None, "band": (0, 1), "place": 0}[kind]
    expected = (PATCHES - PATCHES.mean(axes, keepdims=True)) / PATCHES.std(axes, keepdims=True)
    np.testing.assert_allclose(heard, expected, atol=2e-4)


def test_augmentation_needs_audio():
    """Hand-worked: one that changes audio cannot be drawn for representations."""
    task = tagging.Tagging(Logits(), augment_audio=lambda key, x: x)
    batch = {"representation": LOGITS[:, None], "label": CLASSES, "mask": np.ones(4, bool)}
    with pytest.raises(ValueError, match="augment_audio needs batches of audio; these hold the representation"):
        task._hear(batch, None, jax.random.key(0))


def test_padding_of_whole_audio_is_counted_in_frames():
    """Oracle: the same clip alone; `steps` of audio are samples, those of the network frames."""
    model = network(3)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 12_000)))
    tone = np.sin(np.arange(9_000) * 0.3).astype("f4")
    batch = {"audio": np.pad(tone, (0, 30_000))[None], "label": np.zeros(1, np.int32), "mask": np.ones(1, bool)}
    task, state = tagging.Tagging(model), variables | {"input": tagging.input_statistics(())}
    alone = task.scores(state, batch | {"audio": tone[None]})[0]
    padded = task.scores(state, batch | {"steps": np.array([9_000])})[0]
    counted = model.apply(variables, batch["audio"], length=np.array([9_000]))["logits"]
    np.testing.assert_allclose(padded, jax.nn.softmax(counted), rtol=1e-5)
    assert np.abs(padded - alone).max() < 0.2 * np.abs(task.scores(state, batch)[0] - alone).max()


# ── scores of clips ──

WINDOWS = np.array([[2.0, 0, 0], [0, 3, 0], [0, 1, 0], [0, 0, 9], [1, 0, 0], [0, 0.5, 0]], np.float32)
CLIP = np.array([7, 7, 7, 3, 9, 9])


def windows(mask=(True,) * 6, labels=None):
    """Six windows of clips 7, 3 and 9 as batches of four; logits are what the windows say."""
    arrays = {3: WINDOWS[CLIP == 3], 7: WINDOWS[CLIP == 7], 9: WINDOWS[CLIP == 9]}
    lengths = np.array([len(arrays.get(i, ())) for i in range(10)])
    labels = np.arange(10, dtype=np.int32) % 3 if labels is None else labels
    return patches.EvaluationBatches(patches.Clips(arrays.__getitem__, lengths, labels), np.array([7, 3, 9]), 4, 1)


def test_clips_have_the_mean_of_their_windows():
    """Hand-worked: softmax of each window, then the mean; the loss is that of the windows."""
    task, state = tagging.Tagging(Logits()), {"input": tagging.input_statistics(())}
    outcome = tagging.predict(task, state, windows(), np.array([3, 7, 9]))
    p = special.softmax(WINDOWS, axis=1)
    np.testing.assert_allclose(outcome.scores, [p[3], p[:3].mean(0), p[4:].mean(0)], rtol=1e-5)
    labels = np.array([7, 7, 7, 3, 9, 9]) % 3
    assert outcome.loss == pytest.approx(-np.log(p[np.arange(6), labels]).mean(), rel=1e-5)
    assert outcome.clips.tolist() == [3, 7, 9]


def test_clips_have_the_votes_of_their_windows():
    """Hand-worked: two of three windows say 1; of a tie the higher mean wins."""
    task, state = tagging.Tagging(Logits()), {"input": tagging.input_statistics(())}
    outcome = tagging.predict(task, state, windows(), np.array([3, 7, 9]), aggregate="vote")
    np.testing.assert_allclose(outcome.scores, [[0, 0, 1], [1 / 3, 2 / 3, 0], [0.5, 0.5, 0]], atol=1e-8)
    assert outcome.scores.argmax(1).tolist() == [2, 1, 0]


def test_a_single_output_votes_for_both_classes():
    """Hand-worked: windows at −1, 2, 3 (two of three say the second), −1, and −1, .5 (a tie; the first's mean wins)."""
    arrays = {0: np.array([[-1.0], [2], [3]]), 1: np.array([[-1.0]]), 2: np.array([[-1.0], [0.5]])}
    lengths, labels = np.array([3, 1, 2]), np.array([1, 0, 0], np.int32)
    batches = patches.EvaluationBatches(patches.Clips(arrays.__getitem__, lengths, labels), np.arange(3), 4, 1)
    task, state = tagging.Tagging(Logits(), **BINARY), {"input": tagging.input_statistics(())}
    outcome = tagging.predict(task, state, batches, np.arange(3), aggregate="vote")
    np.testing.assert_allclose(outcome.scores[:, 0], [2 / 3, 0, 0.5], atol=1e-8)
    assert tagging.judge(outcome, labels, loss="binary_cross_entropy")["accuracy"] == 1


def test_predict_refuses():
    """Hand-worked: an unknown way, no clips, a clip that no window is of."""
    task, state = tagging.Tagging(Logits()), {"input": tagging.input_statistics(())}
    with pytest.raises(ValueError, match="aggregate='median' is not one of mean, vote"):
        tagging.predict(task, state, windows(), np.array([3, 7, 9]), aggregate="median")
    with pytest.raises(ValueError, match="there are no clips to score; choose at least one"):
        tagging.predict(task, state, [], np.array([], int))
    with pytest.raises(ValueError, match="1 of 4 clips have no window"):
        tagging.predict(task, state, windows(), np.array([3, 7, 9, 5]))


def test_predict_names_clips_whose_scores_are_no_numbers():
    """Hand-worked: one value of clip 7 is NaN, and a softmax passes it on to its row alone."""
    task, state = tagging.Tagging(Logits()), {"input": tagging.input_statistics(())}
    batches = [{key: np.array(values) for key, values in batch.items()} for batch in windows()]
    for batch in batches:
        batch["representation"][batch["clip"] == 7] = np.nan
    with pytest.raises(tagging.NotFiniteScores, match=r"the scores of 1 clips \(numbers 7\) are not finite") as caught:
        tagging.predict(task, state, batches, np.array([3, 7, 9]))
    assert caught.value.clips.tolist() == [7]


# ── metrics ──


def test_judge_one_label():
    """Oracle: scikit-learn, on scores whose classes are known."""
    truth, rng = RNG.integers(0, 3, 40), np.random.default_rng(0)
    scores = rng.dirichlet(np.ones(3), 40) + 0.3 * np.eye(3)[truth]
    found = tagging.judge(tagging.Outcome(np.arange(40), scores, 0.7), truth.astype(np.int32), loss="cross_entropy")
    decided = scores.argmax(1)
    assert found["loss"] == 0.7
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(truth, decided))
    assert found["balanced_accuracy"] == pytest.approx(reference.balanced_accuracy_score(truth, decided))
    assert found["macro_f1"] == pytest.approx(reference.f1_score(truth, decided, average="macro"))


def test_judge_takes_the_labels_of_its_clips():
    """Hand-worked: clips 5, 0, 2 of six, all right; a single output above one half is the second class."""
    labels = np.array([1, 0, 0, 1, 1, 1], np.int32)
    outcome = tagging.Outcome(np.array([5, 0, 2]), np.array([[0.9], [0.6], [0.5]]), 0.0)
    assert tagging.judge(outcome, labels, loss="binary_cross_entropy")["accuracy"] == 1


def test_judge_tags_and_values():
    """Oracle: scikit-learn's areas, a tag without a positive left out; √MSE by numpy."""
    rng = np.random.default_rng(1)
    truth, scores = (rng.random((30, 4)) < 0.4).astype("f4"), rng.random((30, 4))
    truth[:, 2] = 0
    kept = [0, 1, 3]
    found = tagging.judge(
        tagging.Outcome(np.arange(30), scores, 0.1), truth, loss="binary_cross_entropy", tags=("a", "b", "c", "d")
    )
    assert found["roc_auc"] == pytest.approx(reference.roc_auc_score(truth[:, kept], scores[:, kept]))
    assert found["pr_auc"] == pytest.approx(reference.average_precision_score(truth[:, kept], scores[:, kept]))
    found = tagging.judge(tagging.Outcome(np.arange(30), scores, 0.1), truth, loss="squared_error")
    assert found == {"loss": 0.1, "rmse": pytest.approx(np.sqrt(((truth - scores) ** 2).mean()))}


# ── learning by heart ──


@pytest.fixture(scope="module")
def sixteen():
    """Log-mel spectrograms f32[16, 30, 96] of spoken digits, and which digits (0, 1, 6 and 8, four of each)."""
    source = dataset.open_source("digits_small")
    chosen = [i for digit in "0168" for i in range(len(source)) if source[i].label == digit][::6]
    assert len(chosen) == 16
    heard = [audio.decode(source.encoded(i), sample_rate=12_000) for i in chosen]
    hear = jax.jit(LogMel())
    return np.stack([np.asarray(hear(np.resize(x, 29 * 256))) for x in heard]), np.repeat(np.arange(4), 4)


ADAM = optimisers.make_optimiser("adam", 0.01)


def learn(task, x, labels, steps=100):
    """(outcome on the training clips, first loss, last loss)."""
    clips = patches.Clips(x.__getitem__, np.full(len(x), FRAMES), labels)
    batches = patches.TrainingBatches(clips, np.arange(len(x)), len(x), FRAMES)
    step = train.make_step(task, ADAM)
    state = step.init(jax.random.key(0), batches[0], rules.constant())
    state = dataclasses.replace(state, state=state.state | step.place({"input": tagging.input_statistics(x, "band")}))
    told = []
    for number in range(steps):
        state, metrics = step(state, batches[number])
        told.append(metrics["loss"])
    evaluation = patches.EvaluationBatches(clips, np.arange(len(x)), len(x), FRAMES)
    outcome = tagging.predict(task, step.host(state.variables), evaluation, np.arange(len(x)))
    return outcome, float(told[0]), float(told[-1])


HALF = np.arange(16, dtype=np.int32) % 2
SOME_TAGS = np.stack([np.arange(16) // 8, np.arange(16) % 2, np.arange(16) // 4 == 1], axis=1).astype("f4")


@pytest.mark.parametrize(
    ("loss", "output", "labels", "options"),
    [
        ("cross_entropy", "softmax", "digits", {}),
        ("cross_entropy", "softmax", "digits", {"weights": (0.2, 1.0, 3.0, 0.5)}),
        ("cross_entropy", "softmax", "digits", {"dtype": "bfloat16"}),
        ("binary_cross_entropy", "sigmoid", "digits", {}),
        ("binary_cross_entropy", "sigmoid", HALF, {"targets": (0.02, 0.98)}),
        ("squared_error", "sigmoid", "digits", {}),
        ("squared_error", "softmax", "digits", {}),
        ("binary_cross_entropy", "sigmoid", SOME_TAGS, {"weights": (1.0, 2.0, 3.0)}),
        ("squared_error", "sigmoid", SOME_TAGS, {}),
        ("squared_error", "linear", SOME_TAGS * 0.7 + 0.1, {}),
    ],
)
def test_sixteen_clips_are_learnt_by_heart(sixteen, loss, output, labels, options):
    """Oracle: the training clips themselves: all right, or all areas 1, or values within .1 (√MSE)."""
    x, digits = sixteen
    labels = digits.astype(np.int32) if isinstance(labels, str) else labels
    outputs = 1 if labels is HALF else labels.shape[1] if labels.ndim == 2 else 4
    outcome, first, last = learn(tagging.Tagging(network(outputs), loss, output, **options), x, labels)
    found = tagging.judge(outcome, labels, loss=loss)
    assert last < (0.35 if "targets" in options else 0.1) * first
    if labels.ndim == 1:
        assert found["accuracy"] == 1
    elif loss == "binary_cross_entropy":
        assert found["roc_auc"] == found["pr_auc"] == 1
    else:
        assert found["rmse"] < 0.1


def test_clips_without_information_are_not_learnt(sixteen):
    """Oracle: chance; the same sixteen clips, every one replaced by their mean, so that the test above can fail."""
    x, digits = sixteen
    same = np.broadcast_to(x.mean(0), x.shape).copy()
    outcome, _, last = learn(tagging.Tagging(network(4)), same, digits.astype(np.int32))
    assert tagging.judge(outcome, digits.astype(np.int32), loss="cross_entropy")["accuracy"] == 0.25
    assert last > 0.9 * np.log(4)
