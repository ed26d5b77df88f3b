"""Networks of few training examples, and VGGish, in torch alone: inputs, random weights and outputs for `parity`."""

import itertools

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch_companions import EPSILON, Tree, as_map, inputs, random_weights


def flat(x):
    """[B, C, T, F] in this project's order: time, frequency, channel."""
    return x.permute(0, 2, 3, 1).flatten(1)


class LogLearn(nn.Module):
    """y = ln(exp(a) x + ln(1 + exp(b)))."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(1.5)), nn.Parameter(torch.tensor(-0.5))

    def forward(self, x):
        return torch.log(torch.exp(self.a) * x + torch.log1p(torch.exp(self.b)))


class SbCnn(nn.Module):
    """24, 48, 48 filters of 5×5 and 64 units at n = 24."""

    def __init__(self, n):
        super().__init__()
        self.log = LogLearn()
        self.input_norm = nn.BatchNorm2d(1, EPSILON)
        self.convolutions = nn.ModuleList(nn.Conv2d(i, o, 5) for i, o in ((1, n), (n, 2 * n), (2 * n, 2 * n)))
        units = round(64 * n / 24)
        self.dense, self.output = nn.Linear(100 * n, units), nn.Linear(units, 10)

    def forward(self, x):
        x = self.input_norm(self.log(as_map(x)))
        for i, convolution in enumerate(self.convolutions):
            x = functional.relu(convolution(x))
            x = functional.max_pool2d(x, (4, 2)) if i < 2 else x
        x = functional.relu(self.dense(flat(x)))
        return {"embedding": x, "logits": self.output(x)}

    def tree(self):
        tree = Tree()
        tree.put("front_end/parts_0/log_learn", {name: getattr(self.log, name).detach().numpy() for name in "ab"})
        tree.put("front_end/parts_1/input_norm", self.input_norm)
        for i, convolution in enumerate(self.convolutions, start=1):
            tree.put(f"front_end/parts_1/conv{i}_block", convolution)
        tree.put("head/dense1_layer", self.dense)
        tree.put("head/output", self.output)
        return dict(tree)


class Vgg(nn.Module):
    """Five blocks with ELU; the last dense layer is the embedding, or the logits. Input norm by channel or frame."""

    def __init__(self, n, embedding, by_frame):
        super().__init__()
        self.embedding, self.by_frame = embedding, by_frame
        self.input_norm = nn.BatchNorm2d(128 if by_frame else 1, EPSILON)
        self.convolutions = nn.ModuleList(nn.Conv2d(n if i else 1, n, 3, padding=1) for i in range(5))
        self.norms = nn.ModuleList(nn.BatchNorm2d(n, EPSILON) for _ in range(5))
        self.output = nn.Linear(16 * n, 10)

    def forward(self, x):
        x = as_map(x)
        x = self.input_norm(x.transpose(1, 2)).transpose(1, 2) if self.by_frame else self.input_norm(x)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = functional.max_pool2d(norm(functional.elu(convolution(x))), 2)
        x = flat(x)
        return {"embedding": self.output(x)} if self.embedding else {"embedding": x, "logits": self.output(x)}

    def tree(self):
        tree = Tree()
        tree.put("front_end/input_norm", self.input_norm)
        for i, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True), start=1):
            tree.put(f"front_end/conv{i}_block", convolution)
            tree.put(f"front_end/conv{i}_block/batch_norm", norm)
        tree.put("head/dense1_layer" if self.embedding else "head/output", self.output)
        return dict(tree)


class Timbre(nn.Module):
    """One 7×108 filter for each class, its maximum."""

    def __init__(self, num_classes):
        super().__init__()
        self.input_norm, self.convolution = nn.BatchNorm2d(1, EPSILON), nn.Conv2d(1, num_classes, (7, 108))

    def forward(self, x):
        scores = self.convolution(self.input_norm(as_map(x))).amax(dim=(2, 3))
        return {"embedding": scores, "logits": scores}

    def tree(self):
        tree = Tree()
        tree.put("front_end/input_norm", self.input_norm)
        tree.put("front_end/conv1_block", self.convolution)
        return dict(tree)


class Vggish(nn.Module):
    """VGGish with ReLU on the embedding, or not, and ten classes."""

    names = ("conv1", "conv2", "conv3_1", "conv3_2", "conv4_1", "conv4_2")

    def __init__(self, n, relu):
        super().__init__()
        self.relu = relu
        sizes = (1, n, 2 * n, 4 * n, 4 * n, 8 * n, 8 * n)
        self.convolutions = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1) for i, o in itertools.pairwise(sizes))
        sizes = (24 * 8 * n, 64 * n, 64 * n, 2 * n)
        self.dense = nn.ModuleList(nn.Linear(i, o) for i, o in itertools.pairwise(sizes))
        self.output = nn.Linear(2 * n, 10)

    def forward(self, x):
        x = as_map(x)
        for name, convolution in zip(self.names, self.convolutions, strict=True):
            x = functional.relu(convolution(x))
            x = x if name.endswith("_1") else functional.max_pool2d(x, 2)
        x = flat(x)
        x = self.dense[2](functional.relu(self.dense[1](functional.relu(self.dense[0](x)))))
        x = functional.relu(x) if self.relu else x
        return {"embedding": x, "logits": self.output(x)}

    def tree(self):
        tree = Tree()
        for name, convolution in zip(self.names, self.convolutions, strict=True):
            tree.put(f"front_end/{name}_block", convolution)
        for i, part in enumerate(self.dense, start=1):
            tree.put(f"back_end/dense{i}_layer", part)
        tree.put("head/output", self.output)
        return dict(tree)


def case(network, seed, *shape):
    """(x, variables, outputs) of a torch network with random weights."""
    network, x = random_weights(network, seed), inputs(seed, *shape)
    with torch.no_grad():
        outputs = network(x)
    return x, network.tree(), {name: np.asarray(value) for name, value in outputs.items()}


def make():
    """{case: (x, variables, outputs)}; n = 2, the timbre network n = 1 and VGGish n = 1."""
    return {
        "sb_cnn": case(SbCnn(2), 1, 1, 128, 128),
        "vgg": case(Vgg(2, embedding=False, by_frame=False), 2, 1, 128, 128),
        "timbre": case(Timbre(4), 3, 2, 33, 128),
        "prototypical": case(Vgg(2, embedding=True, by_frame=False), 4, 1, 128, 128),
        "prototypical_legacy": case(Vgg(2, embedding=True, by_frame=True), 5, 1, 128, 128),
        "vggish": case(Vggish(1, relu=False), 6, 1, 96, 64),
        "vggish_relu": case(Vggish(1, relu=True), 7, 1, 96, 64),
    }
