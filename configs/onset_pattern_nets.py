"""Onsets and patterns: few filters of many lengths in time, on Ballroom.

Source: Pons & Serra, "Designing efficient architectures for modeling temporal features with convolutional neural
networks" (ICASSP 2017; thesis of J. Pons, 2019, section 3.3). Input as in `ballroom_cnns`; windows of 250 frames
(5.8 s) every 250 or 80 frames (`hop=1.8576`: 80 · 1024 / 44,100 s), majority vote of a song's windows, ten folds.

    python launch.py run onset_pattern_nets data=ballroom.csv
    python launch.py run onset_pattern_nets data=ballroom.csv hop=1.8576 evaluation_hop=1.8576
    python launch.py run onset_pattern_nets data=ballroom.csv normalise_on=everything drop_last_window=true  (as coded)
    python launch.py report runs/onset_pattern_nets-… runs/onset_pattern_nets-…    (both hops side by side)

The manifest has `path,label`, and `fold` or `split` where you have them; without, ten stratified folds are made.

Published accuracy in %, windows every 250 / 80 frames:

    o_net     76.66 / 85.24    p_net     83.95 / 89.26    op_net     87.25 / 89.68    op_net/x4  88.82 / 91.55
    o_net/x2  81.53 / 86.54    p_net/x2  85.67 / 89.11    op_net/x2  87.25 / 91.27    op_net/x8  88.68 / 92.27

Differences by default: the input's mean and deviation are those of the training songs (`normalise_on=everything` for
those of all); the last full window of a song is used (`drop_last_window=true` leaves it out, as the code does); the
validation songs are 10 % of all, not 9 %. The rate is halved by the code's counter (the paper divides it by ten).
Time: a step of 50 windows takes 0.7 s (o_net), 1.7 (p_net), 2.2 (op_net) on a busy core, an epoch of Ballroom 55 of
them (156 with hop 80): ten folds are for a GPU; `folds=0 architectures=o_net epochs=20` for a look. No result of a
whole training yet.
"""

from mirjax.experiments.training import Training

experiment = Training(
    name="onset_pattern_nets",
    data=("rhythm_small",),
    architectures=("o_net", "p_net", "op_net", "o_net/x2", "p_net/x2", "op_net/x2", "op_net/x4", "op_net/x8"),
    made_folds=10,
    patches="windows",
    aggregate="vote",
    normalise="all",
    optimiser="sgd",
    learning_rate=0.01,
    batch_size=50,
    rule="counter(train_loss, 20, 40)",
    epochs=250,
    monitor="valid_accuracy",
    validation=1 / 9,
)
