"""Torch's side of the parity test of Kim et al.: MS-CR@4 at n = 2, from "self" and "tag", with the self head.

Run by `parity.py multi_source`. Layers are torch's own modules, PyTorch being the paper's framework; the tree's maps
are (time, frequency, channels).
"""

import torch
from torch import nn

N, FRAMES, SOURCES = 2, 140, ("self", "tag")


def shake(module):
    """Running averages, scales and shifts away from 0 and 1."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            norm.weight.uniform_(0.5, 1.5)
            norm.running_var.uniform_(0.2, 1.5)
            norm.bias.normal_(0, 0.3)
            norm.running_mean.normal_(0, 0.3)
    return module.eval()


def kernel(layer):
    """Weights of a convolution or dense layer."""
    weight = layer.weight.detach()
    weight = weight.permute(2, 3, 1, 0) if weight.ndim == 4 else weight.T
    return {"kernel": weight.numpy(), "bias": layer.bias.detach().numpy()}


def norm(layer):
    """(params, running averages) of a batch norm."""
    return (
        {"scale": layer.weight.detach().numpy(), "bias": layer.bias.detach().numpy()},
        {"mean": layer.running_mean.numpy(), "var": layer.running_var.numpy()},
    )


class Part(nn.Module):
    """Convolution blocks of (inputs, outputs, size, pool?) and their tree, block by block."""

    def __init__(self, specs, names):
        super().__init__()
        self.names = names
        self.pools = [pool for *_, pool in specs]
        self.convs = nn.ModuleList(
            nn.Conv2d(i, o, k, stride=(2, 1) if k == 5 else 1, padding=k // 2) for i, o, k, _ in specs
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(o) for _, o, _, _ in specs)

    def forward(self, x):
        for conv, batch_norm, pool in zip(self.convs, self.norms, self.pools, strict=True):
            x = torch.relu(batch_norm(conv(x)))
            x = nn.functional.max_pool2d(x, 2) if pool else x
        return x

    def tree(self):
        params, stats = {}, {}
        for name, conv, batch_norm in zip(self.names, self.convs, self.norms, strict=True):
            scales, averages = norm(batch_norm)
            params[f"{name}_block"] = {**kernel(conv), "batch_norm": scales}
            stats[f"{name}_block"] = {"batch_norm": averages}
        return params, stats


def make():
    """{case: (x, variables, outputs)}; `tag` are logits of a source, `pair` those of the self head for both rows."""
    torch.manual_seed(0)
    with torch.no_grad():
        stem = shake(Part([(2, 2, 5, True), (2, 4, 3, True), (4, 8, 3, True)], ["conv1", "conv2", "conv3"]))
        stem_params, stem_stats = stem.tree()
        params, stats = {"stem": stem_params}, {"stem": stem_stats}
        x = torch.randint(-8, 9, (2, 2, FRAMES, 128)) / 4
        shared, features = stem(x), []
        for source in SOURCES:
            names = [f"{source}_{name}" for name in ("conv4", "conv5", "conv61", "conv62")]
            convs = shake(Part([(8, 8, 3, True), (8, 16, 3, True), (16, 32, 3, False), (32, 32, 1, False)], names))
            dense, batch_norm = nn.Linear(32, 32), shake(nn.BatchNorm1d(32))
            features.append(torch.relu(batch_norm(dense(convs(shared).mean((2, 3))))))
            (conv_params, conv_stats), (scales, averages) = convs.tree(), norm(batch_norm)
            params[f"branches_{source}"] = {"convs": conv_params, "dense": kernel(dense), "batch_norm": scales}
            stats[f"branches_{source}"] = {"convs": conv_stats, "batch_norm": averages}
        tag, hidden, pair_norm, pair = nn.Linear(32, 7), nn.Linear(64, 16), shake(nn.BatchNorm1d(16)), nn.Linear(16, 2)
        scales, averages = norm(pair_norm)
        params |= {
            "outputs_tag": kernel(tag),
            "self_head": {"dense1_layer": kernel(hidden), "dense1_norm": scales, "output": kernel(pair)},
        }
        stats["self_head"] = {"dense1_norm": averages}
        both = torch.cat([features[0], features[0].flip(0)], 1)
        outputs = {
            "embedding": torch.cat(features, 1),
            "tag": tag(features[1]),
            "pair": pair(torch.relu(pair_norm(hidden(both)))),
        }
        outputs = {name: values.numpy() for name, values in outputs.items()}
        inputs = x.permute(0, 2, 3, 1).contiguous().numpy()
        return {"ms_cr_4": (inputs, {"params": params, "batch_stats": stats}, outputs)}
