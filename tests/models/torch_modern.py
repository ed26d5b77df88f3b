"""Torch's side of the parity tests of `modern`: both networks, small. Run by `parity.py modern`.

The filter bank and the positions are written out element by element; the transformer blocks are torch's own encoder
layers. `test_modern.NETWORKS` has the same networks.
"""

import math

import torch
from torch import nn
from torch.nn import functional
from torch_backends import conv_weights, dense_weights, multi_head_weights, random_norm

NOTES, HARMONICS, BINS, FMIN, RATE = 16, 3, 65, 500.0, 16_000


def _filter_bank(q):
    """Triangle by triangle: [bins, notes, harmonics]."""
    bank = torch.zeros(BINS, NOTES, HARMONICS, dtype=torch.float64)
    for k in range(BINS):
        f = k * RATE / 2 / (BINS - 1)
        for i in range(NOTES):
            for h in range(HARMONICS):
                centre = (h + 1) * FMIN * 2 ** (i / 12)
                width = (0.1079 * centre + 24.7) / q
                bank[k, i, h] = max(0.0, 1 - 2 * abs(f - centre) / width)
    return bank.float()


class _Block(nn.Module):
    """Plain or residual layer: the residual has two convolutions."""

    def __init__(self, inputs, outputs, pool, residual):
        super().__init__()
        self.pool = pool
        self.convs = [nn.Conv2d(inputs, outputs, 3, padding=1)]
        self.convs += [nn.Conv2d(outputs, outputs, 3, padding=1)] if residual else []
        self.norms = [random_norm(nn.BatchNorm2d, outputs, 1e-5) for _ in self.convs]

    def forward(self, x):
        y = self.norms[0][0](self.convs[0](x))
        if len(self.convs) > 1:
            y = x + self.norms[1][0](self.convs[1](functional.relu(y)))
        return functional.max_pool2d(functional.relu(y), self.pool)


@torch.no_grad()
def _harmonic():
    q = torch.tensor(0.8)
    x = torch.rand(2, 27, BINS) ** 4
    front, front_params, front_stats = random_norm(nn.BatchNorm2d, HARMONICS, 1e-5)
    sizes = ((HARMONICS, 4, (2, 2), False), (4, 4, (2, 2), True), (4, 6, (3, 2), False))
    blocks = [_Block(*size) for size in sizes]
    hidden, output = nn.Linear(12, 6), nn.Linear(6, 5)
    norm, norm_params, norm_stats = random_norm(nn.BatchNorm1d, 6, 1e-5)

    power = torch.einsum("btk,kfh->bhtf", x, _filter_bank(q))
    y = front(10 * torch.log10(power.clamp(min=1e-10)))
    for block in blocks:
        y = block(y)
    pooled = y.amax(2).transpose(1, 2).flatten(1)  # (batch, channels, bands): bands first, then channels
    embedding = functional.relu(norm(hidden(pooled)))

    layers, averages = {"input_norm": front_params}, {"input_norm": front_stats}
    for i, block in enumerate(blocks):
        for suffix, conv, (_, params, stats) in zip(("", "2"), block.convs, block.norms, strict=False):
            name = f"layer{i + 1}_block{suffix}"
            layers[name] = conv_weights(conv) | {"batch_norm": params}
            averages[name] = {"batch_norm": stats}
    head = {"dense1_layer": dense_weights(hidden), "dense1_norm": norm_params, "output": dense_weights(output)}
    variables = {
        "params": {"front_end": {"parts_0": {"q": q.numpy()}, "parts_1": layers}, "head": head},
        "batch_stats": {"front_end": {"parts_1": averages}, "head": {"dense1_norm": norm_stats}},
    }
    return x.numpy(), variables, {"embedding": embedding.numpy(), "logits": output(embedding).numpy()}


@torch.no_grad()
def _transformer(channels=12, heads=3, bands=32, frames=70):
    x = torch.randn(2, frames, bands)
    norm, norm_params, norm_stats = random_norm(nn.BatchNorm2d, 1)
    patches = nn.Conv2d(1, channels, 16, 16)
    y = patches(norm(x[:, None]))  # (batch, channels, steps, places)
    _, _, steps, places = y.shape
    frequency = torch.randn(places, channels) * 0.3
    tree = {"frequency": frequency.numpy()}
    for t in range(steps):
        for j in range(channels):
            angle = t / 10_000 ** (2 * (j // 2) / channels)
            y[:, j, t] += math.cos(angle) if j % 2 else math.sin(angle)
    y = (y + frequency.T[None, :, None]).flatten(2).transpose(1, 2)
    for i in range(2):
        layer = nn.TransformerEncoderLayer(
            channels, heads, 4 * channels, 0.0, "gelu", batch_first=True, norm_first=True
        ).eval()
        for each in (layer.norm1, layer.norm2):
            each.weight.uniform_(0.5, 1.5)
            each.bias.normal_(0, 0.3)
        tree[f"transformer{i + 1}"] = {
            "attention": multi_head_weights(layer.self_attn),
            "attention_norm": _layer_norm_weights(layer.norm1),
            "dense_norm": _layer_norm_weights(layer.norm2),
            "dense1": dense_weights(layer.linear1),
            "dense2": dense_weights(layer.linear2),
        }
        y = layer(y)
    last = nn.LayerNorm(channels)
    last.weight.uniform_(0.5, 1.5)
    last.bias.normal_(0, 0.3)
    tree["norm"] = _layer_norm_weights(last)
    output = nn.Linear(channels, 5)
    embedding = last(y).mean(1)
    front = {"parts_0": {"input_norm": norm_params, "patches_block": conv_weights(patches)}, "parts_1": tree}
    variables = {
        "params": {"front_end": front, "head": {"output": dense_weights(output)}},
        "batch_stats": {"front_end": {"parts_0": {"input_norm": norm_stats}}},
    }
    return x.numpy(), variables, {"embedding": embedding.numpy(), "logits": output(embedding).numpy()}


def _layer_norm_weights(layer):
    return {"scale": layer.weight.detach().numpy(), "bias": layer.bias.detach().numpy()}


def make():
    """{case: (x, variables, outputs)}."""
    torch.manual_seed(0)
    return {"harmonic_cnn": _harmonic(), "patch_transformer": _transformer()}
