"""Should a song be tagged at once, or by its patches? The same weights, evaluated both ways.

Networks of variable length are trained on patches and chosen by averaged windows; then the scores of a clip are the
mean over consecutive windows, or those of the whole clip heard at once. `scale.md` has the differences, paired by
network and clip.

Source: Pons et al., ISMIR 2018; Pons' thesis (2019), section 5.4; ARCHITECTURES §6.5. Training, data and labels as in
`at_scale_front_ends`.

    python launch.py run whole_song data=MTT/manifest.csv labels=many
    python launch.py run whole_song data=FOLDER/manifest.csv architectures=at_scale_spectrogram n=2 epochs=20 patch=1.5

Time: that of two trainings, and twice that of evaluating them.
Expected: whole songs score worse than averaged patches (the thesis gives no numbers).
"""

from mirjax.experiments.scale import ScaleStudy

experiment = ScaleStudy(
    name="whole_song",
    data=("rhythm_small",),
    architectures=("at_scale_spectrogram", "at_scale_waveform"),
    evaluations=("windows", "whole"),
)
