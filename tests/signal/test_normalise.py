"""Standardisation and whitening against numpy in float64, on the log-mel of a real clip."""

import functools

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest
from jax.test_util import check_grads

from mirjax.signal import normalise


def worst(a, b):
    return np.abs(np.asarray(a) - np.asarray(b)).max() / np.abs(b).max()


@pytest.fixture(scope="module")
def magnitude(golden_inputs):
    """Mel magnitudes f64[T, 24]."""
    bank = librosa.filters.mel(sr=12_000, n_fft=512, n_mels=24, dtype=np.float64)
    return (bank @ np.abs(librosa.stft(golden_inputs["wave12k"].astype(np.float64), n_fft=512, hop_length=256))).T


@pytest.fixture(scope="module")
def decibels(magnitude):
    """Decibels f64[28, 20, 24], far from 0 on average."""
    return librosa.amplitude_to_db(magnitude)[:560].reshape(28, 20, 24)


@pytest.mark.parametrize("x64", [False, True])
def test_statistics_of_a_stream(decibels, x64):
    """Oracle: numpy's mean and standard deviation of all frames at once, in float64."""
    with jax.enable_x64(x64):
        update = jax.jit(normalise.update)
        x = jnp.asarray(decibels, jnp.result_type(float))
        statistics = normalise.init(24)
        for batch in x.reshape(7, 4, 20, 24):
            statistics = update(statistics, batch)
        assert int(statistics.count) == 560
        tolerance = 1e-14 if x64 else 1e-6
        for per_band, axes in ((True, (0, 1)), (False, (0, 1, 2))):
            mean, deviation = normalise.finish(statistics, per_band=per_band)
            assert mean.dtype == x.dtype and mean.shape == ((24,) if per_band else ())
            assert worst(mean, decibels.mean(axes)) < tolerance
            assert worst(deviation, decibels.std(axes)) < tolerance


def test_padding_does_not_count(decibels):
    """Oracle: the real frames alone; a batch of padding changes nothing."""
    x = jnp.asarray(decibels[:4], jnp.float32)
    lengths = np.array([20, 7, 0, 13])
    mask = np.arange(20)[None] < lengths[:, None]
    found = normalise.update(normalise.init(24), jnp.where(mask[..., None], x, 1e9), mask=mask)
    real = decibels[:4][mask]
    mean, deviation = normalise.finish(found)
    assert int(found.count) == 40
    assert worst(mean, real.mean(0)) < 1e-6 and worst(deviation, real.std(0)) < 1e-6
    again = normalise.update(found, x, mask=np.zeros((4, 20), bool))
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()), again, found)))


def test_merge_and_scan(decibels):
    """Oracle: numpy; halves that were fitted apart (on two devices, say), and a scan over batches."""
    x = jnp.asarray(decibels, jnp.float32)
    halves = [normalise.update(normalise.init(24), half) for half in (x[:3], x[3:])]
    scanned, _ = jax.lax.scan(lambda s, batch: (normalise.update(s, batch), None), normalise.init(24), x)
    for statistics in (normalise.merge(*halves), scanned):
        mean, deviation = normalise.finish(statistics)
        assert worst(mean, decibels.mean((0, 1))) < 1e-6
        assert worst(deviation, decibels.std((0, 1))) < 1e-6


def test_float32_is_enough_for_long_streams(decibels):
    """Oracle: float64 closed form of 20,000 repeated batches, 10,000 dB off zero."""
    x = jnp.asarray(decibels[0] + 1e4, jnp.float32)
    run = jax.jit(lambda s: jax.lax.fori_loop(0, 20_000, lambda _, s: normalise.update(s, x), s))
    mean, deviation = normalise.finish(run(normalise.init(24)))
    exact = np.asarray(x, np.float64)
    assert worst(mean, exact.mean(0)) < 1e-6
    assert worst(deviation, exact.std(0)) < 1e-3  # the batch's own mean is rounded to 1e-3 dB at 10,000 dB


@pytest.mark.parametrize("x64", [False, True])
def test_standardise(decibels, x64):
    """Oracle: numpy; scikit-learn's StandardScaler has the same formula."""
    with jax.enable_x64(x64):
        x = jnp.asarray(decibels, jnp.result_type(float))
        tolerance = 1e-14 if x64 else 1e-6
        for axes in ((0, 1), (0, 1, 2)):
            mean, deviation = decibels.mean(axes), decibels.std(axes)
            found = normalise.standardise(x, mean=mean, deviation=deviation)
            assert worst(found, (decibels - mean) / (deviation + 1e-10)) < tolerance
            assert worst(normalise.unstandardise(found, mean=mean, deviation=deviation), decibels) < tolerance
        np.testing.assert_allclose(jax.jit(normalise.standardise)(x, mean=0.0, deviation=2.0), x / 2, rtol=1e-6)


def whiten(magnitude, memory, floor):
    """The recursion as the paper has it, frame by frame in numpy."""
    peak, output = np.zeros(magnitude.shape[-1]), []
    for frame in magnitude:
        peak = np.maximum(np.maximum(frame, floor), memory * peak)
        output.append(frame / peak)
    return np.stack(output)


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize(("relaxation_time", "floor"), [(250.0, 1e-4), (0.5, 1.0)])
def test_whitening(magnitude, relaxation_time, floor, x64):
    """Oracle: the recursion of Stowell & Plumbley (2007) frame by frame in numpy float64."""
    expected = whiten(magnitude, 0.001 ** (256 / 12_000 / relaxation_time), floor)
    with jax.enable_x64(x64):
        x = jnp.asarray(magnitude, jnp.result_type(float))
        function = functools.partial(
            normalise.adaptive_whitening,
            sample_rate=12_000,
            hop_length=256,
            relaxation_time=relaxation_time,
            floor=floor,
        )
        found, last = function(x, return_state=True)
        error = worst(found, expected)
        assert error < (1e-12 if x64 else 1e-4), error
        assert found.max() <= 1 and found.min() >= 0
        pieces, state = [], None
        for start, stop in ((0, 1), (1, 100), (100, 101), (101, len(x))):
            piece, state = function(x[start:stop], state=state, return_state=True)
            pieces.append(piece)
        np.testing.assert_array_equal(jnp.concatenate(pieces), found)
        np.testing.assert_array_equal(state, last)


def test_whitening_contract(magnitude):
    """Oracle: one item at a time, jit, finite differences, silence."""
    function = functools.partial(normalise.adaptive_whitening, sample_rate=12_000, hop_length=256, relaxation_time=0.2)
    x = jnp.asarray(magnitude[:200].reshape(2, 100, 24), jnp.float32)
    together = function(x)
    np.testing.assert_allclose(together[1], function(x[1]), rtol=1e-6)
    np.testing.assert_allclose(jax.jit(function)(x), together, rtol=1e-6)
    silence = jnp.zeros((5, 3))
    assert (function(silence) == 0).all()
    assert jnp.isfinite(jax.grad(lambda s: function(s).sum())(silence)).all()
    with jax.enable_x64(True):
        check_grads(jax.jit(function), (jnp.asarray(magnitude[40:46, :4]) + 0.1,), order=1, modes=["rev"], rtol=1e-4)


X = jnp.ones((4, 3))
WHITEN = functools.partial(normalise.adaptive_whitening, X, sample_rate=12_000, hop_length=256)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: normalise.init(0), "num_bands=0"),
        (lambda: normalise.update(normalise.init(4), X), "3 bands, the statistics have 4"),
        (lambda: normalise.update(normalise.init(3), X, mask=np.ones(3, bool)), r"mask of shape \(3,\) must be \(4,\)"),
        (lambda: normalise.update(normalise.init(3), X * jnp.nan), "NaN"),
        (lambda: normalise.finish(normalise.init(3)), "0 frames"),
        (lambda: normalise.standardise(X, mean=jnp.zeros(4), deviation=1.0), r"mean of shape \(4,\).*each of 3 bands"),
        (lambda: normalise.standardise(X, mean=0.0, deviation=jnp.ones((4, 3))), r"deviation of shape \(4, 3\)"),
        (lambda: WHITEN(relaxation_time=0), "relaxation_time=0"),
        (lambda: WHITEN(floor=0), "floor=0"),
        (lambda: WHITEN(state=jnp.ones(4)), r"state of shape \(4,\) must be \(3,\)"),
    ],
)
def test_bad_input_is_named(call, message):
    """Oracle: the errors the docstrings promise."""
    with pytest.raises(ValueError, match=message):
        call()
