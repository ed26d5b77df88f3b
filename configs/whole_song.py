"""Should a song be tagged at once, or by its patches? The same weights, evaluated both ways.

Networks of variable length are trained on patches and chosen by averaged windows; then the scores of a clip are the
mean over consecutive windows, or those of the whole clip heard at once. `scale.md` has the differences, paired by
network and clip.

Source: Pons et al., ISMIR 2018; Pons' thesis (2019), section 5.4; ARCHITECTURES §6.5. Training, data and labels as in
`at_scale_front_ends`.

    python launch.py run whole_song data=MTT/manifest.csv labels=many
    python launch.py run whole_song data=FOLDER/manifest.csv architectures=at_scale_spectrogram n=2 epochs=20 patch=1.5

Time: that of two trainings, and twice that of evaluating them.
Expected: whole songs score worse than averaged patches (the thesis gives no numbers). Not decided
by 79 sounds of 5 s (ESC-10, fold 1, spectrogram n=2, 60 epochs in batches of 16, one seed): windows 70.9 %, whole
74.7 %, difference 3.8 [−2.7, 10.4].
"""

from mirjax.experiments.scale import ScaleStudy

experiment = ScaleStudy(
    name="whole_song",
    data=("rhythm_small",),
    architectures=("at_scale_spectrogram", "at_scale_waveform"),
    evaluations=("windows", "whole"),
)
