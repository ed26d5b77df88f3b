"""SincNet's learnt band-pass filters against SampleCNN's filters of three samples, trained as SampleCNN was.

The thesis names the comparison as future work (section 7.2). Both are trained by SampleCNN's recipe: SGD with Nesterov
momentum .9 in batches of 23, rates .01, .002, .0004, .00008, .000016, the next at the fourth epoch in a row without a
lower validation loss (`patience=3` of Keras 1), from the best weights so far, then the end; every window of every clip
in an epoch; a clip's scores are the mean over its windows (ten of 2.68 s in a clip of MagnaTagATune). SincNet's
back-end is that of the networks at scale with F = 64, U = 200: the composition is ours.

Source: Lee, Park, Kim & Nam, SMC 2017, and its code; Ravanelli & Bengio, SLT 2018; ARCHITECTURES §6.6, §7.3b.

    python launch.py run sincnet_samplecnn data=MTT/manifest.csv labels=many

Data: a manifest `path,label,split`; the author's split is MagnaTagATune's "clean" one (§6.1). Batches of 23 need one
device, or batch_size=24.
Time: meant for a GPU (7 GFLOPs a window of SampleCNN, one way).
Expected: SampleCNN 90.55 % ROC-AUC on the clean split, 88.56 on the original one; of SincNet on tags no number is
published.
"""

from mirjax.experiments.scale import ScaleStudy

experiment = ScaleStudy(
    name="sincnet_samplecnn",
    data=("rhythm_small",),
    architectures=("sample_cnn", "sincnet"),
    normalise="none",
    optimiser="sgd",
    momentum=0.9,
    nesterov=True,
    learning_rate=0.01,
    l2=0.0,
    rule="divide_on_plateau(valid_loss, rates=.01/.002/.0004/.00008/.000016, patience=4)",
    back_to_best=True,
    patches="windows",
    batch_size=23,
    epochs=200,
)
