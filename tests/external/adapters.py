"""librosa's signatures, answered by `mirjax.signal`.

An adapter translates conventions and does no signal processing: `sr` ↔ `sample_rate`, [..., F, T] ↔ [..., T, F],
numpy in and out, integers that librosa takes for numbers, `dtype=` and `out=`, and the warnings that librosa gives
where ours says nothing. What ours does not offer is in `UNSUPPORTED`; such a call goes to librosa and is counted.
"""

import warnings

import numpy as np
from substitution import NothingToDo, Unsupported, adapter, ours

# Everything for which a call is handed back to librosa: the key is what the scorecard counts.
UNSUPPORTED = {
    "pad_mode is a function": "ours names its padding modes",
    "ref is an array": "a reference for every bin; ours takes one an item",
    "pcen of a given reference": "the smoother's input is the spectrogram itself",
    "delta with a constant outside": "ours takes zeros outside",
    "an aggregate of one's own": "ours names its aggregates",
    "onsets of a complex spectrum": "ours compares real numbers; librosa takes complex ones by their real parts",
    "autocorrelation of complex numbers": "ours is of real envelopes",
    "masks turned into audio": "ours returns masks of spectra only",
    "constant Q with a window that has no name": "every filter has its own length",
    "polynomials over frequencies that move": "ours has one fit for all frames",
    "zero crossings of other conventions": "ours has a threshold and the sign of 0",
    "peaks above a reference of one's own": "ours has a share of the frame's maximum",
    "tuning from other transforms": "ours has librosa's default transform",
    "tuning of an empty set": "ours needs at least one frequency",
    "chroma of a spectrogram of odd n_fft": "ours takes spectrograms for those of an even one",
    "resampling by interpolation": "ours resamples with a band-limiting filter only",
}


def unsupported(key):
    """The exception to raise for an entry of `UNSUPPORTED`."""
    assert key in UNSUPPORTED, key
    return Unsupported(key)


def double(array):
    """Numbers as float64 or complex128, in which ours computes here; README.md says why."""
    array = np.asarray(array)
    if array.dtype.kind == "c":
        return array.astype(np.complex128)
    return array.astype(np.float64)


def audio(y):
    """Floating-point audio as float64; anything else as it is, for ours to refuse."""
    y = np.asarray(y)
    return y.astype(np.float64) if y.dtype.kind == "f" else y


def like(source, answer, dtype=None):
    """Our answer in numpy, writable, in librosa's type: `dtype`, or the precision of what went in."""
    answer = np.array(answer)
    if dtype is not None:
        return answer.astype(dtype)
    if np.asarray(source).dtype in (np.float16, np.float32, np.complex64):
        return answer.astype(np.complex64 if np.iscomplexobj(answer) else np.float32)
    return answer


def flip(array):
    """[..., F, T] ↔ [..., T, F]."""
    return np.swapaxes(np.asarray(array), -1, -2)


def into(out, answer, what="output"):
    """`answer`, written into `out` when one is given, as librosa does it."""
    if out is None:
        return answer
    if out.shape[:-1] != answer.shape[:-1] or out.shape[-1] < answer.shape[-1]:
        raise ValueError(f"{what} of shape {out.shape} cannot hold {answer.shape}")
    if np.iscomplexobj(out) != np.iscomplexobj(answer):
        raise ValueError(f"{what} is {out.dtype}; {answer.dtype} is needed")
    part = out if out.shape == answer.shape else out[..., : answer.shape[-1]]
    part[...] = answer
    return part


def named_padding(pad_mode):
    """A padding mode that has a name."""
    if callable(pad_mode):
        raise unsupported("pad_mode is a function")
    return pad_mode


# Short-time Fourier transform


@adapter("core.spectrum.stft", "stft.stft")
def stft(y, n_fft, hop_length, win_length, window, center, dtype, pad_mode, out):
    spectrum = ours("stft.stft")(
        audio(y),
        n_fft=n_fft,
        hop_length=hop_length,
        win_length=win_length,
        window=window,
        center=center,
        pad_mode=named_padding(pad_mode) if center else "constant",
    )
    if center and n_fft > y.shape[-1]:
        warnings.warn(f"n_fft={n_fft} is too large for input signal of length={y.shape[-1]}", stacklevel=3)
    return into(out, like(y, flip(spectrum), dtype))


@adapter("core.spectrum.istft", "stft.istft")
def istft(stft_matrix, hop_length, win_length, n_fft, window, center, dtype, length, out):
    y = ours("stft.istft")(
        flip(double(stft_matrix)) + 0j,
        hop_length=hop_length,
        win_length=win_length,
        n_fft=n_fft,
        window=window,
        center=center,
        length=length,
    )
    y = like(stft_matrix, y, dtype)
    if out is not None and out.shape != y.shape:
        raise ValueError(f"out of shape {out.shape} must be {y.shape}")
    return into(out, y)


@adapter("core.spectrum.phase_vocoder", "stft.phase_vocoder")
def phase_vocoder(D, rate, hop_length, n_fft):
    stretched = ours("stft.phase_vocoder")(flip(double(D)) + 0j, rate=rate, hop_length=hop_length, n_fft=n_fft)
    return like(D, flip(stretched))


def random_key(init, random_state):
    """A PRNG key from librosa's ways to say it, or None for phases of 0."""
    import jax

    if init not in ("random", None):
        raise ValueError(f"init={init!r} must be 'random' or None")
    if random_state is None:
        random_state = np.random.default_rng()
    elif isinstance(random_state, (int, np.integer)):
        random_state = np.random.RandomState(random_state)
    if isinstance(random_state, np.random.RandomState):
        seed = random_state.randint(2**31 - 1)
    elif isinstance(random_state, np.random.Generator):
        seed = random_state.integers(2**31 - 1)
    else:
        raise ValueError(f"random_state={random_state!r} is no seed")
    return jax.random.key(int(seed)) if init == "random" else None


@adapter("core.spectrum.griffinlim", "stft.griffin_lim", compare=False)
def griffinlim(
    S, n_iter, hop_length, win_length, n_fft, window, center, dtype, length, pad_mode, momentum, init, random_state
):
    key = random_key(init, random_state)
    if momentum > 1:
        warnings.warn(f"Griffin-Lim with momentum={momentum} > 1 can be unstable. Proceed with caution!", stacklevel=3)
    y = ours("stft.griffin_lim")(
        flip(double(S)),
        key=key,
        num_iterations=n_iter,
        n_fft=n_fft,
        hop_length=hop_length,
        win_length=win_length,
        window=window,
        center=center,
        pad_mode=named_padding(pad_mode),
        momentum=momentum,
        length=length,
    )
    return like(S, y, dtype)


# Frequency scales and filter banks


@adapter("core.convert.hz_to_mel", "filters.hz_to_mel")
def hz_to_mel(frequencies, htk):
    return ours("filters.hz_to_mel")(frequencies, scale="htk" if htk else "slaney")[()]


@adapter("core.convert.mel_to_hz", "filters.mel_to_hz")
def mel_to_hz(mels, htk):
    return ours("filters.mel_to_hz")(mels, scale="htk" if htk else "slaney")[()]


@adapter("core.convert.mel_frequencies", "filters.hz_to_mel", "filters.mel_to_hz")
def mel_frequencies(n_mels, fmin, fmax, htk):
    low, high = hz_to_mel(fmin, htk), hz_to_mel(fmax, htk)
    return mel_to_hz(np.linspace(low, high, n_mels), htk)


@adapter("core.convert.hz_to_midi", "filters.hz_to_midi")
def hz_to_midi(frequencies):
    return ours("filters.hz_to_midi")(frequencies)[()]


@adapter("core.convert.midi_to_hz", "filters.midi_to_hz")
def midi_to_hz(notes):
    return ours("filters.midi_to_hz")(notes)[()]


@adapter("core.convert.hz_to_octs", "filters.hz_to_octs")
def hz_to_octs(frequencies, tuning, bins_per_octave):
    return ours("filters.hz_to_octs")(frequencies, tuning=tuning, bins_per_octave=bins_per_octave)[()]


@adapter("core.convert.octs_to_hz", "filters.octs_to_hz")
def octs_to_hz(octs, tuning, bins_per_octave):
    return ours("filters.octs_to_hz")(octs, tuning=tuning, bins_per_octave=bins_per_octave)[()]


def mel_bank(sr, n_fft, n_mels=128, fmin=0.0, fmax=None, htk=False, norm="slaney", dtype=None):
    """Our mel bank, f64; librosa warns of empty bands where ours refuses unless told otherwise."""
    bank = ours("filters.mel_filters")(
        sample_rate=sr,
        n_fft=n_fft,
        n_mels=n_mels,
        fmin=fmin,
        fmax=fmax,
        scale="htk" if htk else "slaney",
        norm=norm,
        allow_empty=True,
    )
    if not bank.any(axis=1).all():
        warnings.warn("Empty filters detected in mel frequency basis.", stacklevel=4)
    return bank


@adapter("filters.mel", "filters.mel_filters")
def mel(sr, n_fft, n_mels, fmin, fmax, htk, norm, dtype):
    return np.array(mel_bank(sr, n_fft, n_mels, fmin, fmax, htk, norm), dtype)


# Compressions


def real(S, name):
    """The magnitude of a complex spectrogram, with librosa's warning."""
    if not np.iscomplexobj(S):
        return S
    warnings.warn(f"{name} was called on complex input so phase information will be discarded", stacklevel=4)
    return np.abs(S)


def decibels(function, S, ref, amin, top_db):
    """librosa's `ref` and `top_db` belong to the whole array, so the array is one item here."""
    magnitude = np.asarray(S)
    if ref is np.max:
        ref = "max"
    elif callable(ref):
        ref = ref(magnitude)
    if np.ndim(ref):
        raise unsupported("ref is an array")
    ref = ref if isinstance(ref, str) else float(abs(ref))
    answer = ours(function)(double(magnitude).reshape(1, -1), ref=ref, amin=amin, top_db=top_db)
    return like(S, answer).reshape(magnitude.shape)[()]


@adapter("core.spectrum.power_to_db", "compression.power_to_db")
def power_to_db(S, ref, amin, top_db):
    return decibels("compression.power_to_db", real(np.asarray(S), "power_to_db"), ref, amin, top_db)


@adapter("core.spectrum.amplitude_to_db", "compression.amplitude_to_db")
def amplitude_to_db(S, ref, amin, top_db):
    return decibels("compression.amplitude_to_db", real(np.asarray(S), "amplitude_to_db"), ref, amin, top_db)


@adapter("core.spectrum.db_to_power", "compression.db_to_power")
def db_to_power(S_db, ref):
    return like(S_db, ours("compression.db_to_power")(double(S_db), ref=ref))[()]


@adapter("core.spectrum.db_to_amplitude", "compression.db_to_amplitude")
def db_to_amplitude(S_db, ref):
    return like(S_db, ours("compression.db_to_amplitude")(double(S_db), ref=ref))[()]


@adapter("core.spectrum.pcen", "compression.pcen", "compression.pcen_coefficient")
def pcen(S, sr, hop_length, gain, bias, power, time_constant, eps, b, max_size, ref, axis, max_axis, zi, return_zf):
    if ref is not None:
        raise unsupported("pcen of a given reference")
    S = real(S, "pcen")
    if max_size > 1 and max_axis is None and S.ndim == 2:
        max_axis = 1 - axis % 2
    if max_size > 1 and max_axis is None:
        raise ValueError(f"max_size={max_size} needs max_axis for a spectrogram of {S.ndim} axes")
    if max_axis is None:  # every band is its own item

        def inward(x):
            return np.moveaxis(x, axis, -1)[..., None]

        def outward(x):
            return np.moveaxis(x[..., 0], -1, axis)
    else:

        def inward(x):
            return np.moveaxis(x, (axis, max_axis), (-2, -1))

        def outward(x):
            return np.moveaxis(x, (-2, -1), (axis, max_axis))

    if b is None:
        b = ours("compression.pcen_coefficient")(sample_rate=sr, hop_length=hop_length, time_constant=time_constant)
    energy = inward(double(S))
    state = None
    if zi is not None:
        # scipy's filter delay is (1 − b) times our smoothed energy.
        delay = inward(np.broadcast_to(zi, [1 if i == axis % S.ndim else n for i, n in enumerate(S.shape)]))
        state = delay[..., 0, :] / (1 - b)
    answer, state = ours("compression.pcen")(
        energy,
        sample_rate=sr,
        hop_length=hop_length,
        gain=gain,
        bias=bias,
        power=power,
        time_constant=time_constant,
        eps=eps,
        b=b,
        max_size=max_size,
        state=state,
        return_state=True,
    )
    answer = np.array(outward(np.asarray(answer)))
    if not return_zf:
        return answer
    return answer, np.array(outward(np.asarray((1 - b) * state)[..., None, :]))


# Waveform tools


@adapter("core.audio.resample", "resample.resample")
def resample(y, orig_sr, target_sr, res_type, fix, scale, axis, kwargs):
    if orig_sr == target_sr:
        raise NothingToDo
    if res_type in ("linear", "zero_order_hold"):
        raise unsupported("resampling by interpolation")
    answer = ours("resample.resample")(
        np.moveaxis(audio(y), axis, -1), orig_rate=orig_sr, target_rate=target_sr, scale=scale
    )
    return like(y, np.moveaxis(np.asarray(answer), -1, axis))


# Mel and cepstrum


@adapter("feature.spectral.melspectrogram", "mel.mel_spectrogram", "filters.apply_filters")
def melspectrogram(y, sr, S, n_fft, hop_length, win_length, window, center, pad_mode, power, kwargs):
    kwargs.pop("dtype", None)
    if S is not None:
        S = np.asarray(S)
        bank = mel_bank(sr, fitting(n_fft, S.shape[-2]), **kwargs)
        bands = ours("filters.apply_filters")(flip(double(S)), bank)
        return like(S, flip(bands))
    require(y, "y or S")
    mel_bank(sr, n_fft, **kwargs)  # warns of empty bands
    htk = kwargs.pop("htk", False)
    bands = ours("mel.mel_spectrogram")(
        audio(y),
        sample_rate=sr,
        n_fft=n_fft,
        hop_length=hop_length,
        win_length=win_length,
        window=window,
        center=center,
        pad_mode=named_padding(pad_mode),
        power=power,
        scale="htk" if htk else "slaney",
        allow_empty=True,
        **kwargs,
    )
    return like(y, flip(bands))


@adapter("feature.spectral.mfcc", "cepstral.mfcc", "cepstral.log_mel_to_mfcc")
def mfcc(y, sr, S, n_mfcc, dct_type, norm, lifter, mel_norm, kwargs):
    cepstral = {"n_mfcc": n_mfcc, "dct_type": dct_type, "norm": norm, "lifter": lifter}
    if S is not None:
        return like(S, flip(ours("cepstral.log_mel_to_mfcc")(flip(double(S)), **cepstral)))
    require(y, "y or S")
    htk = kwargs.pop("htk", False)
    kwargs.setdefault("hop_length", 512)
    answer = ours("cepstral.mfcc")(
        audio(y),
        sample_rate=sr,
        mel_norm=mel_norm,
        scale="htk" if htk else "slaney",
        allow_empty=True,
        **cepstral,
        **kwargs,
    )
    return like(y, flip(answer))


@adapter("feature.inverse.mfcc_to_mel", "cepstral.mfcc_to_mel")
def mfcc_to_mel(mfcc, n_mels, dct_type, norm, ref, lifter):
    answer = ours("cepstral.mfcc_to_mel")(
        flip(double(mfcc)), n_mels=n_mels, dct_type=dct_type, norm=norm, ref=ref, lifter=lifter
    )
    return like(mfcc, flip(answer))


def bank_settings(kwargs):
    """librosa's settings of a mel bank in our names."""
    kwargs = dict(kwargs)
    kwargs.pop("dtype", None)
    kwargs.pop("n_mels", None)
    kwargs["scale"] = "htk" if kwargs.pop("htk", False) else "slaney"
    return kwargs | {"allow_empty": True}


@adapter("feature.inverse.mel_to_stft", "mel.mel_to_spectrogram", compare=False)
def mel_to_stft(M, sr, n_fft, power, kwargs):
    answer = ours("mel.mel_to_spectrogram")(
        flip(double(M)), sample_rate=sr, n_fft=n_fft, power=power, **bank_settings(kwargs)
    )
    return like(M, flip(answer))


@adapter("feature.inverse.mel_to_audio", "mel.mel_to_audio", compare=False)
def mel_to_audio(M, sr, n_fft, hop_length, win_length, window, center, pad_mode, power, n_iter, length, dtype, kwargs):
    answer = ours("mel.mel_to_audio")(
        flip(double(M)),
        sample_rate=sr,
        n_fft=n_fft,
        hop_length=hop_length,
        win_length=win_length,
        window=window,
        center=center,
        pad_mode=named_padding(pad_mode),
        power=power,
        num_iterations=n_iter,
        length=length,
        key=random_key("random", None),
        **bank_settings(kwargs),
    )
    return like(M, answer, dtype)


def require(value, names):
    """Refuse a call without any input, as librosa does."""
    if value is None:
        raise ValueError(f"{names} must be given")


@adapter("feature.utils.delta", "cepstral.delta")
def delta(data, width, order, axis, mode, kwargs):
    kwargs.pop("deriv", None)
    if kwargs.pop("cval", 0):
        raise unsupported("delta with a constant outside")
    data = np.atleast_1d(data)
    answer = ours("cepstral.delta")(
        np.moveaxis(double(data), axis, -1)[..., None], width=width, order=order, mode=mode, **kwargs
    )
    return like(data, np.moveaxis(np.asarray(answer)[..., 0], -1, axis))


# Constant Q


def ratios(intervals, bins_per_octave):
    """librosa's names of tunings, as the ratios of one octave; None for equal temperament."""
    import librosa

    if isinstance(intervals, str):
        if intervals == "equal":
            return None
        return tuple(
            librosa.interval_frequencies(
                n_bins=bins_per_octave, fmin=1.0, intervals=intervals, bins_per_octave=bins_per_octave
            )
        )
    return tuple(float(x) for x in intervals)


@adapter("core.convert.cqt_frequencies", "cqt.cqt_frequencies")
def cqt_frequencies(n_bins, fmin, bins_per_octave, tuning):
    return np.array(
        ours("cqt.cqt_frequencies")(n_bins=n_bins, fmin=fmin, bins_per_octave=bins_per_octave, tuning=tuning)
    )


@adapter("filters.wavelet_lengths", "cqt.wavelet_lengths")
def wavelet_lengths(freqs, sr, window, filter_scale, gamma, alpha):
    if np.size(freqs) == 1 and alpha is None:
        raise ValueError("alpha is needed for a single frequency")
    return ours("cqt.wavelet_lengths")(
        freqs,
        sample_rate=sr,
        window=of_any_length(window),
        filter_scale=filter_scale,
        gamma=gamma,
        bandwidths=alpha,
    )


def of_any_length(window):
    """A window that has a name, as one for every length is needed."""
    if not isinstance(window, str | tuple):
        raise unsupported("constant Q with a window that has no name")
    return window


def tuned(y, sr, tuning, bins_per_octave):
    """The tuning asked for, estimated where it is None."""
    if tuning is not None:
        return tuning
    return estimate_tuning(y, sr, None, 2048, 0.01, bins_per_octave, {})


def constant_q(function, y, sr, hop_length, tuning, bins_per_octave, window, pad_mode, dtype, **settings):
    """Any of our transforms; a direct one resamples nothing (`res_type`) and drops nothing (`sparsity`)."""
    answer = ours(function)(
        audio(y),
        sample_rate=sr,
        hop_length=hop_length,
        tuning=tuned(y, sr, tuning, bins_per_octave),
        bins_per_octave=bins_per_octave,
        window=of_any_length(window),
        pad_mode=named_padding(pad_mode),
        **settings,
    )
    return like(y, flip(answer), dtype)


def warn_res_type(res_type):
    """librosa's notice that `res_type=None` goes."""
    if res_type is None:
        text = "Support for VQT with res_type=None is deprecated in librosa 0.10"
        warnings.warn(text, FutureWarning, stacklevel=4)


@adapter("core.constantq.cqt", "cqt.cqt")
def cqt(
    y,
    sr,
    hop_length,
    fmin,
    n_bins,
    bins_per_octave,
    tuning,
    filter_scale,
    norm,
    sparsity,
    window,
    scale,
    pad_mode,
    res_type,
    dtype,
):
    warn_res_type(res_type)
    return constant_q(
        "cqt.cqt",
        y,
        sr,
        hop_length,
        tuning,
        bins_per_octave,
        window,
        pad_mode,
        dtype,
        fmin=fmin,
        n_bins=n_bins,
        filter_scale=filter_scale,
        norm=norm,
        scale=scale,
    )


@adapter("core.constantq.vqt", "cqt.vqt")
def vqt(
    y,
    sr,
    hop_length,
    fmin,
    n_bins,
    intervals,
    gamma,
    bins_per_octave,
    tuning,
    filter_scale,
    norm,
    sparsity,
    window,
    scale,
    pad_mode,
    res_type,
    dtype,
):
    warn_res_type(res_type)
    intervals = ratios(intervals, bins_per_octave)
    return constant_q(
        "cqt.vqt",
        y,
        sr,
        hop_length,
        tuning,
        bins_per_octave if intervals is None else len(intervals),
        window,
        pad_mode,
        dtype,
        fmin=fmin,
        n_bins=n_bins,
        intervals=intervals,
        gamma=gamma,
        filter_scale=filter_scale,
        norm=norm,
        scale=scale,
    )


def magnitude_q(function):
    """pseudo_cqt and hybrid_cqt, which differ in `res_type` alone."""

    def call(
        y,
        sr,
        hop_length,
        fmin,
        n_bins,
        bins_per_octave,
        tuning,
        filter_scale,
        norm,
        sparsity,
        window,
        scale,
        pad_mode,
        dtype,
        res_type=None,
    ):
        answer = constant_q(
            function,
            y,
            sr,
            hop_length,
            tuning,
            bins_per_octave,
            window,
            pad_mode,
            None,
            fmin=fmin,
            n_bins=n_bins,
            filter_scale=filter_scale,
            norm=norm,
            scale=scale,
            sparsity=sparsity,
        )
        return answer if dtype is None else answer.astype(np.empty(0, dtype).real.dtype)

    return call


adapter("core.constantq.pseudo_cqt", "cqt.pseudo_cqt")(magnitude_q("cqt.pseudo_cqt"))
adapter("core.constantq.hybrid_cqt", "cqt.hybrid_cqt")(magnitude_q("cqt.hybrid_cqt"))


@adapter("core.constantq.icqt", "cqt.icqt")
def icqt(
    C,
    sr,
    hop_length,
    fmin,
    bins_per_octave,
    tuning,
    filter_scale,
    norm,
    sparsity,
    window,
    scale,
    length,
    res_type,
    dtype,
):
    y = ours("cqt.icqt")(
        flip(double(C)) + 0j,
        sample_rate=sr,
        hop_length=hop_length,
        fmin=fmin,
        bins_per_octave=bins_per_octave,
        tuning=tuning,
        filter_scale=filter_scale,
        norm=norm,
        window=of_any_length(window),
        scale=scale,
        length=length,
    )
    return like(C, y, dtype)


# Pitch


@adapter("core.pitch.pitch_tuning", "tuning.pitch_tuning")
def pitch_tuning(frequencies, resolution, bins_per_octave):
    frequencies = np.atleast_1d(double(frequencies))
    if not (frequencies > 0).any():
        warnings.warn("Trying to estimate tuning from empty frequency set.", stacklevel=3)
    if not frequencies.size:
        raise unsupported("tuning of an empty set")
    answer = ours("tuning.pitch_tuning")(frequencies, resolution=resolution, bins_per_octave=bins_per_octave)
    return float(answer)


@adapter("core.pitch.piptrack", "tuning.spectrogram_peaks", "stft.spectrogram")
def piptrack(y, sr, S, n_fft, hop_length, fmin, fmax, threshold, win_length, window, center, pad_mode, ref):
    if ref is not None and ref is not np.max:  # the default is the frame's maximum
        raise unsupported("peaks above a reference of one's own")
    magnitude = magnitudes(y, S, framing(n_fft, hop_length, win_length, window, center, pad_mode))
    peaks = ours("tuning.spectrogram_peaks")(
        magnitude,
        sample_rate=sr,
        n_fft=fitting(n_fft, magnitude.shape[-1]),
        fmin=fmin,
        fmax=fmax,
        threshold=threshold,
    )
    return tuple(like(y if S is None else S, flip(part)) for part in peaks)


@adapter("core.pitch.estimate_tuning", "tuning.spectrogram_tuning", "tuning.estimate_tuning", "stft.spectrogram")
def estimate_tuning(y, sr, S, n_fft, resolution, bins_per_octave, kwargs):
    settings = {"sample_rate": sr, "resolution": resolution, "bins_per_octave": bins_per_octave}
    if not set(kwargs) <= {"fmin", "fmax", "threshold", "hop_length"}:
        raise unsupported("tuning from other transforms")
    if not np.any(y if S is None else S):
        warnings.warn("Trying to estimate tuning from empty frequency set.", stacklevel=3)
    if S is None and np.ndim(y) == 1:
        return float(ours("tuning.estimate_tuning")(audio(y), n_fft=n_fft, **settings, **kwargs))
    magnitude = np.asarray(magnitudes(y, S, {"n_fft": n_fft, "hop_length": kwargs.pop("hop_length", None)}))
    size = magnitude.shape[-1]
    # librosa has one tuning for all channels, ours one for each clip: the channels become frames of one.
    return float(
        ours("tuning.spectrogram_tuning")(magnitude.reshape(-1, size), n_fft=fitting(n_fft, size), **settings, **kwargs)
    )


def magnitudes(y, S, frame):
    """Our spectrogram [..., T, F] of audio, or the one given."""
    if S is not None:
        return flip(double(np.abs(S)))
    require(y, "y or S")
    return ours("stft.spectrogram")(audio(y), **frame)


def fitting(n_fft, size):
    """`n_fft` if a spectrogram of `size` bins can have come of it, else the even one, as librosa does it."""
    return n_fft if n_fft is not None and n_fft // 2 + 1 == size else 2 * (size - 1)


@adapter("core.pitch.yin", "pitch.yin")
def yin(y, fmin, fmax, sr, frame_length, win_length, hop_length, trough_threshold, center, pad_mode):
    from librosa.util.deprecation import Deprecated

    if fmin is None or fmax is None:
        raise ValueError(f"fmin={fmin} and fmax={fmax} must both be given")
    if not isinstance(win_length, Deprecated):
        warnings.warn("The win_length parameter has been deprecated in version 0.11.0", FutureWarning, stacklevel=3)
    if fmin > 0 and frame_length - 1 > sr / fmin >= frame_length // 2:
        warnings.warn("less than two periods of fmin fit into the frame", stacklevel=3)
    f0 = ours("pitch.yin")(
        audio(y),
        fmin=fmin,
        fmax=fmax,
        sample_rate=sr,
        frame_length=frame_length,
        hop_length=hop_length,
        trough_threshold=trough_threshold,
        center=center,
        pad_mode=named_padding(pad_mode),
    )
    return like(y, f0)


# Rhythm

AGGREGATES = {None: "mean", np.mean: "mean", np.median: "median", np.max: "max", np.sum: "sum"}


@adapter("onset.onset_strength", "rhythm.onset_strength", "compression.power_to_db")
def onset_strength(y, sr, S, lag, max_size, ref, detrend, center, feature, aggregate, kwargs):
    if aggregate is False:
        raise ValueError("aggregate=False has no meaning over the whole spectrum")
    if aggregate not in AGGREGATES:
        raise unsupported("an aggregate of one's own")
    n_fft, hop_length = kwargs.pop("n_fft", 2048), kwargs.pop("hop_length", 512)
    if S is None:
        if feature is None:
            require(y, "y or S")
            feature = mel_of_everything
            kwargs.setdefault("fmax", 0.5 * sr)
        S = np.abs(feature(y=y, sr=sr, n_fft=n_fft, hop_length=hop_length, **kwargs))
        S = decibels("compression.power_to_db", S, 1.0, 1e-10, 80.0)
    S = np.atleast_2d(S)
    if np.iscomplexobj(S):
        raise unsupported("onsets of a complex spectrum")
    envelope = ours("rhythm.onset_strength")(
        flip(double(S)),
        lag=lag,
        max_size=max_size,
        reference=None if ref is None else flip(double(ref)),
        detrend=detrend,
        center=center,
        n_fft=n_fft,
        hop_length=hop_length,
        aggregate=AGGREGATES[aggregate],
    )
    return like(S, envelope)


def mel_of_everything(y, sr, n_fft, hop_length, **bank):
    """librosa's default feature of onsets."""
    return melspectrogram(y, sr, None, n_fft, hop_length, None, "hann", True, "constant", 2.0, bank)


def envelope_of(y, sr, onset_envelope, hop_length):
    """The onset envelope given, or that of the audio."""
    if onset_envelope is not None:
        return np.asarray(onset_envelope)
    require(y, "y or onset_envelope")
    return onset_strength(y, sr, None, 1, 1, None, False, True, None, None, {"hop_length": hop_length})


@adapter("feature.rhythm.tempogram", "rhythm.tempogram", "rhythm.onset_strength")
def tempogram(y, sr, onset_envelope, hop_length, win_length, center, window, norm):
    envelope = envelope_of(y, sr, onset_envelope, hop_length)
    answer = ours("rhythm.tempogram")(double(envelope), win_length=win_length, center=center, window=window, norm=norm)
    return like(envelope, flip(answer))


@adapter("feature.rhythm.fourier_tempogram", "rhythm.fourier_tempogram", "rhythm.onset_strength")
def fourier_tempogram(y, sr, onset_envelope, hop_length, win_length, center, window):
    envelope = envelope_of(y, sr, onset_envelope, hop_length)
    answer = ours("rhythm.fourier_tempogram")(double(envelope), win_length=win_length, center=center, window=window)
    return like(envelope, flip(answer))


@adapter("core.convert.tempo_frequencies", "rhythm.tempo_frequencies")
def tempo_frequencies(n_bins, hop_length, sr):
    return np.array(ours("rhythm.tempo_frequencies")(n_bins, sample_rate=sr, hop_length=hop_length))


@adapter("core.convert.fourier_tempo_frequencies", "rhythm.fourier_tempo_frequencies")
def fourier_tempo_frequencies(sr, win_length, hop_length):
    return np.array(
        ours("rhythm.fourier_tempo_frequencies")(sample_rate=sr, win_length=win_length, hop_length=hop_length)
    )


@adapter("core.audio.autocorrelate", "rhythm.autocorrelate")
def autocorrelate(y, max_size, axis):
    if np.iscomplexobj(y):
        raise unsupported("autocorrelation of complex numbers")
    answer = ours("rhythm.autocorrelate")(np.moveaxis(double(y), axis, -1), max_size=max_size)
    return like(y, np.moveaxis(np.asarray(answer), -1, axis))


# Harmonic and percussive


def pair(value):
    """librosa takes lists for tuples."""
    return tuple(value) if isinstance(value, list) else value


@adapter("decompose.hpss", "hpss.hpss")
def hpss(S, kernel_size, power, mask, margin):
    parts = ours("hpss.hpss")(
        flip(double(S)), kernel_size=pair(kernel_size), power=power, mask=mask, margin=pair(margin)
    )
    if mask:
        return tuple(like(np.abs(S), flip(part)) for part in parts)
    return tuple(like(S, flip(part)) for part in parts)


@adapter("effects.hpss", "hpss.hpss_audio")
def hpss_audio(y, kernel_size, power, mask, margin, n_fft, hop_length, win_length, window, center, pad_mode):
    if mask:
        raise unsupported("masks turned into audio")
    parts = ours("hpss.hpss_audio")(
        audio(y),
        kernel_size=pair(kernel_size),
        power=power,
        margin=pair(margin),
        n_fft=n_fft,
        hop_length=hop_length,
        win_length=win_length,
        window=window,
        center=center,
        pad_mode=named_padding(pad_mode),
    )
    return tuple(like(y, part) for part in parts)


@adapter("effects.harmonic", "hpss.hpss_audio")
def harmonic(**settings):
    return hpss_audio(**settings)[0]


@adapter("effects.percussive", "hpss.hpss_audio")
def percussive(**settings):
    return hpss_audio(**settings)[1]


# Descriptions of each frame


def described(function, y, S, row=True, frame=None, **settings):
    """Our description of audio, or of a spectrogram, as librosa's [..., rows, T]."""
    if S is None:
        require(y, "y or S")
        frame = dict(frame or {})
        if "pad_mode" in frame:
            frame["pad_mode"] = named_padding(frame["pad_mode"])
        answer = ours(function)(audio(y), **frame, **settings)
    else:
        n_fft = {"n_fft": frame["n_fft"]} if frame and "n_fft" in frame else {}
        answer = ours(function)(spectrogram=flip(double(S)), **n_fft, **settings)
    answer = np.array(answer)
    return answer[..., None, :] if row else np.array(flip(answer))


def bins(freq):
    """Frequencies of the bins, [F] or [F, T] in librosa."""
    return freq if freq is None or np.ndim(freq) < 2 else flip(freq)


def framing(n_fft, hop_length, win_length, window, center, pad_mode):
    """librosa's settings of a transform, whose names are ours."""
    return {
        "n_fft": n_fft,
        "hop_length": hop_length,
        "win_length": win_length,
        "window": window,
        "center": center,
        "pad_mode": pad_mode,
    }


@adapter("feature.spectral.spectral_centroid", "spectral.spectral_centroid")
def spectral_centroid(y, sr, S, n_fft, hop_length, freq, win_length, window, center, pad_mode):
    frame = framing(n_fft, hop_length, win_length, window, center, pad_mode)
    return described("spectral.spectral_centroid", y, S, frame=frame, sample_rate=sr, freq=bins(freq))


@adapter("feature.spectral.spectral_bandwidth", "spectral.spectral_bandwidth")
def spectral_bandwidth(y, sr, S, n_fft, hop_length, win_length, window, center, pad_mode, freq, centroid, norm, p):
    frame = framing(n_fft, hop_length, win_length, window, center, pad_mode)
    centroid = None if centroid is None else np.asarray(centroid)[..., 0, :]
    return described(
        "spectral.spectral_bandwidth",
        y,
        S,
        frame=frame,
        sample_rate=sr,
        freq=bins(freq),
        centroid=centroid,
        norm=norm,
        p=p,
    )


@adapter("feature.spectral.spectral_rolloff", "spectral.spectral_rolloff")
def spectral_rolloff(y, sr, S, n_fft, hop_length, win_length, window, center, pad_mode, freq, roll_percent):
    frame = framing(n_fft, hop_length, win_length, window, center, pad_mode)
    return described(
        "spectral.spectral_rolloff",
        y,
        S,
        frame=frame,
        sample_rate=sr,
        freq=bins(freq),
        roll_percent=roll_percent,
    )


@adapter("feature.spectral.spectral_contrast", "spectral.spectral_contrast")
def spectral_contrast(
    y, sr, S, n_fft, hop_length, win_length, window, center, pad_mode, freq, fmin, n_bands, quantile, linear
):
    frame = framing(n_fft, hop_length, win_length, window, center, pad_mode)
    return described(
        "spectral.spectral_contrast",
        y,
        S,
        row=False,
        frame=frame,
        sample_rate=sr,
        freq=freq,
        fmin=fmin,
        n_bands=n_bands,
        quantile=quantile,
        linear=linear,
    )


@adapter("feature.spectral.spectral_flatness", "spectral.spectral_flatness")
def spectral_flatness(y, S, n_fft, hop_length, win_length, window, center, pad_mode, amin, power):
    frame = framing(n_fft, hop_length, win_length, window, center, pad_mode)
    return described("spectral.spectral_flatness", y, S, frame=frame, amin=amin, power=power)


@adapter("feature.spectral.poly_features", "spectral.poly_features")
def poly_features(y, sr, S, n_fft, hop_length, win_length, window, center, pad_mode, order, freq):
    if freq is not None and np.ndim(freq) > 1:
        raise unsupported("polynomials over frequencies that move")
    frame = framing(n_fft, hop_length, win_length, window, center, pad_mode)
    return described("spectral.poly_features", y, S, row=False, frame=frame, sample_rate=sr, freq=freq, order=order)


@adapter("feature.spectral.rms", "spectral.rms")
def rms(y, S, frame_length, hop_length, center, pad_mode, dtype):
    if y is None:
        require(S, "y or S")
        answer = ours("spectral.rms")(spectrogram=flip(double(np.abs(S))), frame_length=frame_length)
    else:
        answer = ours("spectral.rms")(
            audio(y),
            frame_length=frame_length,
            hop_length=hop_length,
            center=center,
            pad_mode=named_padding(pad_mode),
        )
    return np.array(answer, dtype)[..., None, :]


@adapter("feature.spectral.zero_crossing_rate", "spectral.zero_crossing_rate")
def zero_crossing_rate(y, frame_length, hop_length, center, kwargs):
    if not set(kwargs) <= {"threshold", "zero_pos"}:
        raise unsupported("zero crossings of other conventions")
    answer = ours("spectral.zero_crossing_rate")(
        audio(y), frame_length=frame_length, hop_length=hop_length, center=center, **kwargs
    )
    return np.array(answer)[..., None, :]


def emphasis(function, y, coef, zi, return_zf):
    """Both emphasis filters."""
    zi = None if zi is None else double(zi)
    answer = ours(function)(audio(y), coef=coef, zi=zi, return_zf=return_zf)
    return tuple(like(y, part) for part in answer) if return_zf else like(y, answer)


@adapter("effects.preemphasis", "spectral.preemphasis")
def preemphasis(y, coef, zi, return_zf):
    return emphasis("spectral.preemphasis", y, coef, zi, return_zf)


@adapter("effects.deemphasis", "spectral.deemphasis")
def deemphasis(y, coef, zi, return_zf):
    return emphasis("spectral.deemphasis", y, coef, zi, return_zf)


# Chroma


@adapter("filters.chroma", "chroma.chroma_filters")
def chroma_filters(sr, n_fft, n_chroma, tuning, ctroct, octwidth, norm, base_c, dtype):
    bank = ours("chroma.chroma_filters")(
        sample_rate=sr,
        n_fft=n_fft,
        n_chroma=n_chroma,
        tuning=tuning,
        ctroct=ctroct,
        octwidth=octwidth,
        norm=norm,
        base_c=base_c,
    )
    return np.array(bank, dtype)


@adapter("filters.cq_to_chroma", "chroma.cq_to_chroma")
def cq_to_chroma(n_input, bins_per_octave, n_chroma, fmin, window, base_c, dtype):
    bank = ours("chroma.cq_to_chroma")(
        n_input, bins_per_octave=bins_per_octave, n_chroma=n_chroma, fmin=fmin, window=window, base_c=base_c
    )
    return np.array(bank, dtype)


@adapter(
    "feature.spectral.chroma_stft", "chroma.chroma_stft", "chroma.spectrogram_to_chroma", "tuning.spectrogram_tuning"
)
def chroma_stft(y, sr, S, norm, n_fft, hop_length, win_length, window, center, pad_mode, tuning, n_chroma, kwargs):
    kwargs.pop("dtype", None)
    frame = framing(n_fft, hop_length, win_length, window, center, named_padding(pad_mode))
    if S is not None:
        size = np.shape(S)[-2]
        if fitting(n_fft, size) % 2:
            raise unsupported("chroma of a spectrogram of odd n_fft")
    if tuning is None:
        power = S if S is not None else flip(magnitudes(y, None, frame | {"power": 2.0}))
        tuning = estimate_tuning(None, sr, power, n_fft, 0.01, n_chroma, {})
    bank = {"norm": norm, "tuning": tuning, "n_chroma": n_chroma, **kwargs}
    if S is not None:
        return like(S, flip(ours("chroma.spectrogram_to_chroma")(flip(double(S)), sample_rate=sr, **bank)))
    return like(y, flip(ours("chroma.chroma_stft")(audio(y), sample_rate=sr, **frame, **bank)))


def chroma_of(y, sr, C, hop_length, fmin, tuning, n_chroma, n_octaves, window, bins_per_octave, cqt_mode, **settings):
    """Our chroma of constant-Q magnitudes, made of audio or given, [..., T, n_chroma]."""
    bins_per_octave = n_chroma if bins_per_octave is None else bins_per_octave
    settings |= {"fmin": fmin, "n_chroma": n_chroma, "bins_per_octave": bins_per_octave, "window": window}
    if C is not None:
        return ours("chroma.cqt_to_chroma")(flip(double(C)), **settings)
    require(y, "y or C")
    if bins_per_octave % n_chroma == 0:
        tuning = tuned(y, sr, tuning, bins_per_octave)
    return ours("chroma.chroma_cqt")(
        audio(y),
        sample_rate=sr,
        hop_length=hop_length,
        tuning=tuning or 0.0,
        n_octaves=n_octaves,
        cqt_mode=cqt_mode,
        **settings,
    )


@adapter("feature.spectral.chroma_cqt", "chroma.chroma_cqt", "chroma.cqt_to_chroma", "tuning.estimate_tuning")
def chroma_cqt(
    y, sr, C, hop_length, fmin, norm, threshold, tuning, n_chroma, n_octaves, window, bins_per_octave, cqt_mode
):
    answer = chroma_of(
        y,
        sr,
        C,
        hop_length,
        fmin,
        tuning,
        n_chroma,
        n_octaves,
        window,
        bins_per_octave,
        cqt_mode,
        norm=norm,
        threshold=threshold,
    )
    return like(y if C is None else C, flip(answer))


@adapter("feature.spectral.chroma_cens", "chroma.smooth_cens", "chroma.chroma_cqt", "chroma.cqt_to_chroma")
def chroma_cens(
    y,
    sr,
    C,
    hop_length,
    fmin,
    tuning,
    n_chroma,
    n_octaves,
    bins_per_octave,
    cqt_mode,
    window,
    norm,
    win_len_smooth,
    smoothing_window,
):
    chroma = chroma_of(
        y, sr, C, hop_length, fmin, tuning, n_chroma, n_octaves, window, bins_per_octave, cqt_mode, norm=None
    )
    answer = ours("chroma.smooth_cens")(
        chroma, norm=norm, win_len_smooth=win_len_smooth, smoothing_window=smoothing_window
    )
    return like(y if C is None else C, flip(answer))


@adapter("feature.spectral.tonnetz", "chroma.chroma_to_tonnetz", "chroma.chroma_cqt")
def tonnetz(y, sr, chroma, kwargs):
    if chroma is None:
        require(y, "y or chroma")
        settings = {name: p.default for name, p in CHROMA_CQT.items()} | kwargs
        chroma = chroma_cqt(**settings | {"y": y, "sr": sr})
    return like(chroma, flip(ours("chroma.chroma_to_tonnetz")(flip(double(chroma)))))


def _defaults_of_chroma_cqt():
    import inspect

    import librosa

    return dict(inspect.signature(librosa.feature.chroma_cqt).parameters)


CHROMA_CQT = _defaults_of_chroma_cqt()
