"""Every family of the zoo learns to tell spoken digits apart; what cannot be a tagger is named, with the reason.

Convention
----------
Three digits of `digits_small`, 24 clips each, repeated to the length that a network was published for; two thirds train,
the others are held out (other takes of the same speakers). A few dozen steps of Adam in batches of 24.
CI trains one member of each family; `-m slow` trains all of them.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mirjax import features, optimisers, rules, train
from mirjax.data import audio, dataset, patches
from mirjax.data.loader import fit_length
from mirjax.models import taggers, zoo
from mirjax.signal.representations import Waveform
from mirjax.tasks import tagger, tagging

DIGITS = ("0", "1", "6")
NOT_TAGGERS = {
    "prototypical": "classes are nearest prototypes; it learns from episodes",
    "autoencoder": "reconstructs its input and has no output of classes",
    "seq2seq_autoencoder": "reconstructs its input and has no output of classes",
    "tutorial_siamese": "learns distances of pairs and has no output of classes",
    "kim_ms_sr_fc": "one output for each learning source; multi-task learning trains it",
    "kim_ms_cr_6": "one output for each learning source; multi-task learning trains it",
    "kim_ms_cr_4": "one output for each learning source; multi-task learning trains it",
    "kim_ms_cr_2": "one output for each learning source; multi-task learning trains it",
    "kim_mss_cr": "one output for each learning source; multi-task learning trains it",
}
MEMBERS = {
    "random_cnns": "7x96",
    "rhythm_filters": "time_frequency",
    "timbre_filters": "irmas_multi",
    "at_scale": "dieleman_waveform",
    "companions": "musicnn",
    "few_shot": "sb_cnn",
    "multi_source": "kim_ss_r",
    "choi": "conv1d",
    "tutorial": "tutorial_genre",
    "trackers": "onset_cnn",
    "modern": "patch_transformer",
}
TAGGERS = [name for name in zoo.names() if name not in NOT_TAGGERS]


def small(name):
    """A network at an eighth of its width, with three outputs."""
    return tagger.build(name, max(1, zoo.lookup(name).n // 8), len(DIGITS))


def answer(model):
    """Shapes of what a network says of its published input."""
    x = jnp.zeros((1, *model.representation.shape(num_samples(model))))
    return jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), x, method="embed")[0])


def num_samples(model):
    """Of the published input, or of one second."""
    published = model.num_steps and taggers.num_samples(model.representation, model.num_steps)
    return published or model.representation.sample_rate


@functools.lru_cache(maxsize=2)
def recordings(sample_rate, channels):
    """Clips of the three digits, (audio, class, whether held out) each; takes 4 and 5 of every speaker are held out."""
    source = dataset.open_source("digits_small")
    chosen = [i for i in range(len(source)) if source[i].label in DIGITS]
    clips = [audio.decode(source.encoded(i), sample_rate=sample_rate, channels=channels) for i in chosen]
    classes = np.array([DIGITS.index(source[i].label) for i in chosen], np.int32)
    held_out = np.array([int(source[i].id.rsplit("_", 1)[1][0]) >= 4 for i in chosen])
    return clips, classes, held_out


def learn(name, steps=40, batch_size=24, rate=3e-3):
    """(loss of the first steps, of the last ones, accuracy on held-out clips) of a network."""
    model = small(name)
    representation, length = model.representation, num_samples(model)
    clips, classes, held_out = recordings(representation.sample_rate, getattr(representation, "num_channels", 1))
    hear = np.asarray if isinstance(representation, Waveform) else jax.jit(representation)
    x = [np.asarray(hear(fit_length(clip, length))) for clip in clips]
    key, axis = ("audio", -1) if isinstance(representation, Waveform) else ("representation", 0)
    among = patches.Clips(x.__getitem__, np.array([each.shape[axis] for each in x]), classes, key, axis)
    chosen, frames = np.flatnonzero(~held_out), x[0].shape[axis]
    batches = patches.TrainingBatches(among, chosen, batch_size, frames)
    task = tagging.Tagging(model)
    step = train.make_step(task, optimisers.make_optimiser("adam", rate))
    kind = "all" if isinstance(representation, Waveform) else "band"
    variables = features.initialise(model, jax.random.key(0), length)
    variables = variables | {"input": tagging.input_statistics([x[i] for i in chosen], kind)}
    state, told = step.init(jax.random.key(0), batches[0], rules.constant(), variables), []
    for number in range(steps):
        state, metrics = step(state, batches[number])
        told.append(metrics["loss"])
    variables = step.host(state.variables)
    part = np.flatnonzero(held_out)
    if "batch_stats" in variables:
        scores = by_batch_statistics(task, variables, among.batch(part, [0] * len(part), frames, len(part)))
    else:
        scores = tagging.predict(task, variables, patches.EvaluationBatches(among, part, 24, frames), part).scores
    found = tagging.judge(tagging.Outcome(part, np.asarray(scores), 0.0), classes, loss="cross_entropy")
    return np.mean(told[:3]), np.mean(told[-3:]), found["accuracy"]


def by_batch_statistics(task, variables, batch, draws=8):
    """Scores of a batch in training mode: a few dozen steps are too few for batch norm's running averages."""

    @jax.jit
    def scores(key):
        x = task._hear(batch, variables["input"], None)
        own = {kind: tree for kind, tree in variables.items() if kind != "input"}
        options = {"method": "embed", "train": True, "rngs": {"dropout": key}, "mutable": ["batch_stats"]}
        return jax.nn.softmax(task._logits(task.model.apply(own, x, **options)[0]))

    return np.mean([scores(key) for key in jax.random.split(jax.random.key(1), draws)], axis=0)
