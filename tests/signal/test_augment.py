"""Augmentation: the deterministic kernels against librosa and scipy, the random ones against their definitions."""

import functools

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest
import scipy.signal
from jax.test_util import check_grads

from mirjax.signal import augment, stft, stretch

RATE = 12_000
KEY = jax.random.key(3)


def worst(a, b):
    return np.abs(np.asarray(a) - b).max() / np.abs(b).max()


@pytest.fixture
def clip(golden_inputs):
    return golden_inputs["wave12k"][30_000:60_000]


def peak_frequency(audio):
    """Frequency of the strongest component, by a parabola through the log-spectrum's peak."""
    spectrum = np.log(np.abs(np.fft.rfft(audio * np.hanning(len(audio)))) + 1e-12)
    k = int(spectrum.argmax())
    left, middle, right = spectrum[k - 1 : k + 2]
    return (k + 0.5 * (left - right) / (left - 2 * middle + right)) * RATE / len(audio)


# ── time and pitch ──


def test_phase_vocoder(clip):
    """Oracle: librosa.phase_vocoder in float64; the same spectrum in, f32 (rates that f32 holds) and f64."""
    spectrum = librosa.stft(clip.astype(np.float64), n_fft=1024)

    def expect(rate):
        values = librosa.phase_vocoder(spectrum, rate=rate, n_fft=1024).T
        return np.pad(values, ((0, 170 - len(values)), (0, 0)))

    for rate in (1.0, 0.75, 1.25):
        single = jnp.asarray(spectrum.T.astype(np.complex64))
        assert worst(stretch.phase_vocoder_by(single, rate, num_frames=170), expect(rate)) <= 2e-5
    with jax.enable_x64(True):
        for rate in (0.75, 1.25, 0.83, 1.1):
            values = stretch.phase_vocoder_by(jnp.asarray(spectrum.T), rate, num_frames=170)
            assert values.dtype == jnp.complex128
            assert worst(values, expect(rate)) <= 1e-8


def test_phase_vocoder_takes_a_rate_for_each_clip(clip):
    """Identity: one clip at a time, also under jit and for two leading axes; a bad traced rate makes its clip NaN."""
    spectrum = stft.stft(jnp.asarray(clip.reshape(2, 3, -1)[..., :2000]), n_fft=256)
    rates = np.array([[0.75, 1.0, 1.25], [0.5, 2.0, 1.5]])
    vocode = functools.partial(stretch.phase_vocoder_by, num_frames=30)
    values = np.asarray(vocode(spectrum, rates))
    for index in np.ndindex(2, 3):
        assert worst(values[index], np.asarray(vocode(spectrum[index], rates[index]))) <= 1e-6
    assert worst(jax.jit(vocode)(spectrum, rates), values) <= 1e-6
    assert worst(vocode(spectrum, 0.75)[0, 0], values[0, 0]) <= 1e-6
    bad = np.asarray(jax.jit(vocode)(spectrum, np.array([[0.0, -1.0, np.nan], [np.inf, 1.0, 1.0]])))
    assert np.isnan(bad.reshape(6, -1)[:4]).all() and np.isfinite(bad.reshape(6, -1)[4:]).all()


def test_a_bad_traced_rate_makes_its_clip_nan(clip):
    """Contract: what cannot be refused under jit is not passed off as audio; the other clips are untouched."""
    clips, rates = jnp.asarray(clip[:2000].reshape(5, 400)), np.array([0.0, -1.0, np.nan, np.inf, 1.0])
    stretched = jax.jit(functools.partial(augment.time_stretch_by, n_fft=128))(clips, rates)
    assert np.isnan(stretched[:4]).all() and np.isfinite(stretched[4]).all()
    shifted = jax.jit(functools.partial(augment.pitch_shift_by, n_fft=128))(clips, np.array([np.nan, 99, -1, 0, 1.0]))
    assert np.isnan(shifted[0]).all() and np.isfinite(shifted[1:]).all()


@pytest.mark.parametrize("rate", [0.75, 1.25])
def test_time_stretch_against_librosa(clip, rate):
    """Oracle: librosa.effects.time_stretch in float64, up to the last frame of the stretched clip."""
    expected = librosa.effects.time_stretch(clip.astype(np.float64), rate=rate)
    length = min(len(clip), len(expected))
    inner = length - (2048 if rate > 1 else 0)
    single = np.asarray(augment.time_stretch_by(jnp.asarray(clip), rate))
    assert worst(single[:inner], expected[:inner]) <= 2e-3
    assert not single[length:].any()
    with jax.enable_x64(True):
        values = augment.time_stretch_by(jnp.asarray(clip, jnp.float64), rate)
        assert worst(values[:inner], expected[:inner]) <= 1e-8


@pytest.mark.parametrize("semitones", [-3.0, 2.5])
def test_pitch_shift_against_librosa(clip, semitones):
    """Oracle: librosa.effects.pitch_shift in float64; magnitudes below the pass bands' edges (filters differ above)."""
    expected = np.abs(librosa.stft(librosa.effects.pitch_shift(clip.astype(np.float64), sr=RATE, n_steps=semitones)))
    shifted = np.asarray(augment.pitch_shift_by(jnp.asarray(clip), semitones, max_semitones=3))
    bins = int(1025 * 0.8 * min(1, 2 ** (semitones / 12)))
    assert worst(np.abs(librosa.stft(shifted))[:bins, 4:-4], expected[:bins, 4:-4]) <= 2e-3
    with jax.enable_x64(True):
        values = augment.pitch_shift_by(jnp.asarray(clip, jnp.float64), semitones, max_semitones=3)
        assert worst(np.abs(librosa.stft(np.asarray(values)))[:bins, 4:-4], expected[:bins, 4:-4]) <= 2e-3


def test_rate_one_and_no_shift_are_identities(clip):
    """Identity: nothing happens to the clip, to its very end; a shift of 0 only loses the top of the band."""
    assert worst(augment.time_stretch_by(jnp.asarray(clip), 1.0), clip) <= 2e-6
    low = scipy.signal.sosfiltfilt(scipy.signal.butter(12, 4000, fs=RATE, output="sos"), clip.astype(np.float64))
    low = low.astype(np.float32)
    shifted = augment.pitch_shift_by(jnp.asarray(low), 0.0, max_semitones=3)
    assert worst(shifted[200:-200], low[200:-200]) <= 1e-4


def test_pure_tones_at_many_rates_in_one_batch():
    """Hand-worked: a tone keeps its frequency when stretched and moves by 2^(s/12) when shifted, within 0.1 %."""
    time = np.arange(30_000) / RATE
    tones = np.stack([np.sin(2 * np.pi * f * time) for f in (220.0, 523.25, 1000.0, 1760.0)]).astype(np.float32)
    rates, shifts = np.array([0.8, 0.93, 1.07, 1.25]), np.array([-3.0, -0.7, 1.3, 3.0])
    stretched = np.asarray(augment.time_stretch_by(tones, rates))
    shifted = np.asarray(augment.pitch_shift_by(tones, shifts, max_semitones=3))
    for i, frequency in enumerate((220.0, 523.25, 1000.0, 1760.0)):
        assert peak_frequency(stretched[i, 3000:22_000]) == pytest.approx(frequency, rel=1e-3)
        assert np.abs(stretched[i, 6000:20_000]).max() == pytest.approx(
            1, abs=0.1
        )  # the vocoder loses some phase between bins
        expected = frequency * 2 ** (shifts[i] / 12)
        assert peak_frequency(shifted[i, 3000:27_000]) == pytest.approx(expected, rel=1e-3)


def test_what_the_new_rate_cannot_hold_is_removed():
    """Hand-worked: 5.6 kHz shifted up three semitones lies above 6 kHz; its alias is 60 dB down."""
    tone = np.sin(2 * np.pi * 5600 * np.arange(30_000) / RATE).astype(np.float32)
    shifted = np.asarray(augment.pitch_shift_by(tone, 3.0, max_semitones=3))
    assert np.abs(shifted[3000:-3000]).max() <= 1e-3


def test_positions_are_exact():
    """Oracle: Python's whole numbers; n · ratio in 32 bits of fraction after hours of audio."""
    n = np.array([0, 1, 12_345, 2**24 + 1, 2**31 - 5], np.uint32)
    for fraction in (0, 1, 2**31, 2**32 - 1, 0x9E3779B9):
        whole, rest = stretch._multiply(jnp.asarray(n), jnp.uint32(fraction))
        for i, product in enumerate(int(v) * fraction for v in n):
            assert (int(whole[i]), int(rest[i])) == (product >> 32, product % 2**32)


@pytest.mark.parametrize("cutoff", [0.94, 0.47])
def test_interpolation_filter(cutoff):
    """Oracle: numpy's sinc and the Blackman window by its formula, f64 and f32."""
    taps, shift = np.arange(-70.0, 72)[None], np.linspace(0, 1, 101)[:, None]
    tau = cutoff * (taps - shift)
    blackman = 0.42 + 0.5 * np.cos(np.pi * tau / 32) + 0.08 * np.cos(2 * np.pi * tau / 32)
    expected = np.where(np.abs(tau) < 32, np.sinc(tau) * blackman, 0)
    single = [jnp.asarray(v, jnp.float32) for v in (cutoff, taps, shift)]
    assert worst(stretch._sinc(*single), expected) <= 1e-6
    with jax.enable_x64(True):
        assert worst(stretch._sinc(*map(jnp.asarray, (cutoff, taps, shift))), expected) <= 1e-14


def test_repeat_fills_with_the_stretched_clip(clip):
    """Hand-worked: sample n ≥ L is sample n mod L; a slower clip has no gap to fill."""
    zero = np.asarray(augment.time_stretch_by(clip, 1.25))
    repeated = np.asarray(augment.time_stretch_by(clip, 1.25, fit="repeat"))
    np.testing.assert_array_equal(repeated, zero[np.arange(30_000) % 24_000])


@pytest.mark.parametrize("function", [augment.time_stretch, augment.pitch_shift])
def test_a_batch_is_one_at_a_time(clip, function):
    """Identity: per_example is bit-equal to a loop; vmap within 1e-6; draws differ from row to row."""
    batch = jnp.asarray(clip.reshape(3, 10_000))
    keys = jax.random.split(KEY, 3)
    single = jnp.stack([function(key, row) for key, row in zip(keys, batch, strict=True)])
    batched = augment.per_example(function)
    np.testing.assert_array_equal(batched(KEY, batch), single)
    assert worst(jax.jit(jax.vmap(function))(keys, batch), np.asarray(single)) <= 1e-6
    same = batched(KEY, jnp.tile(batch[:1], (3, 1)))
    assert np.abs(same[0] - same[1]).max() > 1e-3
    stereo = function(KEY, batch[None, :2])
    assert worst(stereo[0, 1], np.asarray(function(KEY, batch[1]))) <= 1e-6  # channels share the draw


def test_ranges_are_kept(clip):
    """Hand-worked: [1, 1] and [0, 0] leave the clip; the drawn shift lies in its range."""
    assert worst(augment.time_stretch(KEY, clip, low=1.0, high=1.0), clip) <= 2e-6
    tone = np.sin(2 * np.pi * 500 * np.arange(10_000) / RATE).astype(np.float32)
    tones = augment.per_example(functools.partial(augment.pitch_shift, low=-1, high=1))(KEY, jnp.tile(tone, (8, 1)))
    shifts = [12 * np.log2(peak_frequency(np.asarray(t)[1000:-1000]) / 500) for t in tones]
    assert -1.02 <= min(shifts) < -0.1 < 0.1 < max(shifts) <= 1.02
    lower = np.asarray(augment.pitch_shift(KEY, tone, low=-4, high=-1))[1000:-1000]
    assert -4.02 <= 12 * np.log2(peak_frequency(lower) / 500) <= -0.98


# ── level, noise, filters ──


def test_gain_polarity_shift_and_crop(clip):
    """Hand-worked: decibels, signs, rolled samples and parts, over many keys."""
    clip, keys = clip[:2000], jax.random.split(KEY, 64)
    factors = jax.vmap(lambda key: augment.gain(key, clip, low=-20, high=6))(keys)[:, 7] / clip[7]
    decibels = 20 * np.log10(np.asarray(factors))
    assert -20 <= decibels.min() < -15 and 1 < decibels.max() <= 6
    np.testing.assert_allclose(augment.gain_by(np.stack([clip, clip]), np.array([-20, 6.0]))[0], 0.1 * clip, rtol=1e-6)
    signs = {float(augment.polarity(key, clip)[7] / clip[7]) for key in keys[:8]}
    assert signs == {-1.0, 1.0}
    ramp = jnp.arange(1.0, 11)
    starts = {int(augment.time_shift(key, ramp, low=-2, high=3)[0]) for key in keys}
    assert starts == {9, 10, 1, 2, 3, 8}
    parts = np.stack([augment.random_crop(key, ramp, length=8) for key in keys])
    assert set(parts[:, 0]) == {1, 2, 3} and (np.diff(parts) == 1).all()
    assert augment.random_crop(KEY, jnp.zeros((2, 9, 4)), length=5, axis=-2).shape == (2, 5, 4)


@pytest.mark.parametrize("x64", [False, True])
def test_signal_to_noise_ratio_is_exact(clip, x64):
    """Hand-worked: 10 log10 of the energies' ratio, white noise and a recording of another length."""
    with jax.enable_x64(x64):
        audio = jnp.asarray(clip, jnp.float64 if x64 else jnp.float32)
        bound = 1e-9 if x64 else 1e-3
        for recording in (None, audio[:700] * 3, jnp.tile(audio, 2)):
            added = augment.noise(KEY, audio, low=7.0, high=7.0, recording=recording) - audio
            assert 10 * np.log10(float((audio**2).sum() / (added**2).sum())) == pytest.approx(7, abs=bound)
        ratios = jnp.asarray([0.0, 20.0])
        added = augment.add_noise(jnp.stack([audio, audio]), jnp.stack([audio, audio[::-1]]), ratios)
        np.testing.assert_allclose(added[0], 2 * audio, rtol=1e-5, atol=1e-7)
        silent = jnp.zeros(100, audio.dtype)
        for signal, other in ((silent, silent + 1), (silent + 1, silent)):
            np.testing.assert_array_equal(augment.add_noise(signal, other, 10.0), signal)


@pytest.mark.parametrize(("level", "noise_level"), [(1e-22, 1e-22), (1e25, 1e25), (1e-22, 1e25), (1e25, 1e-22)])
def test_noise_at_any_level(clip, level, noise_level):
    """Hand-worked: the ratio holds where the squares leave float32; the gradient stays finite."""
    audio, other = jnp.asarray(clip[:4000] * level), jnp.asarray(clip[4000:8000] * noise_level)
    mixed = np.asarray(augment.add_noise(audio, other, 10.0), np.float64)
    wanted, added = np.asarray(audio, np.float64), mixed - np.asarray(audio, np.float64)
    assert 10 * np.log10((wanted**2).sum() / (added**2).sum()) == pytest.approx(10, abs=1e-3)
    gradient = jax.grad(lambda x: (augment.add_noise(x, other, 10.0) / level).sum())(audio)
    assert np.isfinite(gradient).all()


def test_gaussian_response():
    """Oracle: Schlüter & Grill's formula in numpy: s at μ, s/√e at ± σ semitones, nothing at 0 Hz."""
    frequencies = [0.0, 440.0, 440 * 2**0.5, 440 / 2**0.5, 7000.0]
    values = np.asarray(augment.gaussian_response(frequencies, 440.0, 6.0, -8.0))
    octaves = 12 * np.log2(np.array(frequencies[1:]) / 440)
    np.testing.assert_allclose(values[1:], -8 * np.exp(-0.5 * (octaves / 6) ** 2), atol=1e-5)
    assert values[0] == 0


def test_filters_of_spectrogram_and_waveform_agree(clip):
    """Identity: decibels, power and amplitude are one filter; the waveform's spectrum changes by the same curve."""
    frequencies = np.fft.rfftfreq(1024, 1 / RATE)
    power = stft.spectrogram(jnp.asarray(clip), n_fft=1024, power=2)
    changed = np.asarray(augment.filter_spectrogram(KEY, power, frequencies=frequencies))
    decibels = np.asarray(
        augment.filter_spectrogram(KEY, jnp.zeros((1, 513)), frequencies=frequencies, scale="decibel")
    )
    amplitude = augment.filter_spectrogram(KEY, jnp.sqrt(power), frequencies=frequencies, scale="amplitude")
    assert worst(changed, np.asarray(power) * 10 ** (decibels / 10)) <= 1e-5
    assert worst(np.asarray(amplitude) ** 2, changed) <= 1e-5
    assert 1 < np.abs(decibels).max() <= 10
    filtered = stft.spectrogram(augment.equalise(KEY, clip, sample_rate=RATE), n_fft=1024, power=2)
    assert worst(np.asarray(filtered).mean(axis=0), changed.mean(axis=0)) <= 0.02
    flat = augment.equalise(KEY, clip, sample_rate=RATE, low=0.0, high=0.0)
    assert worst(flat, clip) <= 1e-6


@pytest.mark.parametrize("x64", [False, True])
def test_low_pass(clip, x64):
    """Oracle: scipy.signal.firwin and numpy.convolve in float64, two cut-offs in one batch."""
    cutoffs = np.array([700.0, 3000.0])
    expected = np.stack(
        [np.convolve(clip.astype(float), scipy.signal.firwin(101, c, fs=RATE), mode="same") for c in cutoffs]
    )
    with jax.enable_x64(x64):
        audio = jnp.asarray(np.stack([clip, clip]), jnp.float64 if x64 else jnp.float32)
        values = augment.low_pass_by(audio, cutoffs, sample_rate=RATE, num_taps=101)
        assert worst(values, expected) <= (1e-12 if x64 else 2e-6)
        drawn = augment.low_pass(KEY, audio[0], sample_rate=RATE, low=500, high=500, num_taps=101)
        assert drawn.shape == clip.shape


@pytest.mark.parametrize("samples", [1, 50, 110, 400])
def test_low_pass_of_short_clips(clip, samples):
    """Oracle: scipy.signal.firwin and numpy.convolve in float64; the filter may be longer than the clip."""
    audio = clip[5000 : 5000 + samples]
    taps = scipy.signal.firwin(255, 900.0, fs=RATE)
    expected = np.convolve(audio.astype(float), taps)[127 : 127 + samples]
    assert worst(augment.low_pass_by(audio, 900.0, sample_rate=RATE), expected) <= 2e-6


def test_cut_offs_stay_below_nyquist(clip):
    """Hand-worked: at half the sample rate all passes, for rates whose exp(log) rounds up; traced ones are limited."""
    audio = clip[:300]
    rates = np.arange(8000.0, 9000)
    above = rates[np.exp(np.log(rates / 2, dtype=np.float32)) > rates / 2]
    for rate in (above[0], 16_000.0, 44_100.1):
        assert worst(augment.low_pass(KEY, audio, sample_rate=rate, low=rate / 2), audio) <= 1e-5
    traced = jax.jit(functools.partial(augment.low_pass_by, sample_rate=RATE))
    assert worst(traced(audio, 9000.0), audio) <= 1e-5
    drawn = functools.partial(augment.low_pass, sample_rate=RATE, low=1000.0, high=7000.0)
    for function in (drawn, jax.jit(drawn)):
        with pytest.raises(ValueError, match="high=7000 Hz lies above half the sample rate, 6000 Hz; lower it"):
            function(KEY, audio)


# ── mixtures and masks ──


def test_mixup():
    """Hand-worked: audio and labels mix by one λ a row, with a partner of the batch; λ ~ Beta(α, α)."""
    rows = np.eye(64, dtype=np.float32)
    audio, labels = augment.mixup(KEY, (jnp.asarray(rows), jnp.asarray(2 * rows)), alpha=0.4)
    np.testing.assert_allclose(2 * audio, labels, atol=1e-6)
    np.testing.assert_allclose(np.asarray(audio).sum(axis=1), 1, atol=1e-6)
    assert ((np.asarray(audio) > 0).sum(axis=1) <= 2).all()
    draws = jax.vmap(lambda key: augment.mixup(key, jnp.asarray([[0.0], [1.0]]), alpha=2.0))(jax.random.split(KEY, 500))
    mixed = np.asarray(draws)[:, 0, 0]
    mixed = mixed[(mixed > 0) & (mixed < 1)]
    assert mixed.mean() == pytest.approx(0.5, abs=0.06)
    assert mixed.var() == pytest.approx(1 / (4 * (2 * 2 + 1)), abs=0.015)


def test_spec_augment():
    """Hand-worked: only whole frames and whole bins are hidden, no more than asked for, all widths and places occur."""
    spectrogram = jnp.arange(1.0, 40 * 20 + 1).reshape(40, 20)

    def cover(key, **settings):
        return augment.spec_augment(key, spectrogram, time_width=9, frequency_width=5, fill=0.0, **settings) == 0

    hidden = np.asarray(jax.vmap(cover)(jax.random.split(KEY, 200)))
    frames, bins = hidden.all(axis=2), hidden.all(axis=1)
    np.testing.assert_array_equal(hidden, frames[:, :, None] | bins[:, None])
    assert frames.sum(axis=1).max() <= 18 and bins.sum(axis=1).max() <= 10
    assert frames.any(axis=0).all() and bins.any(axis=0).all()
    one = functools.partial(cover, num_time_masks=1, num_frequency_masks=0, max_time_fraction=0.1)
    widths = np.asarray(jax.vmap(one)(jax.random.split(KEY, 200))).all(axis=2).sum(axis=1)
    assert set(widths) == {0, 1, 2, 3, 4}
    known = functools.partial(augment.spec_augment, time_width=9, frequency_width=5)
    for function in (known, jax.jit(known)):
        np.testing.assert_array_equal(function(KEY, spectrogram, fill=jnp.float32(0)) == 0, cover(KEY))
    mean = augment.spec_augment(KEY, spectrogram[None], time_width=9, frequency_width=5)
    assert set(np.unique(np.asarray(mean)[0][np.asarray(cover(KEY))])) == {400.5}


def test_compose_splits_keys(clip):
    """Identity: the parts by hand with the split keys; per example = one at a time; keys decide alone."""
    both = augment.compose(augment.gain, functools.partial(augment.noise, low=5, high=5))
    first, second = jax.random.split(KEY)
    by_hand = augment.noise(second, augment.gain(first, clip), low=5, high=5)
    np.testing.assert_array_equal(both(KEY, clip), by_hand)
    batch = jnp.asarray(clip.reshape(3, -1))
    rows = [both(key, row) for key, row in zip(jax.random.split(KEY, 3), batch, strict=True)]
    assert worst(augment.per_example(both)(KEY, batch), np.stack(rows)) <= 1e-6
    np.testing.assert_array_equal(augment.compose()(KEY, clip), clip)


# ── gradients and bad input ──

SMALL = {"n_fft": 256}
DIFFERENTIABLE = {
    "time_stretch": functools.partial(augment.time_stretch, **SMALL),
    "pitch_shift": functools.partial(augment.pitch_shift, **SMALL),
    "gain": augment.gain,
    "noise": augment.noise,
    "equalise": functools.partial(augment.equalise, sample_rate=RATE),
    "low_pass": functools.partial(augment.low_pass, sample_rate=RATE),
    "time_shift": augment.time_shift,
}


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients(clip, name):
    """Oracle: finite differences in float64; finite at silence in float32."""
    function = DIFFERENTIABLE[name]

    def loss(audio):
        return (function(KEY, audio) ** 2).sum()

    gradient = jax.jit(jax.grad(loss))
    assert np.isfinite(gradient(jnp.zeros(1000))).all()
    assert np.isfinite(gradient(jnp.asarray(clip[5000:6000]).at[:300].set(0))).all()
    with jax.enable_x64(True):
        audio = jnp.asarray(clip[5000:6000], jnp.float64)
        check_grads(lambda a: function(KEY, a), (audio,), order=1, modes=["rev"], eps=1e-7, atol=1e-3, rtol=1e-3)


def spectrum_at(rate):
    return stretch.phase_vocoder_by(np.ones((2, 5, 9), np.complex64), rate, num_frames=3)


@pytest.mark.parametrize(
    ("function", "values"), [(augment.time_stretch_by, (0.83, 1.37)), (augment.pitch_shift_by, (-2.2, 1.3))]
)
def test_gradients_of_rates_and_shifts(clip, function, values):
    """Oracle: central differences in float64 of what is drawn, between two jumps of the phases."""
    weights = np.random.default_rng(0).standard_normal(1500)
    with jax.enable_x64(True):
        audio = clip[:1500].astype(np.float64)
        loss = jax.jit(lambda value: (weights * function(audio, value, n_fft=256)).sum())
        gradient = jax.jit(jax.grad(loss))
        for value in values:
            expected = (loss(value + 1e-5) - loss(value - 1e-5)) / 2e-5
            assert float(gradient(value)) == pytest.approx(float(expected), rel=0.01)


def test_lists_are_arrays(clip):
    """Identity: lists of numbers in place of arrays."""
    audio, other = clip[:200], clip[200:400]
    short = {"n_fft": 64}
    for function in (
        lambda x, y: augment.time_stretch_by(x, 1.1, **short),
        lambda x, y: augment.pitch_shift_by(x, 1.0, **short),
        lambda x, y: augment.add_noise(x, y, 3.0),
        lambda x, y: augment.noise(KEY, x, recording=y),
        lambda x, y: augment.gain_by([x, y], [1, 2.0]),
        lambda x, y: augment.random_crop(KEY, x, length=9),
        lambda x, y: augment.time_shift(KEY, x),
        lambda x, y: augment.low_pass_by(x, 900, sample_rate=RATE),
    ):
        np.testing.assert_allclose(function(audio.tolist(), other.tolist()), function(audio, other), atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: augment.time_stretch_by(x, 0.0), "rate=0.0 must be finite above 0"),
        (lambda x: augment.time_stretch_by(x, 1e-60), "rate=1e-60 must be finite above 0"),
        (lambda x: augment.time_stretch_by(x, True), "rate=True is bool; give real numbers"),
        (lambda x: augment.time_stretch_by(x, None), "rate=None is object; give real numbers"),
        (lambda x: augment.time_stretch_by(x, np.ones(3)), r"rate of shape \(3,\)"),
        (lambda x: spectrum_at(0.0), "rate=0.0 must be finite above 0"),
        (lambda x: spectrum_at(-1), "rate=-1 must be finite above 0"),
        (lambda x: spectrum_at(np.nan), "rate=nan must be finite above 0"),
        (
            lambda x: spectrum_at([1.0, 1.0, 2.0]),
            r"rate of shape \(3,\) must be .* each clip \(2,\)",
        ),
        (lambda x: stretch.phase_vocoder_by(x[None], 1.0, num_frames=3), "float32; a complex one is needed"),
        (lambda x: stretch.phase_vocoder_by([[1.0, 2.0]], 1.0, num_frames=3), "a complex one is needed"),
        (lambda x: stretch.phase_vocoder_by(x + 0j, 1.0, num_frames=3), r"spectrum of shape \(50,\)"),
        (lambda x: stretch.phase_vocoder_by(x[None] * (np.nan + 0j), 1.0, num_frames=3), "NaN or infinity"),
        (lambda x: augment.time_stretch_by(x, 1.0, fit="cut"), "fit='cut' is unknown"),
        (lambda x: augment.time_stretch_by(x, 1.0, hop_length=0), "hop_length=0"),
        (lambda x: augment.time_stretch(KEY, x, low=0.0), "rate from 0 to 1.25"),
        (lambda x: augment.time_stretch(KEY, x, low=1.3), "low <= high"),
        (lambda x: augment.pitch_shift_by(x, 13.0), "semitones=13.0 must be finite and at most 12"),
        (lambda x: augment.pitch_shift_by(x, 1.0, max_semitones="3"), "max_semitones='3'"),
        (lambda x: augment.pitch_shift(KEY, x, low=np.nan), "finite numbers"),
        (lambda x: augment.time_shift(KEY, x, low=0.5, high=0.9), "low=0.5 must be a whole number"),
        (lambda x: augment.time_shift(KEY, x, high=2**40), "high=1099511627776 must be a whole number"),
        (lambda x: augment.time_shift(KEY, x, low=60), "low <= high"),
        (lambda x: augment.gain(KEY, x.astype(int)), "divide integer samples"),
        (lambda x: augment.gain(KEY, x * np.nan), "NaN or infinity"),
        (lambda x: augment.noise(KEY, x, recording=np.ones((2, 9), np.float32)), "one clip of noise"),
        (lambda x: augment.add_noise(x, x[:5], 3.0), "must have the shape of the audio"),
        (lambda x: augment.low_pass_by(x, 7000.0, sample_rate=RATE), "at most 6000"),
        (lambda x: augment.low_pass_by(x, 700.0, sample_rate=RATE, num_taps=100), "num_taps=100 must be odd"),
        (lambda x: augment.low_pass(KEY, x, sample_rate=RATE, low=9000), "cutoff in hertz from 9000 to 6000"),
        (lambda x: augment.equalise(KEY, x, sample_rate=0), "sample_rate=0"),
        (lambda x: augment.random_crop(KEY, x, length=99), "length=99 exceeds the 50 steps"),
        (lambda x: augment.random_crop(KEY, x[0], length=1), "axis=-1 is not an axis of x"),
        (
            lambda x: augment.random_crop(KEY, x, length=1, axis=1),
            r"axis=1 is not .* shape is \(50,\)",
        ),
        (lambda x: augment.random_crop(KEY, x, length=1, axis=0.0), "axis=0.0 is not an axis"),
        (lambda x: augment.mixup(KEY, ()), "batch must hold arrays"),
        (lambda x: augment.per_example(augment.gain)(KEY, ()), "batch must hold arrays"),
        (lambda x: augment.per_example(augment.gain)(KEY, 1.0), "batch must hold arrays"),
        (lambda x: augment.mixup(KEY, x.astype(int)), "floating-point numbers are needed"),
        (lambda x: augment.mixup(KEY, (x, x[:3])), "same number of rows"),
        (lambda x: augment.mixup(KEY, x, alpha=0), "alpha=0"),
        (lambda x: augment.spec_augment(KEY, x), "at least 2 axes"),
        (lambda x: augment.spec_augment(KEY, x[None], max_time_fraction=2), "between 0 and 1"),
        (lambda x: augment.spec_augment(KEY, x[None], fill=np.nan), "fill=nan must be a finite number"),
        (lambda x: augment.spec_augment(KEY, x[None], fill=jnp.inf), "fill=inf must be a finite number"),
        (lambda x: augment.spec_augment(KEY, x[None], fill=x), "must be a finite number, or None"),
        (lambda x: augment.filter_spectrogram(KEY, x[None], frequencies=[1.0]), "must name the 50 bins"),
        (lambda x: augment.filter_spectrogram(KEY, x[None], frequencies=x, scale="db"), "scale='db' is unknown"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.linspace(0.1, 1, 50, dtype=np.float32))
