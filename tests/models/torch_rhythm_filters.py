"""Torch's side of the parity test of the rhythm filters (`parity.py`), written out with torch alone.

Cases: `black_box` (n = 2), `time_frequency` (n = 2), `op_net` (n = 1). Numbers are rounded to few digits, so that the
frozen files are small.
"""

import numpy as np
import torch
import torch.nn.functional as F


class Weights:
    """Random weights, drawn where they are used, and kept in the tree of this project."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.tree = {}

    def draw(self, shape, deviation=1.0, lowest=None):
        """Random numbers of 8 bits or so."""
        values = self.random.normal(size=shape) if lowest is None else self.random.uniform(lowest, 1.5, shape)
        return (np.round(values * 32) / 32 * 2.0 ** np.round(np.log2(deviation))).astype(np.float32)

    def put(self, path, values):
        """Keep an array under its path."""
        node = self.tree
        *parents, leaf = path.split("/")
        for part in parents:
            node = node.setdefault(part, {})
        node[leaf] = np.ascontiguousarray(values)

    def conv(self, path, shape, bias=True):
        """Kernel (out, in, …) in torch's order, and bias."""
        kernel = self.draw(shape, np.prod(shape[1:]) ** -0.5)
        self.put(f"params/{path}/kernel", kernel.transpose(*range(2, len(shape)), 1, 0))
        if not bias:
            return torch.from_numpy(kernel), None
        shift = self.draw(shape[:1], 0.25)
        self.put(f"params/{path}/bias", shift)
        return torch.from_numpy(kernel), torch.from_numpy(shift)

    def norm(self, path, channels):
        """Mean, variance, scale (some negative) and shift."""
        mean, var = self.draw(channels, 0.25), self.draw(channels, lowest=0.5)
        scale, shift = self.draw(channels, lowest=-0.3), self.draw(channels, 0.25)
        self.put(f"batch_stats/{path}/mean", mean)
        self.put(f"batch_stats/{path}/var", var)
        self.put(f"params/{path}/scale", scale)
        self.put(f"params/{path}/bias", shift)
        return [torch.from_numpy(values) for values in (mean, var, scale, shift)]

    def dense(self, x, path, units):
        """Dense layer on [B, in]."""
        return F.linear(x, *self.conv(path, (units, x.shape[1])))


def flat(x):
    """[B, C, T, F] → [B, T·F·C]."""
    return x.permute(0, 2, 3, 1).flatten(1)


def _branch(x, weights, name, filters, kernel, pool):
    y = F.relu(F.conv2d(x, *weights.conv(f"front_end/{name}_block", (filters, 1, *kernel))))
    return F.max_pool2d(y, tuple(p or size for p, size in zip(pool, y.shape[2:], strict=True)))


def _black_box(x, weights):
    y = flat(_branch(x, weights, "rectangular", 2, (8, 12), (1, 4)))
    y = F.relu(weights.dense(y, "head/dense1_layer", 13))
    return y, weights.dense(y, "head/output", 8)


def _time_frequency(x, weights):
    time = _branch(x, weights, "time", 2, (60, 1), (1, 0))
    frequency = _branch(x, weights, "frequency", 2, (1, 32), (0, 1))
    y = torch.cat([flat(time), flat(frequency)], dim=1)
    y = F.relu(weights.dense(y, "head/dense1_layer", 13))
    return y, weights.dense(y, "head/output", 8)


def _op_net(x, weights):
    groups = ((5, range(6, 42, 5)), (1, range(46, 217, 5)))
    maps = [
        _branch(x, weights, f"shape_{k}x1", filters, (k, 1), (0, 4)) for filters, lengths in groups for k in lengths
    ]
    y = flat(torch.cat(maps, dim=1))
    return y, weights.dense(y, "head/output", 8)


def make():
    """{case: (x, variables, outputs)}."""
    cases = {"black_box": (_black_box, 80), "time_frequency": (_time_frequency, 80), "op_net": (_op_net, 250)}
    made = {}
    for seed, (case, (network, steps)) in enumerate(cases.items()):
        weights = Weights(seed)
        x = weights.draw((2, steps, 40))
        embedding, logits = network(torch.from_numpy(x)[:, None], weights)
        made[case] = (x, weights.tree, {"embedding": embedding.numpy(), "logits": logits.numpy()})
    return made
