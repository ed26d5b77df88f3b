"""Live parity with torch and nnAudio on fresh random weights; skipped by name without the `peers` extra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mirjax import features
from mirjax.models import zoo
from mirjax.signal import mel


def test_networks_against_torch(golden_inputs):
    """Oracle: torch.nn.functional, written literally, on a real clip."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    x = torch.tensor(golden_inputs["logmel"])[None, None]
    wave = torch.tensor(golden_inputs["wave12k"])[None, None]

    def vgg(weights):
        y = x.tile((1, 1, 3, 1))[:, :, :1376]
        means = []
        for i, pool in enumerate(((4, 2), (4, 3), (5, 2), (4, 2), (4, 4)), start=1):
            y = functional.conv2d(y, weights[f"conv{i}"].permute(3, 2, 0, 1), padding=1)
            y = functional.max_pool2d(functional.elu(y), pool)
            means.append(y.mean(dim=(2, 3)))
        return torch.cat(means, dim=1)

    def vertical(weights):
        y = functional.relu(functional.conv2d(x, weights["conv"].permute(3, 2, 0, 1)))
        return functional.max_pool2d(y, (1, 11)).mean(dim=(2, 3))

    def temporal(weights):
        means = []
        for length in (165, 128, 64, 32):
            padded = functional.pad(x.mean(dim=3), ((length - 1) // 2, length // 2))
            y = functional.relu(functional.conv1d(padded, weights[f"conv_temporal_{length}"].permute(2, 1, 0)))
            means.append(y.mean(dim=2))
        return torch.cat(means, dim=1)

    def sample(weights):
        y = functional.relu(functional.conv1d(wave, weights["stack1"].permute(2, 1, 0), stride=3))
        means = [y.mean(dim=2)]
        for i in range(2, 8):
            y = functional.relu(functional.conv1d(y, weights[f"stack{i}"].permute(2, 1, 0), padding=1))
            y = functional.max_pool1d(y, 3)
            means.append(y.mean(dim=2))
        return torch.cat(means, dim=1)

    for name, n, network in (("vgg", 7, vgg), ("7x86", 40, vertical), ("temporal", 8, temporal), ("sample", 9, sample)):
        model = zoo.build(name, n)
        variables = features.initialise(model, jax.random.key(n))
        kernels = {
            key: torch.tensor(np.asarray(part["kernel"])) for key, part in variables["params"]["front_end"].items()
        }
        expected = network(kernels).numpy()[0]
        found = features.extract(model, variables, golden_inputs["wave12k"][None])[0]
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max(), name


def test_mel_against_nnaudio(golden_inputs):
    """Oracle: nnAudio's MelSpectrogram (a convolution with Fourier kernels), on a real clip."""
    torch = pytest.importorskip("torch")
    features_of = pytest.importorskip("nnAudio.features")
    layer = features_of.MelSpectrogram(
        sr=12_000, n_fft=512, hop_length=256, n_mels=96, fmin=0, fmax=None, pad_mode="constant", verbose=False
    )
    audio = golden_inputs["wave12k"]
    expected = layer(torch.tensor(audio)[None])[0].detach().numpy().T
    found = mel.mel_spectrogram(jnp.asarray(audio), sample_rate=12_000, n_fft=512, hop_length=256, n_mels=96)
    assert np.abs(np.asarray(found) - expected).max() <= 1e-5 * np.abs(expected).max()
