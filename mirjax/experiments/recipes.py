"""What a training may name: augmentations, and networks that begin with trained weights of others.

Names: `AUGMENTATIONS`, `BEGINNINGS`.
"""

# Networks that can begin with weights of others: name → (the others, function of their variables and the drawn ones)
BEGINNINGS = {"time_frequency": (("time", "frequency"), "rhythm_filters:initialise_from")}
# name → (where it acts, options)
AUGMENTATIONS = {
    "gain": ("audio", {}),
    "polarity": ("audio", {}),
    "time_shift": ("audio", {}),
    "noise": ("audio", {}),
    "equalise": ("audio", {"sample_rate": None}),
    "pitch_shift": ("audio", {"sample_rate": None}),
    "time_stretch": ("audio", {}),
    "filter_spectrogram": ("representation", {}),
    "spec_augment": ("representation", {}),
}
