"""Genres, of the ISMIR 2018 tutorial: a compact CNN with batch norm on the first five seconds.

Source: T. Lidy, A. Schindler & S. Böck, deep learning for MIR (ISMIR 2018), second notebook. 1,998 MagnaTagATune clips
of 8 genres; input and split as in `tutorial_vocal`. Softmax, Adam at .003 / (1 + .01 t) over the updates t
(with ε 1e-8 here, in Keras 1e-7).

    python launch.py run tutorial_genre data=genre.csv
    python launch.py run tutorial_genre data=genre.csv normalise_on=everything   (statistics as in the notebook)

The manifest has `path,label`; with a column `fold` of its own, fold `0` is the test set.
Published accuracy: .788. The number of epochs is ours, and as in the vocal task; differences are those told there.
Time: nine CPU-seconds on the 72 embedded clips, compilation included.
"""

from mirjax.experiments.training import Training

experiment = Training(
    name="tutorial_genre",
    data=("rhythm_small",),
    architectures=("tutorial_genre",),
    made_folds=4,
    folds=("0",),
    level="peak",
    seconds=81 * 2048 / 16_000,
    patches="windows",
    hop=60.0,  # one patch a clip, its first
    evaluation_hop=60.0,
    normalise="place",
    learning_rate=0.003,
    schedule="inverse(decay=.01)",
    rule="constant()",
    epochs=10,
    batch_size=32,
    validation=0.0,
)
