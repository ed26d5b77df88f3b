"""What more training clips are worth: waveform and spectrogram on shares of them, and a line through the scores.

Shares of a tenth, a half and all (100k, 500k and a million songs in the thesis), stratified by class, the smaller
within the larger; three seeds; validation and test clips are the same for all. The report fits a line to score against
clips and against their logarithm, with slope, 95 % interval and R² (`scale.md`, `scale.csv`).

Source: Pons et al., ISMIR 2018, figure 3; Pons' thesis (2019), section 5.3; ARCHITECTURES §6.1, 6.5. The songs are
private: this is the template, and any manifest `path,label,split` will do.

    python launch.py run training_size data=MTT/manifest.csv labels=many
    python launch.py run training_size data=SONGS/manifest.csv labels=values patch=15 \\
        architectures=at_scale_waveform/songs_1m,at_scale_spectrogram/songs_1m

The songs' network of the waveform has nine layers and takes 15 s. `labels=values` (tag:0.3|other:0.9) gives √MSE, for
the quasi-uniform tags; `labels=many loss=squared_error` ROC-AUC and PR-AUC of the others, learnt as those songs' tags
were. Tags are not stratified: a share is a random one.
Clips of one class each (`labels=one`, the default) are judged by accuracy.

Time: 18 trainings, meant for a GPU; architectures=at_scale_spectrogram n=2 epochs=20 is for a laptop.
Expected (1.2 million songs, ROC-AUC % / PR-AUC % / √MSE): waveform 100k 90.27 / 52.76 / .1554, 500k 91.16 / 56.42 /
.1504, a million 92.50 / 61.20 / .1465; spectrogram 90.14 / 52.67 / .1542, 91.61 / 58.18 / .1493, 92.17 / 59.92 / .1473:
the waveform is ahead in all three with the most songs, in both areas by a hair with the fewest, and behind between.
"""

from mirjax.experiments.scale import ScaleStudy

experiment = ScaleStudy(
    name="training_size",
    data=("rhythm_small",),
    architectures=("at_scale_spectrogram", "at_scale_waveform"),
    seeds=3,
    shares=(0.1, 0.5, 1.0),
)
