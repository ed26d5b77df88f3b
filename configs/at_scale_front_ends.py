"""Waveform against spectrogram front-ends under one back-end, with the networks they were compared with.

Source: Pons, Nieto, Prockup, Schmidt, Ehmann & Serra, ISMIR 2018; Pons' thesis (2019), chapter 5; ARCHITECTURES §6.
From the thesis: Adam at .001, binary cross-entropy of tags, a random patch a clip and epoch, scores averaged over
consecutive windows. Batches of 32, L2 of 1e-5 on kernels, at most 600 epochs, rate halved after 75 epochs without
improvement in all (not in a row) are the companion networks'.

Data: a manifest `path,label,split` (train, valid, test), tags as a|b|c:

    python launch.py run at_scale_front_ends data=MTT/manifest.csv labels=many
    python launch.py run at_scale_front_ends data=MSD/manifest.csv labels=many patch=15 \\
        architectures=at_scale_waveform,at_scale_spectrogram

With labels=values (tag:0.3|other:0.9) the loss is the squared error and the metric its root. Clips of one class each
(`labels=one`, the default, on the embedded rhythms) are learnt by cross-entropy and judged by accuracy.

Time: meant for a GPU (at full width a clip of 3 s is 2 GFLOPs one way for the spectrogram, 4 for the waveform);
architectures=at_scale_spectrogram n=2 epochs=20 is for a laptop.
Expected (MagnaTagATune, original split, ROC-AUC / PR-AUC in %): spectrogram 90.31 / 37.79, waveform 88.9 / 34.18, VGG
89.99 / 37.56, Timbre 89.07 / 34.92, SampleCNN 88.56 / 34.38, Dieleman 85.58 / 29.59. Million Song Dataset: spectrogram
88.75 / 31.24, waveform 87.41 / 28.53.
"""

from mirjax.experiments.scale import ScaleStudy

experiment = ScaleStudy(
    name="at_scale_front_ends",
    data=("rhythm_small",),
    architectures=(
        "at_scale_spectrogram",
        "at_scale_waveform",
        "vgg_450k",
        "timbre_220k",
        "sample_cnn",
        "dieleman_waveform_194k",
    ),
)
