"""What a training may name: augmentations, and networks that begin with trained weights of others.

Names: `AUGMENTATIONS`, `augmentation`, `BEGINNINGS`.
"""

import functools

# Networks that can begin with weights of others: name → (the others, function of their variables and the drawn ones)
BEGINNINGS = {"time_frequency": (("time", "frequency"), "rhythm_filters:initialise_from")}
# Functions of `mirjax.signal.augment`: name → (what it changes, what it must be told of the network)
AUGMENTATIONS = {
    "gain": ("audio", ()),
    "polarity": ("audio", ()),
    "time_shift": ("audio", ()),
    "noise": ("audio", ()),
    "equalise": ("audio", ("sample_rate",)),
    "low_pass": ("audio", ("sample_rate",)),
    "pitch_shift": ("audio", ()),
    "time_stretch": ("audio", ()),
    "spec_augment": ("representation", ()),
}


@functools.lru_cache(maxsize=8)
def augmentation(names: tuple[str, ...], place: str, sample_rate: int):
    """The augmentations among `names` that change `place`, as one function (key, example) → example; None without any.

    The same arguments give the same function, so that what is compiled of it is compiled once.
    """
    from mirjax.signal import augment

    functions = []
    for name in names:
        where, needed = AUGMENTATIONS[name]
        if where == place:
            functions.append(functools.partial(getattr(augment, name), **dict.fromkeys(needed, sample_rate)))
    return augment.compose(*functions) if functions else None
