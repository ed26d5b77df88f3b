"""Torch's side of the parity tests of back-ends and attention: one convolution, a back-end, one dense layer.

Run by `parity.py backends`. Weights are drawn here, running averages too; `test_backends.NETWORKS` has the same
networks. Maps are (batch, channels, time) in torch; trees hold (k, in, out).
"""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional

BANDS, CHANNELS, STEPS, CLASSES = 8, 6, 19, 3


def conv_weights(layer):
    """Kernel (k, in, out) and bias of a torch convolution."""
    axes = (*range(2, layer.weight.ndim), 1, 0)
    return {"kernel": layer.weight.detach().permute(axes).numpy(), "bias": layer.bias.detach().numpy()}


def dense_weights(layer):
    """Kernel (in, out) and bias of a torch linear layer."""
    found = {"kernel": layer.weight.detach().T.numpy()}
    return found if layer.bias is None else found | {"bias": layer.bias.detach().numpy()}


def random_norm(kind, channels, epsilon=1e-3):
    """A batch norm whose scale, shift and running averages are all drawn: (layer, params, batch_stats)."""
    layer = kind(channels, eps=epsilon).eval()
    with torch.no_grad():
        for values in (layer.weight, layer.running_var):
            values.uniform_(0.5, 1.5)
        for values in (layer.bias, layer.running_mean):
            values.normal_(0, 0.5)
    params = {"scale": layer.weight.detach().numpy(), "bias": layer.bias.detach().numpy()}
    return layer, params, {"mean": layer.running_mean.numpy(), "var": layer.running_var.numpy()}


class _Case:
    """Front convolution and output layer around a back-end: `back` (x [B, C, T] → [B, D]), its tree, its D."""

    def __init__(self, back, size, params=None, stats=None):
        self.back, self.params, self.stats = back, params, stats
        self.front = nn.Conv1d(BANDS, CHANNELS, 3, padding=1)
        self.output = nn.Linear(size, CLASSES)

    @torch.no_grad()
    def run(self):
        x = torch.randn(2, STEPS, BANDS)
        embedding = self.back(functional.relu(self.front(x.transpose(1, 2))))
        params = {"front_end": {"conv1_block": conv_weights(self.front)}}
        params |= {"back_end": self.params} if self.params else {}
        params |= {"head": {"output": dense_weights(self.output)}}
        variables = {"params": params} | ({"batch_stats": {"back_end": self.stats}} if self.stats else {})
        outputs = {"embedding": embedding.numpy(), "logits": self.output(embedding).numpy()}
        return x.numpy(), variables, outputs


def _pools():
    def back(x):
        return torch.cat([x.amax(2), x.mean(2), x.std(2, unbiased=False)], 1)

    return _Case(back, 3 * CHANNELS)


def _flatten():
    return _Case(lambda x: x.transpose(1, 2).flatten(1), STEPS * CHANNELS)


def _dense_concat(*, legacy=False, dense=True, filters=4):
    convs = [nn.Conv1d(CHANNELS if i == 0 else filters, filters, 7, padding=3) for i in range(3)]
    norms = [random_norm(nn.BatchNorm1d, filters) for _ in range(3)]

    def back(x):
        maps = [x]
        for i, (conv, (norm, *_)) in enumerate(zip(convs, norms, strict=True)):
            y = functional.relu(conv(maps[-1]))
            added = y if legacy and i else norm(y)
            maps.append(added if i == 0 else added + maps[-1])
        x = torch.cat(maps, 1) if dense else maps[-1]
        return torch.cat([x.amax(2), x.mean(2)], 1)

    params = {f"mid{i + 1}_block": conv_weights(conv) for i, conv in enumerate(convs)}
    params |= {f"mid{i + 1}_norm": weights for i, (_, weights, _) in enumerate(norms)}
    stats = {f"mid{i + 1}_norm": averages for i, (*_, averages) in enumerate(norms)}
    size = 2 * (CHANNELS + 3 * filters if dense else filters)
    return _Case(back, size, {"parts_0": params}, {"parts_0": stats})


def _strided(filters=5):
    convs = [nn.Conv1d(CHANNELS, filters, 4, 2), nn.Conv1d(filters, filters, 4, 2)]

    def back(x):
        for conv in convs:
            x = functional.relu(conv(x))
        return x.mean(2)

    return _Case(back, filters, {f"strided{i + 1}_block": conv_weights(conv) for i, conv in enumerate(convs)})


def _fully_convolutional(filters=5):
    conv = nn.Conv1d(CHANNELS, filters, 1)
    return _Case(lambda x: conv(x).mean(2), filters, {"class_maps_block": conv_weights(conv)})


def _positions(legacy):
    """Position by position, channel by channel."""
    table = torch.zeros(STEPS, CHANNELS, dtype=torch.float64)
    for t in range(STEPS):
        for j in range(CHANNELS):
            angle = t / 10_000 ** (2 * (j if legacy else j // 2) / CHANNELS)
            table[t, j] = math.cos(angle) if j % 2 else math.sin(angle)
    return table.float().T[None]


def _attention(legacy=False):
    conv = nn.Conv1d(CHANNELS, CHANNELS, 3, padding=1)

    def back(x):
        x = x + _positions(legacy)
        return (x * conv(x).softmax(2)).sum(2)

    return _Case(back, CHANNELS, {"score_block": conv_weights(conv)})


def _autopool():
    alpha = torch.tensor(1.7)
    return _Case(lambda x: (x * (alpha * x).softmax(2)).sum(2), CHANNELS, {"alpha": alpha.numpy()})


def _self_attention():
    bilinear = nn.Bilinear(CHANNELS, CHANNELS, 1, bias=False)

    def back(x):
        x = x.transpose(1, 2)
        left = x[:, :, None].expand(-1, -1, STEPS, -1).contiguous()
        right = x[:, None].expand(-1, STEPS, -1, -1).contiguous()
        weights = (bilinear(left, right)[..., 0] / math.sqrt(CHANNELS)).softmax(2)
        return torch.bmm(weights, x).mean(1)

    kernel = bilinear.weight.detach()[0].numpy()
    return _Case(back, CHANNELS, {"parts_0": {"self_attention1_bilinear": {"kernel": kernel}}})


def make():
    """{case: (x, variables, outputs)}."""
    torch.manual_seed(0)
    cases = {
        "pools": _pools,
        "flatten": _flatten,
        "dense_concat": _dense_concat,
        "dense_concat_legacy": lambda: _dense_concat(legacy=True, dense=False),
        "strided": _strided,
        "fully_convolutional": _fully_convolutional,
        "attention": _attention,
        "attention_legacy": lambda: _attention(legacy=True),
        "autopool": _autopool,
        "self_attention": _self_attention,
    }
    return {name: case().run() for name, case in cases.items()}


def multi_head(heads, x, real):
    """(weights as a tree, output) of torch's own multi-head attention for x f32[B, N, C], real bool[B, N]."""
    torch.manual_seed(1)
    layer = nn.MultiheadAttention(x.shape[-1], heads, batch_first=True)
    return multi_head_weights(layer), _apply_multi_head(layer, x, real)


def multi_head_weights(layer):
    """The tree of a `nn.MultiheadAttention`, its biases drawn anew."""
    with torch.no_grad():
        layer.in_proj_bias.normal_(0, 0.3)
        layer.out_proj.bias.normal_(0, 0.3)
    tree = {}
    parts = zip(layer.in_proj_weight.chunk(3), layer.in_proj_bias.chunk(3), strict=True)
    for name, (weight, bias) in zip(("query", "key", "value"), parts, strict=True):
        tree[name] = {"kernel": weight.detach().T.numpy(), "bias": bias.detach().numpy()}
    return tree | {"output": dense_weights(layer.out_proj)}


def _apply_multi_head(layer, x, real):
    with torch.no_grad():
        x, padding = torch.from_numpy(np.asarray(x)), torch.from_numpy(~np.asarray(real))
        return layer(x, x, x, key_padding_mask=padding)[0].numpy()
