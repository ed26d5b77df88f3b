"""Audio to time-frequency representations: pure functions of JAX arrays over any leading axes.

Convention: audio is float `[..., N]` in [-1, 1], spectrograms are `[..., T, F]` (time before frequency), frequencies
are in hertz, `n_fft` and `hop_length` in samples. Names follow librosa's, whose numbers are the oracle.

`stft`: power spectrograms. `mel`: filter banks, decibels, MFCC. `representations`: value objects that models carry.
"""
