"""Show that batch norm by the batch at hand leaks labels: an untrained VGG, clips sorted by class or shuffled.

Source: thesis of J. Pons (2019), figure 4.5: GTZAN (1,000 clips, stratified 10-fold), VGG n=32, conv → batch norm
(statistics of the batch, ε 1e-3) → ELU → pooling, SVM, 3 networks. Published: with clips sorted by class the accuracy
grows with the batch size and peaks at 100, one class a batch; without batch norm it does not depend on it (ANOVA
p = .491; here every size has the same networks, so that nothing differs at all and p = 1).

    python launch.py run screen_batchnorm
    python launch.py run screen_batchnorm data=gtzan.csv protocol=cv selection=legacy scaling=none

Time: one minute on two cores; 1,000 clips of 30 s in batches of 1, 2, 5, … 100 would take an estimated hour.
Expected: on rhythm_small (9 clips a class, classes alike in timbre) the labels leak, but harm. Sorted by class, batches
of 9 score 6.5 ± 5.6 % (features scaled 8.3 ± 0.0), below chance (12.5); shuffled 28.7 ± 4.2 (31.5 ± 5.6), in batches of
1 19.0 ± 4.0 (29.2 ± 5.0), without batch norm 18.5 ± 4.9 (26.4 ± 4.2) at every size. ANOVA over sizes: sorted p = .031
(< .001), shuffled p = .032 (.19), without p = 1. Where classes differ in sound the leak helps: 238 recordings of the
ten ESC-10 classes in batches of 24, nearly a class each, score 78.5 (scaled 88.0) sorted, 72.4 (71.7) shuffled.
"""

from mirjax.experiments.batchnorm import BatchNormStudy

experiment = BatchNormStudy(
    name="screen_batchnorm",
    data=("rhythm_small",),
    n=32,
    seeds=3,
    scaling=("none", "standard"),
)
