"""Tagging music (MagnaTagATune): filters of twelve timbral shapes against small squares and one tall shape.

Source: Pons, Slizovskaia, Gong, Gómez & Serra (EUSIPCO 2017); thesis of J. Pons (2019), 3.4; ARCHITECTURES §4.3.
Data: 25,863 clips of 29 s with the 50 most frequent of 188 tags. A manifest `path,label,split`, made of the data set's
annotations: path as there (`f/….mp3`); label the names of those of the 50 columns that are 1, joined by `|`, or `-`
where none is; split by the folder that the path begins with, `train` for 0-9, a and b, `valid` for c, `test` for d, e
and f. Tags that no test clip has are left out of the means.

    python launch.py run mtt_filter_shapes data=mtt.csv group=none
    python launch.py run mtt_filter_shapes data=mtt.csv group=none architectures=mtt_choi

Published ROC-AUC, %   mtt_small_rectangular 86.52   mtt_dieleman 88.15    mtt_choi 89.40
                       mtt_timbre 88.95              mtt_timbre/x2 89.33   mtt_timbre/x4 88.71

All patches of 187 frames (3 s) of a clip are examples, one after the other; its outputs are averaged over them. Plain
gradient descent at .1. The loss that the rule watches has the L2 term in it, as in the released code: the rate is
halved when an improvement follows more than three worse epochs, training ends after more than ten, and the weights of
the best validation loss are judged. Bands are standardised by all training clips (released: by 2,000 patches).
The published numbers were probably made with axes scrambled before the second convolution and without the last of the
50 tags (ARCHITECTURES §11, rows 15, 16). The first is `timbre_filters.mtt_timbre(legacy_reshape=True)` of
`mirjax.models` as an architecture, from Python. Which tag was last is not known; any can be left out of a finished run:

    python -c "from mirjax.experiments import thresholds as t; print(t.to_text(t.score_areas('runs/…', ['choral'])))"

Time: not known; the data were not at hand. Their log-mel (24 GB) is made on the device, patch by patch.
"""

from mirjax.experiments.training import Training

experiment = Training(
    name="mtt_filter_shapes",
    data=("rhythm_small",),
    architectures=("mtt_timbre", "mtt_timbre/x2", "mtt_timbre/x4", "mtt_dieleman", "mtt_small_rectangular"),
    seeds=1,
    labels="many",
    loss="binary_cross_entropy",
    patches="windows",
    normalise="band",
    optimiser="sgd",
    learning_rate=0.1,
    l2=1e-5,
    l2_reduction="sum",
    rule="counter(train_loss, 3, 10)",
    monitor="valid_loss",
    epochs=200,
    batch_size=10,
)
