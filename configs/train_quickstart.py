"""Train three small networks on the embedded rhythms: learning curves, and the same report as a screening.

Source   ours, to try the training out.
Command  python launch.py run train_quickstart
         python launch.py run train_quickstart data=my/manifest.csv architectures=musicnn,vgg_450k n= seconds= patch=
Time     minutes on two cores.
Result   a table of the three networks beside MFCC, learning curves, and weights that label new audio.
"""

from mirjax.experiments.training import Training

experiment = Training(
    name="train_quickstart",
    data=("rhythm_small",),
    architectures=("temporal", "timbral_temporal", "vgg"),
    n="temporal:8,timbral_temporal:4,vgg:16",
    seconds=12.0,
    patch=6.0,
    normalise="all",
    learning_rate=3e-3,
    rule="plateau(valid_loss,factor=.4,patience=10)+stop_early(valid_loss,30)",
    epochs=150,
)
