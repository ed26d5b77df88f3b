"""Show that batch norm by the batch at hand leaks labels: an untrained VGG, clips sorted by class or shuffled."""

from mirjax.experiments.batchnorm import BatchNormStudy

experiment = BatchNormStudy(
    name="screen_batchnorm",
    data=("rhythm_small",),
    n=32,
    seeds=3,
    scaling=("none", "standard"),
)
