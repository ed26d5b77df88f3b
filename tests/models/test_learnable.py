"""Learnable front-ends against their formulas in numpy float64, and the exact transforms they begin at."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.test_util import check_grads

from mirjax.models import blocks, learnable
from mirjax.signal import mel, stft

KEY = jax.random.key(0)
LEAF = learnable.Leaf(num_filters=6, length=101, stride=40, sample_rate=12_000)
SINC = learnable.SincNet(num_filters=8, length=51, widths=(6,), sample_rate=12_000)
STFT = learnable.LearnableSTFT(n_fft=128, hop_length=48, win_length=100)
MEL = learnable.LearnableMel(12_000, n_fft=128, n_mels=12)
CHAIN = blocks.Chain((STFT, MEL, learnable.LogLearn()), features=("log_learn",))
SPECTROGRAM = {"log_learn": learnable.LogLearn(), "spcen": learnable.SPCEN(), "mel": MEL}
WAVEFORM = {"leaf": LEAF, "sinc": SINC, "stft": STFT, "chain": CHAIN}


def worst(a, b):
    return np.abs(np.asarray(a) - b).max() / np.abs(b).max()


@pytest.fixture
def clips(embedded_clip):
    return np.stack([clip[:1500] for clip in embedded_clip[:3]])


def some_input(name, clips):
    if name in WAVEFORM:
        return WAVEFORM[name], jnp.asarray(clips)
    return SPECTROGRAM[name], stft.spectrogram(jnp.asarray(clips), n_fft=128, power=2)


def shapes_of(module, shape):
    return jax.eval_shape(module.init, KEY, jax.ShapeDtypeStruct(shape, jnp.float32))["params"]


def count(tree):
    return sum(np.prod(leaf.shape, dtype=int) for leaf in jax.tree.leaves(tree))


# ── counts and initial values ──


def test_parameter_counts():
    """Oracle: ARCHITECTURES §7.3 and §7.3b; SincNet's convolutions and norms and the rest by hand."""
    assert count(shapes_of(learnable.LogLearn(), (1, 9, 5))) == 2
    assert count(shapes_of(learnable.Leaf(num_filters=64), (1, 16_000))) == 448
    assert count(shapes_of(learnable.Leaf(), (1, 16_000))) == 280
    sinc = shapes_of(learnable.SincNet(), (1, 16_000))
    assert count(sinc["filters"]) == 160
    assert count(sinc) == 160 + 2 * 80 + 5 * 80 * 60 + 60 + 2 * 60 + 5 * 60 * 60 + 60 + 2 * 60
    assert count(shapes_of(learnable.LearnableSTFT(n_fft=512), (1, 2000))) == 512 + 512 * 514
    assert count(shapes_of(learnable.LearnableSTFT(n_fft=512, learn_kernels=False), (1, 2000))) == 512
    assert count(shapes_of(learnable.LearnableSTFT(n_fft=512, learn_window=False), (1, 2000))) == 512 * 514
    assert count(shapes_of(learnable.LearnableMel(16_000, n_fft=512, n_mels=40), (1, 9, 257))) == 257 * 40


def test_output_shapes():
    """Hand-worked: LEAF gives ⌈N / 160⌉ frames; SincNet pools (N − 250) thrice by 3 with kernels of 5 between."""
    for samples in (16_000, 16_001, 700):
        shape = jax.eval_shape(
            lambda x: learnable.Leaf().init_with_output(KEY, x)[0], jax.ShapeDtypeStruct((2, samples), jnp.float32)
        ).shape
        assert shape == (2, -(-samples // 160), 40)
    net = learnable.SincNet()
    for samples in (net.least_samples, 16_000):
        steps = (((samples - 250) // 3 - 4) // 3 - 4) // 3
        shape = jax.eval_shape(
            lambda x: net.init_with_output(KEY, x)[0], jax.ShapeDtypeStruct((2, samples), jnp.float32)
        ).shape
        assert shape == (2, steps, 60)
    assert net.stride == 27


def test_log_learn(clips):
    """Oracle: ARCHITECTURES §7.3: ln(α x + β), α 1096.633158, β 1.313262."""
    module, x = some_input("log_learn", clips)
    y, variables = module.init_with_output(KEY, x)
    assert worst(y, np.log(1096.633158 * np.asarray(x, np.float64) + 1.313262)) <= 1e-6
    moved = {"params": {"a": jnp.float32(2.0), "b": jnp.float32(-3.0)}}
    expected = np.log(np.exp(2.0) * np.asarray(x, np.float64) + np.log1p(np.exp(-3.0)))
    assert worst(module.apply(moved, x), expected) <= 1e-6
    assert set(variables["params"]) == {"a", "b"}


def sinc_kernel(low, band, length, rate):
    """The filters in hertz, written out."""
    lower = np.minimum(50 + np.abs(low) * rate, rate / 2 - 50)
    upper = np.minimum(lower + 50 + np.abs(band) * rate, rate / 2)
    n = np.arange(length) - (length - 1) / 2
    time = 2 * np.pi * np.where(n == 0, 1, n)[:, None] / rate
    ideal = np.where(n[:, None] == 0, 2 * (upper - lower), 2 * (np.sin(upper * time) - np.sin(lower * time)) / time)
    hamming = 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(length) / (length - 1))
    return ideal / (2 * (upper - lower)) * hamming[:, None], lower, upper


def test_sinc_filters():
    """Oracle: the formula in numpy; the initial bands meet at equal distances in mel; the response is a pass band."""
    module = learnable.SincFilters()
    kernel, variables = module.init_with_output(KEY)
    points = 700 * (10 ** (np.linspace(*(2595 * np.log10(1 + np.array([30, 7900]) / 700)), 81) / 2595) - 1)
    np.testing.assert_allclose(variables["params"]["low"] * 16_000, points[:-1], rtol=1e-5)
    np.testing.assert_allclose(variables["params"]["band"] * 16_000, np.diff(points), rtol=1e-5)
    expected, lower, upper = sinc_kernel(points[:-1] / 16_000, np.diff(points) / 16_000, 251, 16_000)
    assert worst(kernel[:, 0], expected) <= 2e-5
    response = np.abs(np.fft.rfft(np.asarray(kernel[:, 0, 60]), 16_000))
    inside = response[int(lower[60]) + 60 : int(upper[60]) - 60]
    assert inside.min() > 0.9 * response.max()
    assert response[int(upper[60]) + 120 :].max() < 0.01 * response.max()


def test_parameters_stay_in_range():
    """Hand-worked: whatever the optimiser does, 50 Hz ≤ f₁ < f₂ ≤ Nyquist, and every map stays finite."""
    module = learnable.SincFilters(num_filters=4)
    wild = {"params": {"low": jnp.asarray([-0.3, 0.0, 7.0, 0.49]), "band": jnp.asarray([0.1, 0.0, -3.0, 0.4])}}
    lower, upper = module.apply(wild, method="edges")
    assert (np.asarray(lower) >= 50 / 16_000).all() and (np.asarray(upper) <= 0.5).all()
    assert (np.asarray(upper - lower) >= 0.999 * 50 / 16_000).all()
    np.testing.assert_allclose(lower[:2], [0.3 + 50 / 16_000, 50 / 16_000], rtol=1e-6)
    assert np.isfinite(module.apply(wild)).all()
    x = jnp.linspace(-1, 1, 600)[None]
    for scale in (-50.0, 0.0, 50.0):
        for model in (LEAF, SINC):
            variables = jax.tree.map(lambda v: jnp.full_like(v, scale), model.init(KEY, x))  # noqa: B023
            assert np.isfinite(model.apply(variables, x)).all()
            gradient = jax.grad(lambda v: model.apply(v, x).sum())(variables)  # noqa: B023
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_gabor_begins_as_mel():
    """Oracle: the released recipe (peak and half-amplitude width of √mel filters) on a grid fine enough to be exact."""
    variables = learnable.GaborFilters(num_filters=64).init(KEY)["params"]
    grid = np.arange(2**17 + 1) * (8000 / 2**17)
    warp = 2595 * np.log10(1 + grid / 700)
    edges = np.linspace(*(2595 * np.log10(1 + np.array([60, 7800]) / 700)), 66)
    hertz = 700 * (10 ** (edges / 2595) - 1)
    for i in (0, 20, 63):
        rise, fall = (
            (grid - hertz[i]) / (hertz[i + 1] - hertz[i]),
            (hertz[i + 2] - grid) / (hertz[i + 2] - hertz[i + 1]),
        )
        triangle = np.sqrt(np.maximum(0, np.minimum(rise, fall)))
        bins = (triangle >= triangle.max() / 2).sum()
        sigma = np.sqrt(2 * np.log(2)) * 2**18 / (np.pi * bins)
        assert variables["centre"][i] == pytest.approx(np.pi * triangle.argmax() / 2**17, rel=1e-3)
        assert variables["width"][i] == pytest.approx(sigma, rel=2e-3)
    assert (np.diff(warp[np.searchsorted(grid, np.asarray(variables["centre"]) * 8000 / np.pi)]) > 0).all()


def leaf_by_hand(params, audio, length, stride, least):
    """The equations of LEAF, loop by loop, in float64."""
    params = jax.tree.map(lambda v: np.asarray(v, np.float64), params)
    half = length // 2
    n = np.arange(-half, half + 1)
    frames = -(-len(audio) // stride)
    surplus = max((frames - 1) * stride + length - len(audio), 0)
    channels = []
    for centre, width, sigma in zip(
        params["filters"]["centre"], params["filters"]["width"], params["low_pass"], strict=True
    ):
        filt = np.exp(1j * centre * n) * np.exp(-(n**2) / (2 * width**2)) / (np.sqrt(2 * np.pi) * width)
        energy = np.abs(np.convolve(audio, filt[::-1], mode="full")[half : half + len(audio)]) ** 2
        energy = np.pad(energy, (surplus // 2, surplus - surplus // 2))
        low_pass = np.exp(-0.5 * ((np.arange(length) - 0.5 * (length - 1)) / (sigma * 0.5 * (length - 1))) ** 2)
        channels.append([energy[t * stride : t * stride + length] @ low_pass for t in range(frames)])
    return np.maximum(np.array(channels).T, least)


def spcen_by_hand(params, energy):
    alpha, delta, root, smooth = (np.asarray(params[k], np.float64) for k in ("alpha", "delta", "root", "smooth"))
    output, state = [], energy[0]
    for row in energy:
        state = (1 - smooth) * state + smooth * row
        output.append((row / (1e-12 + state) ** alpha + delta) ** (1 / root) - delta ** (1 / root))
    return np.array(output)


@pytest.mark.parametrize("x64", [False, True])
def test_leaf(clips, x64):
    """Oracle: LEAF's equations in numpy float64, loop by loop, at parameters that are not the initial ones."""
    with jax.enable_x64(x64):
        audio = jnp.asarray(clips, jnp.float64 if x64 else jnp.float32)
        params = LEAF.init(KEY, audio)["params"]
        params["low_pass"] = params["low_pass"] * jnp.linspace(0.2, 1.2, 6)
        params["spcen"] = jax.tree.map(lambda v: v * jnp.linspace(0.7, 1.0, 6), params["spcen"])
        params["spcen"]["root"] = jnp.linspace(1.0, 3.0, 6)
        values, sown = jax.jit(lambda p, x: LEAF.apply({"params": p}, x, mutable=["maps"]))(params, audio)
        for i, clip in enumerate(clips.astype(np.float64)):
            energy = leaf_by_hand(params, clip, 101, 40, 1e-5)
            bound = 1e-12 if x64 else 3e-6
            assert worst(sown["maps"]["energy"][i], energy) <= bound
            assert worst(values[i], spcen_by_hand(params["spcen"], energy)) <= bound * 10


def test_blocks_of_frames_change_nothing(monkeypatch, clips):
    """Identity: one block of frames or many."""
    variables = {name: module.init(KEY, clips) for name, module in (("leaf", LEAF), ("sinc", SINC))}
    whole = {"leaf": LEAF.apply(variables["leaf"], clips), "sinc": SINC.apply(variables["sinc"], clips)}
    monkeypatch.setattr(learnable.layers, "_BLOCK_BYTES", 1)
    assert worst(LEAF.apply(variables["leaf"], clips), np.asarray(whole["leaf"])) <= 1e-5
    assert worst(SINC.apply(variables["sinc"], clips), np.asarray(whole["sinc"])) <= 1e-5


@pytest.mark.parametrize("x64", [False, True])
def test_spcen(clips, x64):
    """Oracle: the recursion step by step in numpy float64 (M(−1) = E(0))."""
    with jax.enable_x64(x64):
        power = np.asarray(some_input("spcen", clips)[1], np.float64)
        x = jnp.asarray(power, jnp.float64 if x64 else jnp.float32)
        values, variables = learnable.SPCEN().init_with_output(KEY, x)
        expected = np.stack([spcen_by_hand(variables["params"], clip) for clip in power])
        assert worst(values, expected) <= (1e-12 if x64 else 1e-5)


@pytest.mark.parametrize("x64", [False, True])
def test_sinc_net(clips, x64):
    """Oracle: numpy.correlate, maximum, normalisation over time and leaky ReLU, layer by layer in float64."""

    def normalise(maps):
        maps = (maps - maps.mean(axis=0)) / np.sqrt(maps.var(axis=0) + 1e-6)
        return np.where(maps > 0, maps, 0.2 * maps)

    def pool(maps):
        return maps[: len(maps) // 3 * 3].reshape(-1, 3, maps.shape[1]).max(axis=1)

    with jax.enable_x64(x64):
        audio = jnp.asarray(clips, jnp.float64 if x64 else jnp.float32)
        values, variables = SINC.init_with_output(KEY, audio)
        params = jax.tree.map(lambda v: np.asarray(v, np.float64), variables["params"])
    kernel, _, _ = sinc_kernel(params["filters"]["low"], params["filters"]["band"], 51, 12_000)
    for clip, value in zip(clips.astype(np.float64), values, strict=True):
        maps = np.stack([np.correlate(clip, kernel[:, i]) for i in range(8)], axis=1)
        maps = normalise(pool(np.abs(maps)))
        second = params["weights2"]["kernel"]
        maps = sum(maps[k : len(maps) - 4 + k] @ second[k] for k in range(5)) + params["weights2"]["bias"]
        assert worst(value, normalise(pool(maps))) <= (1e-10 if x64 else 2e-5)


# ── exact transforms ──


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        {"n_fft": 128, "hop_length": 48, "win_length": 100, "power": 2.0},
        {"n_fft": 75, "power": 1.0, "center": False, "window": "hamming"},
        {"n_fft": 128, "learn_kernels": False, "pad_mode": "reflect"},
        {"n_fft": 128, "learn_window": False},
    ],
)
def test_stft_begins_exact(clips, settings, x64):
    """Oracle: `stft.spectrogram`, itself held against librosa."""
    known = {k: v for k, v in settings.items() if not k.startswith("learn")}
    with jax.enable_x64(x64):
        audio = jnp.asarray(clips, jnp.float64 if x64 else jnp.float32)
        values = learnable.LearnableSTFT(**settings).init_with_output(KEY, audio)[0]
        expected = stft.spectrogram(audio, **{"power": 2.0, **known})
        assert values.dtype == audio.dtype
        assert worst(values, np.asarray(expected)) <= (1e-12 if x64 else 1e-5)


@pytest.mark.parametrize("settings", [{}, {"scale": "htk", "norm": None, "fmin": 300.0, "fmax": 5000.0}])
def test_mel_begins_exact(clips, settings):
    """Oracle: `mel.mel_spectrogram`, itself held against librosa; negative weights count as 0, zeros can grow."""
    module = learnable.LearnableMel(12_000, n_fft=512, n_mels=20, **settings)
    power = stft.spectrogram(jnp.asarray(clips), n_fft=512, power=2)
    values, variables = module.init_with_output(KEY, power)
    expected = mel.mel_spectrogram(jnp.asarray(clips), sample_rate=12_000, n_fft=512, n_mels=20, **settings)
    assert worst(values, np.asarray(expected)) <= 1e-5
    negative = jax.tree.map(lambda v: -v - 1, variables)
    assert not np.asarray(module.apply(negative, power)).any()
    gradient = jax.grad(lambda v: module.apply(v, power).sum())(variables)["params"]["filters"]
    assert (np.asarray(gradient) > 0).all()


def test_chain(clips):
    """Identity: STFT, mel and log-learn one by one."""
    audio = jnp.asarray(clips)
    values, variables = CHAIN.init_with_output(KEY, audio)
    by_hand = mel.mel_spectrogram(
        audio, sample_rate=12_000, n_fft=128, hop_length=48, win_length=100, n_mels=12, window="hann"
    )
    assert worst(values, np.log(np.exp(7) * np.asarray(by_hand, np.float64) + np.log1p(np.e))) <= 1e-5
    assert CHAIN.feature_layers == ("log_learn",)
    assert len(variables["params"]) == 3


# ── all of them ──


@pytest.mark.parametrize("name", [*SPECTROGRAM, *WAVEFORM])
def test_contract(clips, name):
    """Contract: jit = eager, rows independent, maps by name, finite gradients, also at silence."""
    module, x = some_input(name, clips)
    variables = {"params": module.init(KEY, x)["params"]}
    values, sown = module.apply(variables, x, mutable=["maps"])
    assert values.ndim == 3 and values.dtype == jnp.float32
    names = {path[-1].key for path, _ in jax.tree_util.tree_flatten_with_path(sown["maps"])[0]}
    assert set(module.feature_layers) <= names
    assert worst(jax.jit(module.apply)(variables, x), np.asarray(values)) <= 1e-5
    assert worst(module.apply(variables, x[1:2])[0], np.asarray(values[1])) <= 1e-5
    gradients = jax.jit(jax.grad(lambda v, x: (module.apply(v, x) ** 2).mean(), argnums=(0, 1)))
    for audio in (x, jnp.zeros_like(x), x.at[:, :20].set(0)):
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients(variables, audio)))
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradients(variables, x)[0]))


FFT = learnable.LearnableSTFT(n_fft=128, learn_kernels=False)
EVERY = {**SPECTROGRAM, **WAVEFORM, "fft": FFT}


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("name", EVERY)
def test_half_precision_becomes_float32(clips, name, dtype):
    """Identity: the same numbers given as float32."""
    x = some_input(name, clips)[1].astype(dtype) if name != "fft" else jnp.asarray(clips, dtype)
    variables = {"params": EVERY[name].init(KEY, x)["params"]}
    apply = jax.jit(EVERY[name].apply)
    values = apply(variables, x)
    assert values.dtype == jnp.float32
    assert worst(values, np.asarray(apply(variables, x.astype(jnp.float32)))) <= 1e-6


@pytest.mark.parametrize("dtype", [jnp.int16, jnp.complex64, bool])
@pytest.mark.parametrize("name", EVERY)
def test_only_floating_point_numbers(name, dtype):
    """Contract: PCM samples are refused with the remedy, not run through a window that was cast to whole numbers."""
    shape = (1, 9, 65) if name in SPECTROGRAM else (1, 600)
    with pytest.raises(ValueError, match=r"the input of .* is .*; floating-point numbers are needed: "):
        jax.eval_shape(EVERY[name].init, KEY, jax.ShapeDtypeStruct(shape, dtype))


def test_lists_are_arrays():
    """Identity: nested lists in place of an array."""
    x = np.linspace(0.1, 1, 12, dtype=np.float32).reshape(1, 3, 4)
    module = learnable.LogLearn()
    np.testing.assert_allclose(module.init_with_output(KEY, x.tolist())[0], module.init_with_output(KEY, x)[0])


@pytest.mark.parametrize("name", ["log_learn", "spcen", "mel", "leaf", "stft"])
def test_gradients(clips, name):
    """Oracle: finite differences in float64."""
    with jax.enable_x64(True):
        module, x = some_input(name, clips[:1, :500].astype(np.float64) * 10)
        variables = module.init(KEY, x)
        if name == "mel":  # away from the corner at 0
            variables = jax.tree.map(lambda v: v + 1e-3, variables)
        check_grads(lambda v: module.apply(v, x), (variables,), order=1, modes=["rev"], eps=1e-6, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["leaf", "sinc", "chain"])
def test_training_reduces_a_loss(embedded_clip, name):
    """Learning: forty steps on real clips lower the loss by a fifth, and move every weight of the front-end."""
    audio = jnp.asarray(np.stack([clip[:2000] for clip in embedded_clip]))
    labels = jnp.arange(len(audio))

    class Tagger(nn.Module):
        front_end: nn.Module

        @nn.compact
        def __call__(self, x):
            return nn.Dense(len(audio))(nn.relu(nn.Dense(16)(self.front_end(x).mean(axis=1))))

    tagger = Tagger(WAVEFORM[name])
    variables = tagger.init(KEY, audio)
    optimiser = optax.adam(1e-2)

    @jax.jit
    def step(variables, state):
        def loss(variables):
            return optax.softmax_cross_entropy_with_integer_labels(tagger.apply(variables, audio), labels).mean()

        value, gradient = jax.value_and_grad(loss)(variables)
        updates, state = optimiser.update(gradient, state)
        return optax.apply_updates(variables, updates), state, value

    first, state, losses = variables, optimiser.init(variables), []
    for _ in range(40):
        variables, state, value = step(variables, state)
        losses.append(float(value))
    assert losses[-1] < 0.8 * losses[0]
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), first, variables)["params"]["front_end"]
    assert all(change > 0 for change in jax.tree.leaves(moved))


@pytest.mark.parametrize(
    ("module", "shape", "message"),
    [
        (learnable.SincNet(), (1, 300), "SincNet needs waveforms"),
        (learnable.SincNet(), (16_000,), "SincNet needs waveforms"),
        (learnable.SincNet(length=250), (1, 16_000), "length=250 must be odd"),
        (learnable.SincNet(sample_rate=200), (1, 16_000), "leaves no room"),
        (learnable.SincNet(pool=0), (1, 16_000), "pool=0"),
        (learnable.Leaf(), (1, 0), "LEAF needs waveforms"),
        (learnable.Leaf(stride=0), (1, 1000), "stride=0"),
        (learnable.Leaf(length=400), (1, 1000), "length=400 must be odd"),
        (learnable.Leaf(fmax=9000.0), (1, 1000), "fmin < fmax"),
        (learnable.LogLearn(), (9, 5), "log-learn needs a spectrogram"),
        (learnable.SPCEN(), (1, 0, 5), "sPCEN needs a spectrogram"),
        (learnable.LearnableMel(12_000, n_fft=256), (1, 9, 100), "n_fft=256 has 129 bins, the spectrogram 100"),
        (learnable.LearnableMel(12_000, n_fft=128), (1, 9, 65), "n_mels=128"),
        (learnable.LearnableSTFT(n_fft=64, win_length=65), (1, 99), "win_length=65"),
        (learnable.LearnableSTFT(learn_window=False, learn_kernels=False), (1, 99), "nothing to learn"),
        (learnable.LearnableSTFT(n_fft=64, hop_length=0), (1, 99), "hop_length=0"),
    ],
)
def test_bad_input(module, shape, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(module.init, KEY, jax.ShapeDtypeStruct(shape, jnp.float32))
