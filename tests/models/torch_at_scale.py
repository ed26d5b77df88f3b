"""Torch's side of the parity test of the at-scale family (`parity.py`): networks written out with torch alone.

Cases: `waveform` (nine widths of n = 2, squeeze-excitation), `spectrogram`, `spectrogram_legacy` (normalisation of one
scale and one shift), `sample_cnn`, `timbre`.
"""

import numpy as np
import torch
import torch.nn.functional as F

EPSILON = 1e-3


class Weights:
    """Random weights, drawn where they are used, and kept in the tree of this project."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.tree = {}

    def _put(self, path, values):
        node = self.tree
        *parents, leaf = path.split("/")
        for part in parents:
            node = node.setdefault(part, {})
        node[leaf] = values.astype(np.float32)
        return torch.from_numpy(node[leaf])

    def conv(self, path, shape):
        """Kernel (out, in, …) in torch's order, and bias."""
        fan_in = int(np.prod(shape[1:]))
        kernel = self.random.normal(size=shape) / np.sqrt(fan_in)
        order = (*range(2, len(shape)), 1, 0)
        self._put(f"params/{path}/kernel", np.ascontiguousarray(kernel.transpose(order)))
        bias = self._put(f"params/{path}/bias", self.random.normal(size=shape[0]) * 0.2)
        return torch.from_numpy(kernel.astype(np.float32)), bias

    def norm(self, path, channels):
        """Mean, variance, scale (some negative) and shift."""
        mean = self._put(f"batch_stats/{path}/mean", self.random.normal(size=channels) * 0.3)
        var = self._put(f"batch_stats/{path}/var", self.random.uniform(0.5, 2, channels))
        scale = self._put(f"params/{path}/scale", self.random.uniform(-0.3, 1.5, channels))
        shift = self._put(f"params/{path}/bias", self.random.normal(size=channels) * 0.2)
        return mean, var, scale, shift


def normalise(x, weights, path, whole=False):
    if not whole:
        return F.batch_norm(x, *weights.norm(path, x.shape[1]), eps=EPSILON)
    mean, var, scale, shift = weights.norm(path, 1)
    return (x - mean) / torch.sqrt(var + EPSILON) * scale + shift


def conv1d(x, weights, path, width, size, **settings):
    return F.conv1d(x, *weights.conv(path, (width, x.shape[1], size)), **settings)


def dense(x, weights, path, units):
    kernel, bias = weights.conv(path, (units, x.shape[1]))
    return F.linear(x, kernel, bias)


def same(x, size):
    """Zeros as TensorFlow puts them: the odd one after."""
    return F.pad(x, ((size - 1) // 2, size // 2))


def back_end(x, weights, filters, legacy):
    def layer(x, name, padding, whole):
        y = torch.relu(conv1d(x, weights, f"back_end/{name}_block", filters, 7, padding=padding))
        return normalise(y, weights, f"back_end/{name}_block/batch_norm", whole)

    x = layer(x, "shared1", 0, False)
    x = x + layer(x, "shared2", 3, legacy)
    x = F.max_pool1d(x, 2)
    x = x + layer(x, "shared3", 3, legacy)
    return torch.cat([x.amax(dim=2), x.mean(dim=2)], dim=1)


def tags(x, weights, units, classes=50):
    x = normalise(torch.relu(dense(x, weights, "head/dense1_layer", units)), weights, "head/dense1_norm")
    return {"embedding": x, "logits": dense(x, weights, "head/output", classes)}


def waveform(x, weights):
    """`at_scale_waveform(2, squeeze_excitation=True, ratio=2)`."""
    y = torch.from_numpy(x)[:, None]
    y = torch.relu(conv1d(y, weights, "front_end/parts_0/conv1_block", 2, 3, stride=3))
    y = normalise(y, weights, "front_end/parts_0/conv1_block/batch_norm")
    for i, width in enumerate((2, 2, 4, 4, 4, 8), start=2):
        path = f"front_end/parts_{2 * i - 3}/pool{i}_block"
        y = torch.relu(conv1d(y, weights, path, width, 3))
        y = F.max_pool1d(normalise(y, weights, f"{path}/batch_norm"), 3)
        gates = f"front_end/parts_{2 * i - 2}"
        hidden = torch.relu(dense(y.mean(dim=2), weights, f"{gates}/squeeze", 2 * width))
        y = y * torch.sigmoid(dense(hidden, weights, f"{gates}/excite", width))[:, :, None]
    return tags(back_end(y, weights, 16, legacy=False), weights, 16)


def vertical(x, weights, path, frames, bands, filters):
    kernel = weights.conv(path, (filters, 1, frames, bands))
    y = torch.relu(F.conv2d(F.pad(x, (0, 0, (frames - 1) // 2, frames // 2)), *kernel))
    return normalise(y, weights, f"{path}/batch_norm").amax(dim=3)


def spectrogram(x, weights, legacy=False):
    """`at_scale_spectrogram(1)`."""
    x = torch.from_numpy(x)[:, None]
    maps = []
    for frames, bands, filters in ((7, 86, 1), (3, 86, 2), (1, 86, 4), (7, 38, 1), (3, 38, 2), (1, 38, 4)):
        path = f"front_end/branches_0/timbral_{frames}x{bands}_block"
        maps.append(vertical(x, weights, path, frames, bands, filters))
    for frames, filters in ((165, 1), (128, 2), (64, 4), (32, 8)):
        path = f"front_end/branches_1/temporal_{frames}_block"
        y = torch.relu(conv1d(same(x.mean(dim=3), frames), weights, path, filters, frames))
        maps.append(normalise(y, weights, f"{path}/batch_norm"))
    return tags(back_end(torch.cat(maps, dim=1), weights, 32, legacy), weights, 31)


def sample_cnn(x, weights):
    """`sample_cnn(2)`."""
    y = torch.from_numpy(x)[:, None]

    def block(y, path, width, **settings):
        y = conv1d(y, weights, path, width, 3, **settings)
        return torch.relu(normalise(y, weights, f"{path}/batch_norm"))

    y = block(y, "front_end/parts_0/conv1_block", 2, stride=3)
    for i, width in enumerate((2, 2, 4, 4, 4, 4, 4, 4, 8), start=2):
        y = F.max_pool1d(block(y, f"front_end/parts_0/pool{i}_block", width, padding=1), 3)
    y = block(y, "front_end/parts_1/conv11_block", 8, padding=1)[:, :, 0]
    return {"embedding": y, "logits": dense(y, weights, "head/output", 50)}


def timbre(x, weights):
    """`timbre_220k(2)`."""
    x = normalise(torch.from_numpy(x)[:, None], weights, "front_end/parts_0/input_norm")
    filters = {76: (2, 1, 1, 1), 57: (3, 2, 1, 1), 19: (3, 2, 1, 1)}
    maps = []
    for bands, widths in filters.items():
        for frames, width in zip((1, 3, 5, 7), widths, strict=True):
            path = f"front_end/parts_0/timbral_{frames}x{bands}_block"
            maps.append(vertical(x, weights, path, frames, bands, width))
    y = torch.relu(conv1d(torch.cat(maps, dim=1), weights, "front_end/parts_1/pool2_block", 3, 8))
    y = F.max_pool1d(y, 4)
    y = torch.relu(dense(y.transpose(1, 2).flatten(1), weights, "head/dense1_layer", 10))
    return {"embedding": y, "logits": dense(y, weights, "head/output", 50)}


def _inputs(seed, shape):
    """Random numbers in steps of 1/64, which compress."""
    return (np.random.default_rng(seed).normal(size=shape) * 64).round().astype(np.float32) / 64


def make():
    """{case: (x, variables, outputs)}."""
    networks = {
        "waveform": (waveform, (2, 19_700)),
        "spectrogram": (spectrogram, (2, 41, 96)),
        "spectrogram_legacy": (lambda x, weights: spectrogram(x, weights, legacy=True), (2, 41, 96)),
        "sample_cnn": (sample_cnn, (1, 59_049)),
        "timbre": (timbre, (2, 187, 96)),
    }
    cases = {}
    for seed, (case, (network, shape)) in enumerate(networks.items()):
        x, weights = _inputs(seed, shape), Weights(100 + seed)
        with torch.no_grad():
            outputs = network(x, weights)
        cases[case] = (x, weights.tree, {name: value.numpy() for name, value in outputs.items()})
    return cases
