"""The published procedures, as the configs have them: typed from the papers and their code, not from the configs."""

from pathlib import Path

import pytest

from mirjax import config

FOLDER = Path(__file__).parents[1] / "configs"

AT_SCALE = {  # ARCHITECTURES §6.4, and the companion code where the thesis says nothing
    "optimiser": "adam",
    "learning_rate": 0.001,
    "batch_size": 32,
    "l2": 1e-5,
    "l2_on": "kernels",
    "epochs": 600,
    "rule": "plateau(valid_loss, .5, 75, cumulative=true)",
    "patches": "random",
    "aggregate": "mean",
    "normalise": "all",
}
RHYTHM = {
    "optimiser": "sgd",
    "learning_rate": 0.01,
    "momentum": 0.0,
    "rule": "counter(train_loss, 20, 40)",
    "monitor": "valid_accuracy",
    "made_folds": 10,
    "patches": "windows",
    "aggregate": "vote",
    "l2": 0.0,
}
PROCEDURES = {
    "ballroom_cnns": RHYTHM | {"batch_size": 10, "epochs": 2000},  # §2
    "onset_pattern_nets": RHYTHM | {"batch_size": 50, "epochs": 250},  # §3
    "phonemes": {  # §4.1
        "optimiser": "adam",
        "learning_rate": 0.001,
        "batch_size": 64,
        "l2": 1e-5,
        "rule": "stop_early(valid_loss, 10)",
        "retrain": True,
        "normalise": "band",
        "patches": "windows",
        "hop": 0.01,
        "context": 0.1,  # ten frames
        "mixture": 40,
    },
    "irmas": {  # §4.2
        "optimiser": "adam",
        "learning_rate": 0.001,
        "batch_size": 16,
        "epochs": 400,
        "validation": 0.15,
        "l2": 1e-5,
        "l2_on": "convolutions",
        "rule": "stop_early(valid_loss, 20) + halve_every(5)",
        "loss": "cross_entropy",
        "patches": "windows",
        "hop": None,
    },
    "mtt_filter_shapes": {  # §4.3
        "optimiser": "sgd",
        "learning_rate": 0.1,
        "momentum": 0.0,
        "batch_size": 10,
        "epochs": 200,
        "l2": 1e-5,
        "l2_on": "kernels",
        "l2_reduction": "sum",
        "rule": "counter(train_loss, 3, 10)",
        "monitor": "valid_loss",
        "loss": "binary_cross_entropy",
        "aggregate": "mean",
        "hop": None,
        "evaluation_hop": None,
    },
    "at_scale_front_ends": AT_SCALE,
    "at_scale_capacity": AT_SCALE,
    "training_size": AT_SCALE | {"seeds": (0, 1, 2), "shares": (0.1, 0.5, 1.0)},
    "whole_song": AT_SCALE | {"evaluations": ("windows", "whole")},
    "sincnet_samplecnn": {  # §6.6
        "optimiser": "sgd",
        "learning_rate": 0.01,
        "momentum": 0.9,
        "nesterov": True,
        "batch_size": 23,
        "rule": "divide_on_plateau(valid_loss, rates=.01/.002/.0004/.00008/.000016, patience=4)",
        "back_to_best": True,
        "patches": "windows",
        "aggregate": "mean",
        "l2": 0.0,
    },
}


@pytest.mark.parametrize(
    ("name", "field", "expected"),
    [(name, field, value) for name, fields in PROCEDURES.items() for field, value in fields.items()],
)
def test_procedure(name, field, expected):
    """Oracle: the papers, their code, ARCHITECTURES §2 to 6 and §11."""
    assert getattr(config.load(name, FOLDER)[0], field) == expected


def test_capacity_studies_have_every_size():
    """Oracle: §6.2, §6.3: five front-ends each, and filters × units of the back-end behind one of each kind."""
    named = set(config.load("at_scale_capacity", FOLDER)[0].architectures)
    fronts = {f"at_scale_{kind}{size}" for kind, sizes in {
        "waveform": ("", "/front_4", "/front_2", "/front_half", "/front_quarter"),
        "spectrogram": ("", "/front_2", "/front_half", "/front_quarter", "/front_eighth"),
    }.items() for size in sizes}  # fmt: skip
    behind = ("at_scale_waveform/front_2", "at_scale_spectrogram/front_half")
    sizes = [
        (filters, units) for filters in (512, 256, 128, 64) for units in (500, 200) if (filters, units) != (512, 500)
    ]
    assert named == fronts | {f"{front}_back_{filters}_{units}" for front in behind for filters, units in sizes}
