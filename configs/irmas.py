"""The predominant instruments of a piece (IRMAS): filters shaped for timbre, in one layer or as the first of several.

Source: Pons, Slizovskaia, Gong, Gómez & Serra (EUSIPCO 2017); thesis of J. Pons (2019), 3.4; ARCHITECTURES §4.2. The
two decision rules are those of Han, Kim & Lee (2017).
Data: 6,705 training excerpts of 3 s with one of 11 instruments, 2,874 test excerpts of 5 to 20 s with several. A
manifest `path,label,split[,song]`: label `cel` or `cel|pia`; split `train`, `valid` (in the paper a random 15 % of the
training excerpts) or `test`. Without `valid` these 15 % are drawn here. Excerpts of one song (names alike but for
`__1`, `__2`) stay together in that if a column `song` is given as `group`, which the paper did not do.

    python launch.py run irmas data=irmas.csv group=none
    python launch.py run irmas data=irmas.csv group=none architectures=han loss=binary_cross_entropy level=peak
    python -c "from mirjax.experiments import thresholds as t; print(t.to_text(t.score_thresholds('runs/irmas-…')))"

A run leaves ROC-AUC and PR-AUC over the instruments, and the scores of every clip, of which the last command makes
precision, recall and F1 by both rules: s1 (mean of the chunks' outputs against a threshold) at the paper's .2 and at
the threshold that the validation clips choose, s2 (their sum over the highest sum) at the latter. Validation excerpts
have one instrument each, so thresholds chosen on them may be too high for the test set. The released code
shows all thresholds of a grid on the test set.

Published, %         micro P / R / F1      macro P / R / F1
    Bosch            50.4 / 50.1 / 50.3    41   / 45.5 / 43.2
    han              65.5 / 55.7 / 60.2    54.1 / 50.8 / 50.3
    irmas_single     61.1 / 51.6 / 55.9    52.3 / 48.0 / 48.4
    irmas_multi      65.0 / 53.8 / 58.9    55.0 / 52.5 / 51.6

Layers, filters and Adam are those of the released weights (ARCHITECTURES §11, rows 10, 11). The input is decibels of
the power, standardised by one mean and deviation (rows 12, 13). As released, decibels of the squared power less the
mean patch, from Python, with `timbre_filters` of `mirjax.models`:

    dataclasses.replace(experiment, data=("irmas.csv",), normalise="patch_mean",
                        architectures=(timbre_filters.irmas_single(legacy_power=True),)).run()

L2 acts on the convolutions: the six of the first layer, of which it is told, and those above them. Han's network hears
1 s at 22.05 kHz, here with this study's optimiser, batch and rule in place of its own.
Time: not known; the data were not at hand.
"""

from mirjax.experiments.training import Training

experiment = Training(
    name="irmas",
    data=("rhythm_small",),
    architectures=("irmas_single", "irmas_multi"),
    seeds=1,
    labels="many",
    loss="cross_entropy",
    patches="windows",
    normalise="all",
    optimiser="adam",
    learning_rate=1e-3,
    l2=1e-5,
    l2_on="convolutions",
    l2_reduction="sum",
    rule="stop_early(valid_loss, 20) + halve_every(5)",
    epochs=400,
    batch_size=16,
    validation=0.15,
)
