"""The contract every network of the zoo keeps. Oracle: DESIGN §7 (contract tests): its own clauses.

In CI one network a family; all of them, one by one, with `-m slow`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mirjax.models import counts, geometry, taggers, zoo

# One network a family, those with most kinds of layers.
CHOSEN = {
    "random_cnns": "frame",
    "rhythm_filters": "time_frequency",
    "timbre_filters": "mtt_timbre",
    "at_scale": "at_scale_waveform",
    "companions": "musicnn_attention",
    "few_shot": "few_shot_vgg",
    "multi_source": "kim_ms_sr_fc",
    "choi": "music_tagger_crnn",
    "tutorial": "tutorial_siamese",
    "trackers": "beat_blstm",
    "modern": "patch_transformer",
}
NAMES = [pytest.param(name, marks=() if name in CHOSEN.values() else pytest.mark.slow) for name in zoo.names()]
# Of one dimension and two, of the waveform, recurrent, and with attention.
FEW = ("few_shot_vgg", "black_box", "kim_ms_sr_fc", "music_tagger_crnn", "patch_transformer")
SOME = [pytest.param(name, marks=() if name in FEW else pytest.mark.slow) for name in zoo.names()]
LOG = "few_shot"  # families whose input is a power spectrum


@functools.lru_cache(maxsize=16)
def small(name):
    """(model at width ≤ 4, its variables with running averages and biases off their initial values)."""
    model = zoo.build(name, min(zoo.lookup(name).n, 4))
    spec = counts.input_spec(model)
    drawn = jax.jit(functools.partial(model.init, method="embed"))(jax.random.key(0), jnp.zeros(spec.shape))
    variables = {kind: drawn[kind] for kind in ("params", "batch_stats") if kind in drawn}
    leaves, tree = jax.tree.flatten(variables)
    rng = np.random.default_rng(0)
    moved = [leaf * jnp.asarray(rng.uniform(0.8, 1.2, leaf.shape), leaf.dtype) + 0.01 for leaf in leaves]
    return model, jax.tree.unflatten(tree, moved)


def lengths(model):
    """Two input lengths: of a fixed network its own; else short ones (over the pools, under a second of compiling)."""
    if model.fixed:
        return (model.num_steps,)
    least = max(geometry.shortest(model.windows), 4)
    return (least + least // 2 + 9, 2 * least + 30)


def inputs(model, rows, steps, seed=1):
    """Non-negative values of a real spectrogram's spread, or a waveform."""
    spec = counts.input_spec(model, steps)
    values = np.random.default_rng(seed).normal(size=(rows, *spec.shape[1:]))
    return jnp.asarray(values if spec.ndim == 2 else np.abs(values), spec.dtype)


def outputs(model, variables, x, **settings):
    """Outputs by name, those of several heads told apart."""
    found = model.apply(variables, x, method="embed", **settings)
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(found)}


@functools.lru_cache(maxsize=16)
def compiled(model):
    """`outputs` of a model, jitted."""
    return jax.jit(functools.partial(outputs, model))


def close(a, b, tolerance=1e-5):
    """max|a − b| ≤ tolerance · max|b|."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    assert a.shape == b.shape
    assert np.abs(a - b).max() <= tolerance * max(np.abs(b).max(), 1e-3), np.abs(a - b).max() / np.abs(b).max()


@pytest.mark.parametrize("name", NAMES)
def test_lengths_rows_jit_and_shapes(name):
    """Oracle: finite; two lengths; jit = eager; a row does not depend on those beside it; steps as geometry says."""
    model, variables = small(name)
    run = compiled(model)
    for i, steps in enumerate(lengths(model)):
        x = inputs(model, 2, steps)
        together = run(variables, x)
        for key, values in together.items():
            assert np.isfinite(np.asarray(values)).all(), key
            assert values.dtype == jnp.float32
        if i:  # one length is enough for the costly comparison
            continue
        alone = outputs(model, variables, x[1:2])
        for key, values in alone.items():
            close(together[key][1:2], values)
        embedding = together["['embedding']"]
        logits = [values for key, values in together.items() if "logits" in key]
        if zoo.lookup(name).back_end == "sequence":
            assert embedding.shape[:2] == (2, geometry.num_steps(model.windows, steps))
            assert all(values.ndim == 3 for values in logits)
        elif zoo.lookup(name).output != "none":
            assert embedding.ndim == 2


@pytest.mark.parametrize("name", NAMES)
def test_padding_is_invisible(name):
    """Oracle: the row alone; what lies beyond its real steps is noise a hundred times as loud."""
    model, variables = small(name)
    if not model.is_variable:
        with pytest.raises(ValueError, match="length"):
            model.apply(variables, inputs(model, 2, lengths(model)[0]), steps=jnp.array([1, 1]), method="embed")
        return
    short, long = lengths(model)
    x = np.array(inputs(model, 2, long))
    x[1, short:] = 100 * np.abs(np.random.default_rng(2).normal(size=x[1, short:].shape))
    padded = compiled(model)(variables, jnp.asarray(x), steps=jnp.array([long, short]))
    for row, steps in enumerate((long, short)):
        alone = compiled(model)(variables, jnp.asarray(x[row : row + 1, :steps]))
        for key, values in alone.items():
            found = padded[key][row : row + 1]
            close(found[:, : values.shape[1]] if values.ndim == 3 else found, values)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_and_training_mode(name):
    """Oracle: finite gradients for all parameters, of which most are not zero, and updated running averages."""
    model, variables = small(name)
    x = inputs(model, 4, lengths(model)[0])

    def loss(params):
        found, state = model.apply(
            {**variables, "params": params},
            x,
            method="embed",
            train=True,
            rngs={"dropout": jax.random.key(1)},
            mutable=["batch_stats"],
        )
        return sum((leaf**2).mean() for leaf in jax.tree.leaves(found)), state

    gradients, state = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(gradients)]
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    assert np.mean([leaf.any() for leaf in leaves]) >= 0.5
    if "batch_stats" in variables:
        changed = jax.tree.map(lambda a, b: bool((a != b).any()), state["batch_stats"], variables["batch_stats"])
        assert any(jax.tree.leaves(changed))


@pytest.mark.parametrize("name", SOME)
def test_precisions_and_seeds(name):
    """Oracle: the float64 run: float32 within 1e-4 and bfloat16 within 20 % of it; init under vmap = init by itself."""
    model, variables = small(name)
    x = inputs(model, 2, lengths(model)[0])
    run = compiled(model)
    single, half = run(variables, x), run(variables, x.astype(jnp.bfloat16))
    with jax.enable_x64(True):
        double = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), variables)
        exact = run(double, jnp.asarray(np.asarray(x), jnp.float64))
        exact = {key: np.asarray(values) for key, values in exact.items()}
        drawn = jax.eval_shape(
            functools.partial(model.init, method="embed"),
            jax.random.key(0),
            jax.ShapeDtypeStruct(x.shape, jnp.float64),
        )
        kept = [drawn[kind] for kind in ("params", "batch_stats") if kind in drawn]
        assert {leaf.dtype for leaf in jax.tree.leaves(kept)} == {jnp.dtype(jnp.float64)}
    for key, values in exact.items():
        assert values.dtype == np.float64
        close(single[key], values, 1e-4)
        assert half[key].dtype == jnp.bfloat16 or values.ndim == 0
        close(half[key].astype(jnp.float32), values, 0.2)

    keys = jax.random.split(jax.random.key(3), 2)

    def draw(key):
        return model.init(key, jnp.zeros_like(x[:1]), method="embed")["params"]

    several = jax.vmap(draw)(keys)
    jax.tree.map(lambda a, b: close(a[1], b, 1e-6), several, draw(keys[1]))


def test_lengths_of_audio_are_masked(embedded_clip):
    """Oracle: each clip by itself, from the waveform on, through decibels below the clip's maximum."""
    clips = [np.tile(clip, 8) for clip in embedded_clip][:3]
    model, variables = small("music_tagger_crnn")
    longest = max(map(len, clips))
    audio = np.random.default_rng(0).normal(size=(len(clips), longest)).astype(np.float32)  # padding is noise
    for row, clip in enumerate(clips):
        audio[row, : len(clip)] = clip
    together = model.apply(variables, jnp.asarray(audio), length=jnp.array([len(clip) for clip in clips]))
    for row, clip in enumerate(clips):
        alone = model.apply(variables, jnp.asarray(clip)[None])
        close(together["logits"][row : row + 1], alone["logits"])


@pytest.mark.parametrize("name", NAMES)
def test_receptive_field(name):
    """Oracle: the network itself: what lies outside a map's receptive field, as geometry tells it, does not move it."""
    model, variables = small(name)
    field = geometry.receptive_field(model.windows)
    if (
        model.fixed
        or np.isinf(field)
        or "embedding" not in outputs(model, variables, inputs(model, 1, lengths(model)[0]))
    ):
        return
    stride, steps = geometry.stride(model.windows), int(lengths(model)[1] + 2 * field)
    x = np.array(inputs(model, 1, steps))
    name_of_last = model.feature_layers[-1]

    def last(x):
        _, state = model.apply(variables, jnp.asarray(x), method="embed", mutable=["maps", "features"])
        found = {path[-1].key: leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state["maps"])}
        return np.asarray(found[name_of_last][0])

    before = last(x)
    place = steps // 2
    x[0, place] += 5
    moved = np.abs(last(x) - before).reshape(len(before), -1).max(axis=1) > 1e-6 * np.abs(before).max()
    assert moved.any()
    touched = np.flatnonzero(moved)
    # One step reaches the outputs whose fields hold it; a maximum may hide it from some at the rim, not from most.
    assert (field / stride) / 2 <= touched[-1] - touched[0] + 1 <= -(-int(field) // stride) + 1


def test_num_samples_and_real_steps_by_the_representation():
    """Oracle: `representation.shape` of every number of samples, for several representations."""
    from mirjax.signal.presets import preset

    for name in ("vggish", "onset_rnn", "deep_chroma", "elmarc"):
        representation = preset(name).representation
        hop = representation.hop_length
        for samples in (1, hop - 1, hop, hop + 1, 2 * hop, 2 * hop + 1, 5 * hop + 3, 7 * hop):
            try:
                frames = representation.shape(samples)[0]
            except ValueError:
                frames = 0
            assert int(taggers.real_steps(representation, jnp.array([samples]))[0]) == frames
        for frames in (1, 2, 7):
            least = taggers.num_samples(representation, frames)
            assert representation.shape(least)[0] >= frames
            assert least == 1 or _frames(representation, least - 1) < frames


def _frames(representation, samples):
    try:
        return representation.shape(samples)[0]
    except ValueError:
        return 0


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (jnp.array([1, 13]), r"steps=\[1, 13\] must lie from 1 to 12"),
        (jnp.array([0, 12]), "must lie from 1 to 12"),
        (jnp.array([12]), r"steps is int32\[1\] and must be whole numbers \[2\]"),
        (jnp.array([1.0, 2.0]), "must be whole numbers"),
        ([1, 2, 3], r"int32\[3\]"),
    ],
)
def test_impossible_lengths_are_refused(steps, message):
    """Oracle: the errors that `Model.embed` promises."""
    model, variables = small("beat_blstm")
    with pytest.raises(ValueError, match=message):
        model.apply(variables, inputs(model, 2, 12), steps=steps, method="embed")
    with pytest.raises(ValueError, match=r"length=.* must lie from 1 to 4410"):
        model.apply(variables, jnp.zeros((2, 4410)), length=jnp.array([1, 4411]))


def test_a_whole_clip_representation_takes_no_lengths():
    """Oracle: the error that `Model.__call__` promises: the source separation's medians reach over the padding."""
    model, variables = small("leglaive")
    with pytest.raises(ValueError, match="TwoStageHPSS hears padding"):
        model.apply(variables, jnp.zeros((1, 16_000)), length=jnp.array([8_000]))
