"""How large front-end and back-end must be: both capacity studies of the networks at scale.

Front-ends: filters of the waveform network × 4, 2, 1, ½, ¼ and n = 32, 16, 8, 4, 2 of the spectrogram network (× 2 to
× ⅛), with the back-end as it is. Back-ends: F = 512, 256, 128, 64 filters × U = 500, 200 units, behind waveform × 2 and
spectrogram × ½ (whose rows of 512 and 500 are those of the front-ends).

Source: Pons et al., ISMIR 2018; Pons' thesis (2019), section 5.4; ARCHITECTURES §6.2, 6.3, 6.5. Training, data and
labels as in `at_scale_front_ends`.

    python launch.py run at_scale_capacity data=MTT/manifest.csv labels=many
    python launch.py run at_scale_capacity data=MTT/manifest.csv labels=many \
        architectures=at_scale_spectrogram/front_2,at_scale_waveform/front_2

Time: 24 trainings a seed, meant for a GPU.
Expected (MagnaTagATune, ROC-AUC / PR-AUC in %): spectrogram × ⅛ 90.08 / 37.18, × ¼ 90.12 / 37.69, × ½ 90.40 / 38.11,
× 1 90.31 / 37.79, × 2 90.07 / 37.29; waveform × ¼ 88.47 / 33.89, × ½ 88.69 / 33.97, × 1 88.9 / 34.18, × 2 88.96 /
34.74, × 4 89.05 / 34.92. All back-ends within .42 (spectrogram) and .66 (waveform) points of ROC-AUC: the smallest,
64 / 200, 90.28 / 37.55 and 88.94 / 34.47; the largest, 512 / 500, 90.40 / 38.11 and 88.96 / 34.74; 512 / 200 is lowest.
"""

from mirjax.experiments.scale import ScaleStudy

BACK_ENDS = ("64_200", "64_500", "128_200", "128_500", "256_200", "256_500", "512_200")

experiment = ScaleStudy(
    name="at_scale_capacity",
    data=("rhythm_small",),
    architectures=(
        "at_scale_spectrogram/front_eighth",
        "at_scale_spectrogram/front_quarter",
        "at_scale_spectrogram/front_half",
        "at_scale_spectrogram",
        "at_scale_spectrogram/front_2",
        "at_scale_waveform/front_quarter",
        "at_scale_waveform/front_half",
        "at_scale_waveform",
        "at_scale_waveform/front_2",
        "at_scale_waveform/front_4",
        *(f"at_scale_spectrogram/front_half_back_{size}" for size in BACK_ENDS),
        *(f"at_scale_waveform/front_2_back_{size}" for size in BACK_ENDS),
    ),
)
