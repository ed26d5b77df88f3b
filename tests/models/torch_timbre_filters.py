"""Torch's side of the parity test of the timbre filters (`parity.py`), written out with torch alone.

Cases: `phonemes` (n = 1), `irmas_multi` (n = 1: `same` with even kernels, batch norm, ELU), `han` (n = 1: more padding
than `same`, LeakyReLU), `mtt_timbre` and `mtt_timbre_legacy` (n = 1; the axes before the second convolution),
`mtt_small_rectangular` (n = 4).
"""

import torch
import torch.nn.functional as F
from torch_rhythm_filters import Weights, flat


def _same(x, kernel):
    (before, after), (below, above) = (((k - 1) // 2, k // 2) for k in kernel)
    return F.pad(x, (below, above, before, after))


def _conv(x, weights, path, filters, kernel, epsilon=None, *, bias=True):
    y = F.conv2d(x, *weights.conv(path, (filters, x.shape[1], *kernel), bias))
    return y if epsilon is None else F.batch_norm(y, *weights.norm(f"{path}/batch_norm", filters), eps=epsilon)


def _phonemes(x, weights):
    maps = []
    for frames, filters in ((1, 32), (5, 16), (10, 8)):
        for bands in (50, 70):
            y = F.elu(_conv(x, weights, f"front_end/shape_{frames}x{bands}_block", filters, (frames, bands)))
            maps.append(flat(F.max_pool2d(y, (y.shape[2], 2))))
    y = torch.cat(maps, dim=1)
    return y, weights.dense(y, "head/output", 3)


def _irmas_multi(x, weights):
    maps = []
    for frames, filters in ((1, 4), (3, 2), (5, 1)):
        for kernel in ((frames, 5), (frames, 80)):
            name = f"front_end/parts_0/shape_{frames}x{kernel[1]}_block"
            maps.append(F.max_pool2d(F.elu(_conv(_same(x, kernel), weights, name, filters, kernel, 1e-3)), (32, 24)))
    y = torch.cat(maps, dim=1)
    for name in ("conv1", "conv2"):
        y = _conv(_same(y, (3, 3)), weights, f"front_end/parts_1/{name}_block", 4, (3, 3), 1e-3)
        y = F.max_pool2d(F.elu(y), 2)
    y = F.elu(weights.dense(flat(y), "head/dense1_layer", 8))
    return y, weights.dense(y, "head/output", 11)


def _han(x, weights):
    for i in range(8):
        x = _conv(F.pad(x, (2, 2, 2, 2)), weights, f"front_end/conv{i + 1}_block", 2 ** (i // 2), (3, 3))
        x = F.leaky_relu(x, 0.33)
        if i in (1, 3, 5):
            x = F.max_pool2d(x, 3)
    y = F.leaky_relu(weights.dense(x.amax(dim=(2, 3)), "head/dense1_layer", 32), 0.33)
    return y, weights.dense(y, "head/output", 11)


def _mtt_timbre(x, weights, *, legacy=False):
    maps = []
    for bands, sizes in ((100, (10, 6, 3, 3)), (75, (15, 10, 5, 5)), (25, (15, 10, 5, 5))):
        for frames, filters in zip((1, 3, 5, 7), sizes, strict=True):
            name = f"front_end/parts_0/shape_{frames}x{bands}_block"
            y = _conv(F.pad(x, (0, 0, frames // 2, frames // 2)), weights, name, filters, (frames, bands))
            maps.append(F.max_pool2d(F.elu(y), (4, y.shape[3]))[..., 0])
    y = torch.cat(maps, dim=1)  # [B, 92, 46]
    if legacy:  # the released code: read as 46 steps of 92 channels
        y = y.reshape(-1, 46, 92).transpose(1, 2)
    part = "parts_2" if legacy else "parts_1"
    y = F.elu(F.conv1d(y, *weights.conv(f"front_end/{part}/conv1_block", (32, 92, 8))))
    y = F.max_pool1d(y, 4).transpose(1, 2).flatten(1)
    y = F.elu(weights.dense(y, "head/dense1_layer", 100))
    return y, weights.dense(y, "head/output", 3)


def _mtt_small_rectangular(x, weights):
    for i, (filters, pool) in enumerate(((4, (4, 1)), (4, (1, 4)), (8, 2), (4, 2), (2, 1))):
        y = _conv(x, weights, f"front_end/conv{i + 1}_block", filters, (3, 3), 1e-4, bias=False)
        x = F.max_pool2d(F.elu(y), pool)
    y = flat(x)
    return y, weights.dense(y, "head/output", 50)


def make():
    """{case: (x, variables, outputs)}."""
    cases = {
        "phonemes": (_phonemes, 21, 80),
        "irmas_multi": (_irmas_multi, 128, 96),
        "han": (_han, 43, 128),
        "mtt_timbre": (_mtt_timbre, 187, 128),
        "mtt_timbre_legacy": (lambda x, weights: _mtt_timbre(x, weights, legacy=True), 187, 128),
        "mtt_small_rectangular": (_mtt_small_rectangular, 187, 128),
    }
    made = {}
    for seed, (case, (network, steps, bands)) in enumerate(cases.items()):
        weights = Weights(10 + seed)
        x = weights.draw((1 if steps > 100 else 2, steps, bands))
        embedding, logits = network(torch.from_numpy(x)[:, None], weights)
        made[case] = (x, weights.tree, {"embedding": embedding.numpy(), "logits": logits.numpy()})
    return made
