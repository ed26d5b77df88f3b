"""Networks of the whole zoo in a screening: groups of names, sample rates, layers, what cannot be screened."""

import jax
import numpy as np
import pytest

from mirjax import features
from mirjax.config import UsageError
from mirjax.data import audio, dataset
from mirjax.experiments.screening import Screening
from mirjax.models import zoo


def test_groups_of_names():
    """Oracle: the table: `all` are the study's ten, `zoo` what can be screened, a family its members; each once."""
    assert Screening().architectures == zoo.STUDY
    assert Screening(architectures="zoo").architectures == zoo.screened()
    trackers = Screening(architectures="trackers").architectures
    assert "beat_blstm" in trackers and "onset_postprocess" not in trackers
    mixed = Screening(architectures="vgg,random_cnns,crnn").architectures
    assert mixed[0] == "vgg" and mixed.count("vgg") == 1 and mixed[-1] == "crnn" and len(mixed) == 11


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"architectures": "onset_postprocess"}, "cannot be screened: .*activation"),
        ({"architectures": "tracker"}, "'tracker' is not known"),
        ({"architectures": "black_box/long"}, "give n= for black_box/long"),
        ({"architectures": "musicnn", "width": 500}, "width=500 is not one of 120, 3500 for musicnn"),
        ({"architectures": "vgg", "layers": "pool2,pool2"}, "layers names 'pool2' twice"),
    ],
)
def test_refusals(settings, message):
    """Oracle: the errors that a config promises, before any work."""
    with pytest.raises(UsageError, match=message):
        Screening(**settings)


def test_a_layer_that_is_not_there(tmp_path):
    """Oracle: the network's own layers, named in the error."""
    screening = Screening(architectures="vgg", layers="pool6", seconds=1, cache=str(tmp_path))
    with pytest.raises(UsageError, match=r"vgg: layers='pool6' is not exposed by this network; known: pool1, pool2"):
        screening.networks()


def test_every_network_hears_its_own_sample_rate(tmp_path):
    """Oracle: `features.extract` of clips decoded at that rate and fitted by hand; chosen layers; several networks."""
    screening = Screening(
        data="digits_small",
        architectures="at_scale_waveform,temporal,onset_rnn_online",
        n="at_scale_waveform:1,temporal:1,onset_rnn_online:2",
        seeds=1,
        seconds=0.5,
        cache=str(tmp_path),
    )
    table = screening.features(progress=False)
    assert table["features"].shape == (240, sum(map(_length, screening.networks())))
    column = 0
    for network, rate in zip(screening.networks(), (16_000, 12_000, 44_100), strict=True):
        assert (network.sample_rate, network.num_samples) == (rate, rate // 2)
        clip = audio.decode(dataset.open_source("digits_small").encoded(7), sample_rate=rate)
        fitted = np.resize(clip, rate // 2)[None]
        variables = features.initialise(network.module, jax.random.key(0), rate // 2)
        wanted = features.extract(network.module, variables, fitted)[0]
        found = table["features"][7, column : column + len(wanted)]
        assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()
        column += len(wanted)


def _length(network):
    return features.num_features(network.module, network.num_samples)


def test_records_say_which_layers(tmp_path):
    """Oracle: the record's own fields: options, number of features (n a layer), and another fingerprint."""
    settings = {
        "data": "digits_small",
        "architectures": "vgg",
        "n": 3,
        "seeds": 1,
        "classifiers": "knn",
        "seconds": 0.3,
        "cache": str(tmp_path / "cache"),
    }
    plain = Screening(**settings).run(tmp_path / "plain", progress=False)
    chosen = Screening(**settings, layers="pool1,pool2").run(tmp_path / "chosen", progress=False)
    of = {name: [r for r in records if r["architecture"] == "vgg"] for name, records in (("p", plain), ("c", chosen))}
    assert {record["num_features"] for record in of["p"]} == {15}
    assert {record["num_features"] for record in of["c"]} == {6}
    assert all(record["options"]["layers"] == ["pool1", "pool2"] for record in of["c"])
    assert not {r["fingerprint"] for r in of["p"]} & {r["fingerprint"] for r in of["c"]}
