"""Audio to time-frequency representations: pure functions of JAX arrays over any leading axes.

Convention: audio is float `[..., N]` in [-1, 1], spectrograms are `[..., T, F]` (time before frequency), frequencies
are in hertz, `n_fft` and `hop_length` in samples. Names follow librosa's, whose numbers are the oracle; what differs is
in docs/librosa.md, how many digits are right in docs/precision.md.

Values, for models and configs
  `representations` (waveform, spectrogram, log-mel, MFCC, CQT, chroma, CENS, filtered spectrograms), `descriptors`
  (onsets, tempogram, pitch, spectral shape, loudness, harmonic and percussive), `presets` (the literature's, by name).
Transforms
  `stft` (and inverse, Griffin-Lim, phase vocoder), `windows`, `cqt`, `wavelets`, `mel`, `filtered`, `chroma`, `tuning`.
Banks, compressions, statistics
  `filters`, `compression` (decibels, logarithms, PCEN), `cepstral`, `normalise`.
Measures
  `rhythm`, `pitch`, `spectral`, `loudness`.
Audio to audio
  `resample`, `hpss`, `stretch` (time and pitch), `augment` (per example, on device).
Underneath
  `streaming` (the same numbers piece by piece), `checks` (errors with name, value, remedy).
"""
