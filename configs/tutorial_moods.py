"""Moods, of the ISMIR 2018 tutorial: four labels that may hold together, with the genre network.

Source: T. Lidy, A. Schindler & S. Böck, deep learning for MIR (ISMIR 2018), second notebook. 719 MagnaTagATune clips;
input as in `tutorial_vocal`, a plain shuffle split 75/25, four sigmoid outputs, else as `tutorial_genre`.

    python launch.py run tutorial_moods data=moods.csv

The manifest has `path,label`, a label being moods such as `calm|sad`, or `-`; with a column `fold`, fold `0` is the
test set. Published: exact match .5, Hamming loss .169, ROC-AUC .7215, the last of *rounded* outputs. A run records the
areas of the outputs; exact match, Hamming loss and both areas come from its stored predictions:

    from mirjax import results
    from mirjax.experiments import labels
    labels.judge_decisions(results.read_predictions(RUN, record["predictions"]))

with a record of `results.read_records(RUN)`. Rounding loses the order of the clips, so `rounded_roc_auc` is mostly the
lower one. Differences by default: those of `tutorial_vocal`.
Time: six CPU-seconds on the 72 embedded clips, compilation included.
"""

from mirjax.experiments.training import Training

experiment = Training(
    name="tutorial_moods",
    data=("rhythm_small",),
    architectures=("tutorial_genre/moods",),
    labels="many",
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
