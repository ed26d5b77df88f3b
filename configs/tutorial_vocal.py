"""Instrumental or vocal, of the ISMIR 2018 tutorial: one convolution against two, all layers linear.

Source: T. Lidy, A. Schindler & S. Böck, deep learning for MIR (ISMIR 2018), first notebook. 1,680 MagnaTagATune clips
(1,260 to train, 420 to test; the larger class .75) at 16 kHz, peak-normalised, the first 81 · 2,048 samples, of their
80-band decibels the first 80 frames; every one of the 6,400 values standardised; a stratified shuffle split 75/25.

    python launch.py run tutorial_vocal data=vocal.csv
    python launch.py run tutorial_vocal data=vocal.csv normalise_on=everything   (statistics as in the notebook)

The manifest has `path,label`, the labels two classes; with a column `fold` of its own, fold `0` is the test set.
Published accuracy: one convolution .812, two .776. One sigmoid output, SGD (Keras' rate of .01), batches of 32, ten
epochs, nothing chosen: the last weights are judged.
Differences by default: statistics are those of the training clips (the notebook's are fitted before the split); the
split is another draw; an epoch leaves out the clips that do not fill a batch; kernels are free (a notebook keeps
their norm at 1).
Time: eleven CPU-seconds for both networks on the 72 embedded clips, compilation included. These are eight rhythms, no
voice, and 48 patches: the nets learn them by heart and guess the test clips; there is nothing to reproduce.
"""

from mirjax.experiments.training import Training

experiment = Training(
    name="tutorial_vocal",
    data=("rhythm_small",),
    architectures=("tutorial_vocal", "tutorial_vocal/two_conv"),
    made_folds=4,
    folds=("0",),
    loss="binary_cross_entropy",
    level="peak",
    seconds=81 * 2048 / 16_000,
    patches="windows",
    hop=60.0,  # one patch a clip, its first
    evaluation_hop=60.0,
    normalise="place",
    optimiser="sgd",
    learning_rate=0.01,
    rule="constant()",
    epochs=10,
    batch_size=32,
    validation=0.0,
)
