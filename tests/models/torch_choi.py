"""Torch's side of the parity tests of Choi's taggers, the singing-voice network and the Siamese branch.

Run by `parity.py choi`. Maps are (batch, channels, time, frequency) in torch; trees hold (time, frequency, in, out).
Weights, running averages and inputs are drawn here; inputs are quarters, so that the frozen files are small.
"""

import torch
from torch.nn import functional


def draw(*shape, scale=1.0):
    """Normal weights."""
    return torch.randn(*shape) * scale


class Tree:
    """Variables of this project, collected while torch computes with them."""

    def __init__(self):
        self.variables = {"params": {}, "batch_stats": {}}

    def put(self, kind, path, **arrays):
        node = self.variables[kind]
        for part in path.split("/"):
            node = node.setdefault(part, {})
        node.update({name: values.numpy() for name, values in arrays.items()})

    def conv(self, path, x, filters, size, **options):
        """Convolution with bias, kernel (time, frequency)."""
        fan_in = x.shape[1] * size[0] * size[1]
        weight, bias = draw(filters, x.shape[1], *size, scale=(2 / fan_in) ** 0.5), draw(filters, scale=0.3)
        self.put("params", path, kernel=weight.permute(2, 3, 1, 0), bias=bias)
        return functional.conv2d(x, weight, bias, **options)

    def norm(self, path, x, axis=1, epsilon=1e-3):
        """Batch norm in evaluation, along one axis of x."""
        size = x.shape[axis]
        mean, var, scale, shift = draw(size, scale=0.3), torch.rand(size) + 0.5, torch.rand(size) + 0.5, draw(size)
        self.put("params", path, scale=scale, bias=shift)
        self.put("batch_stats", path, mean=mean, var=var)
        moved = x.movedim(axis, 1)
        return functional.batch_norm(moved, mean, var, scale, shift, eps=epsilon).movedim(1, axis)

    def dense(self, path, x, units):
        """Dense layer."""
        weight, bias = draw(units, x.shape[1], scale=x.shape[1] ** -0.5), draw(units, scale=0.3)
        self.put("params", path, kernel=weight.T, bias=bias)
        return functional.linear(x, weight, bias)

    def gru(self, path, x, units):
        """GRU that resets before the recurrent product (Cho et al. 2014), from x (batch, steps, channels)."""
        kernel, recurrent = draw(x.shape[2], 3 * units, scale=0.5), draw(units, 3 * units, scale=0.5)
        bias = draw(3 * units, scale=0.3)
        self.put("params", path, kernel=kernel, recurrent_kernel=recurrent, bias=bias)
        h, states = torch.zeros(x.shape[0], units), []
        for step in x.unbind(1):
            z_x, r_x, h_x = (step @ kernel + bias).split(units, 1)
            z_h, r_h = (h @ recurrent[:, : 2 * units]).split(units, 1)
            z, r = torch.sigmoid(z_x + z_h), torch.sigmoid(r_x + r_h)
            h = z * h + (1 - z) * torch.tanh(h_x + (r * h) @ recurrent[:, 2 * units :])
            states.append(h)
        return torch.stack(states, 1)

    def result(self, x, **outputs):
        """(x, variables, outputs) as `parity` takes them."""
        found = {kind: tree for kind, tree in self.variables.items() if tree}
        return x[:, 0].numpy(), found, {name: values.numpy() for name, values in outputs.items()}


def patch(rows, frames, bands):
    """(rows, 1, frames, bands) of quarters."""
    return torch.randint(-8, 9, (rows, 1, frames, bands)) / 4


def flat(x):
    """(batch, channels, time, frequency) → one vector in the order time, frequency, channel."""
    return x.permute(0, 2, 3, 1).flatten(1)


def crnn():
    """MusicTaggerCRNN at n = 8, three recurrent steps."""
    tree, inputs = Tree(), patch(2, 214, 96)
    x = functional.pad(inputs, (0, 0, 37, 37))
    x = tree.norm("front_end/parts_1/input_norm", x, axis=3)
    for i, (filters, pool) in enumerate(zip((8, 16, 16, 16), ((2, 2), (3, 3), (4, 4), (4, 4)), strict=True), 1):
        x = tree.conv(f"front_end/parts_1/conv{i}_block", x, filters, (3, 3), padding=1)
        x = functional.elu(tree.norm(f"front_end/parts_1/conv{i}_block/batch_norm", x))
        x = functional.max_pool2d(x, pool)
    x = x.permute(0, 2, 3, 1).flatten(2)
    for i in (1, 2):
        x = tree.gru(f"back_end/gru{i}_forward", x, 4)
    return tree.result(inputs, embedding=x[:, -1], logits=tree.dense("head/output", x[:, -1], 5))


def singing():
    """The network of 2016 at n = 4."""
    tree, inputs = Tree(), patch(2, 115, 80)
    x, leak = inputs, lambda x: functional.leaky_relu(x, 0.01)
    for i, (filters, size) in enumerate([(4, 3), (2, 3), (8, 3), (4, 3), (8, 18)], 1):
        x = leak(tree.conv(f"front_end/conv{i}_block", x, filters, (3, size)))
        x = functional.max_pool2d(x, {2: (3, 3), 5: (1, 4)}.get(i, 1))
    x = flat(x)
    for i, units in enumerate((16, 4), 1):
        x = leak(tree.dense(f"head/dense{i}_layer", x, units))
    return tree.result(inputs, embedding=x, logits=tree.dense("head/output", x, 1))


def siamese():
    """The Siamese branch at n = 2."""
    tree, inputs = Tree(), patch(2, 80, 80)
    normal, parts = tree.norm("input_norm", inputs), []
    for name, size, pool in (("stack_a", (11, 21), (4, 20)), ("stack_b", (21, 11), (20, 4))):
        x = tree.conv(f"{name}_block", normal, 2, size, padding=(size[0] // 2, size[1] // 2))
        x = functional.max_pool2d(functional.relu(x), pool)
        parts.append(flat(tree.norm(f"{name}_norm", x)))
    return tree.result(inputs, embedding=functional.elu(tree.dense("dense", torch.cat(parts, 1), 32)))


def make():
    """{case: (x, variables, outputs)}."""
    torch.manual_seed(0)
    with torch.no_grad():
        return {"crnn": crnn(), "singing": singing(), "siamese": siamese()}
