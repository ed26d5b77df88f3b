"""The companion networks in torch alone: inputs, random weights and outputs for `parity`."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

EPSILON = 1e-3  # TensorFlow's


def inputs(seed, *shape):
    """Values that compress well: multiples of 1/8, not negative, as a log-mel's."""
    return (np.random.default_rng(seed).integers(0, 24, shape) / 8).astype(np.float32)


def random_weights(module, seed):
    """Gives every weight, bias, scale, shift and running average of a torch module a random value."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.weight.copy_(torch.randn(part.weight.shape, generator=generator))  # of either sign
                part.bias.copy_(torch.randn(part.bias.shape, generator=generator) / 4)
                part.running_mean.copy_(torch.randn(part.running_mean.shape, generator=generator) / 4)
                part.running_var.copy_(0.5 + torch.rand(part.running_var.shape, generator=generator))
            elif isinstance(part, (nn.Conv2d, nn.Conv1d, nn.Linear, nn.LSTM)):
                for weight in part.parameters(recurse=False):
                    scale = 1 / np.sqrt(weight[0].numel()) if weight.ndim > 1 else 0.3
                    weight.copy_(torch.randn(weight.shape, generator=generator) * float(scale))
    return module.eval()


def layer(part):
    """Parameters of a convolution or a dense layer, as this project stores them."""
    weight = part.weight.detach().numpy()
    return {
        "kernel": np.ascontiguousarray(np.moveaxis(weight, (0, 1), (-1, -2))),
        "bias": part.bias.detach().numpy(),
    }


class Tree(dict):
    """{"params": …, "batch_stats": …}, filled path by path."""

    def put(self, path, part):
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            stats = {"mean": part.running_mean.numpy(), "var": part.running_var.numpy()}
            self._at("batch_stats", path).update(stats)
            part = {"scale": part.weight.detach().numpy(), "bias": part.bias.detach().numpy()}
        self._at("params", path).update(layer(part) if isinstance(part, nn.Module) else part)

    def _at(self, kind, path):
        node = self.setdefault(kind, {})
        for name in path.split("/"):
            node = node.setdefault(name, {})
        return node


def as_map(x):
    """Spectrogram [B, T, F] as torch's [B, 1, T, F]."""
    return torch.tensor(x)[:, None]


def scaled(size, n, published):
    return max(1, (2 * size * n + published) // (2 * published))


class Musicnn(nn.Module):
    """musicnn and its variants: shapes (frames, bands, filters), n filters in the middle, a way to pool."""

    def __init__(self, shapes, n, published, pool, dense, legacy=False):
        super().__init__()
        self.shapes, self.pool, self.dense, self.legacy = shapes, pool, dense, legacy
        self.input_norm = nn.BatchNorm2d(1, EPSILON)
        self.convolutions = nn.ModuleList(nn.Conv2d(1, count, (frames, bands)) for frames, bands, count in shapes)
        self.norms = nn.ModuleList(nn.BatchNorm2d(count, EPSILON) for _, _, count in shapes)
        total = sum(count for _, _, count in shapes)
        self.middle = nn.ModuleList(nn.Conv1d(size, n, 7, padding=3) for size in (total, n, n))
        self.middle_norms = nn.ModuleList(nn.BatchNorm1d(n, EPSILON) for _ in range(3))
        size = total + 3 * n if dense else n
        if pool == "attention":
            self.scores = nn.Conv1d(size, size, 3, padding=1)
        if pool == "rnn":
            self.lstm = nn.LSTM(size, scaled(512, n, published), 2, batch_first=True)
        size = {"max mean": 2 * size, "rnn": scaled(512, n, published)}.get(pool, size)
        units = scaled(200, n, published)
        self.head_norm = nn.BatchNorm1d(size, EPSILON)
        self.dense1, self.dense1_norm = nn.Linear(size, units), nn.BatchNorm1d(units, EPSILON)
        self.output = nn.Linear(units, 50)

    def forward(self, x):
        x = self.input_norm(as_map(x))
        maps = []
        for (frames, _, _), convolution, norm in zip(self.shapes, self.convolutions, self.norms, strict=True):
            padded = functional.pad(x, (0, 0, (frames - 1) // 2, frames // 2))
            maps.append(norm(functional.relu(convolution(padded))).amax(dim=3))
        maps = [torch.cat(maps, dim=1)]
        for i, (convolution, norm) in enumerate(zip(self.middle, self.middle_norms, strict=True)):
            y = functional.relu(convolution(maps[-1]))
            if i == 0:
                maps.append(norm(y))
            else:
                maps.append(maps[-1] + (y if self.legacy else norm(y)))
        x = torch.cat(maps, dim=1) if self.dense else maps[-1]
        x = self.head_norm(self.summarise(x))
        x = self.dense1_norm(functional.relu(self.dense1(x)))
        return {"embedding": x, "logits": self.output(x)}

    def summarise(self, x):
        if self.pool == "max mean":
            return torch.cat([x.amax(dim=2), x.mean(dim=2)], dim=1)
        if self.pool == "rnn":
            return self.lstm(x.transpose(1, 2))[0][:, -1]
        if self.pool == "autopool":
            return (x * functional.softmax(0.7 * x, dim=2)).sum(dim=2)
        channels, num_steps = x.shape[1:]
        positions = torch.zeros(channels, num_steps)
        for channel in range(channels):
            angle = torch.arange(num_steps) / 10_000.0 ** (2 * (channel // 2) / channels)
            positions[channel] = torch.cos(angle) if channel % 2 else torch.sin(angle)
        x = x + positions
        return (x * functional.softmax(self.scores(x), dim=2)).sum(dim=2)

    def tree(self):
        tree = Tree()
        tree.put("front_end/input_norm", self.input_norm)
        for (frames, bands, _), convolution, norm in zip(self.shapes, self.convolutions, self.norms, strict=True):
            name = f"timbral_{frames}x{bands}" if bands > 1 else f"temporal_{frames}"
            tree.put(f"front_end/{name}_block", convolution)
            tree.put(f"front_end/{name}_block/batch_norm", norm)
        for i, (convolution, norm) in enumerate(zip(self.middle, self.middle_norms, strict=True), start=1):
            tree.put(f"back_end/parts_0/mid{i}_block", convolution)
            tree.put(f"back_end/parts_0/mid{i}_norm", norm)
        if self.pool == "attention":
            tree.put("back_end/parts_1/score_block", self.scores)
        if self.pool == "autopool":
            tree.put("back_end/parts_1", {"alpha": np.float32(0.7)})
        if self.pool == "rnn":
            for i in range(2):
                weights = {
                    name: getattr(self.lstm, f"{theirs}_l{i}").detach().numpy().T.copy()
                    for name, theirs in (
                        ("kernel", "weight_ih"),
                        ("recurrent_kernel", "weight_hh"),
                        ("bias", "bias_ih"),
                        ("recurrent_bias", "bias_hh"),
                    )
                }
                tree.put(f"back_end/parts_1/recurrent{i + 1}_forward", weights)
        tree.put("head/input_norm", self.head_norm)
        tree.put("head/dense1_layer", self.dense1)
        tree.put("head/dense1_norm", self.dense1_norm)
        tree.put("head/output", self.output)
        return dict(tree)


class Vgg(nn.Module):
    """Five blocks with musicnn's overlapping first pooling."""

    def __init__(self, n):
        super().__init__()
        self.input_norm = nn.BatchNorm2d(1, EPSILON)
        self.convolutions = nn.ModuleList(nn.Conv2d(n if i else 1, n, 3, padding=1) for i in range(5))
        self.norms = nn.ModuleList(nn.BatchNorm2d(n, EPSILON) for _ in range(5))
        self.output = nn.Linear(2 * n, 50)

    def forward(self, x):
        x = self.input_norm(as_map(x))
        for i, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            size, stride = [((4, 1), (2, 2)), ((2, 2), (2, 2)), ((4, 4), (4, 4))][(i > 0) + (i > 3)]
            x = functional.max_pool2d(norm(functional.relu(convolution(x))), size, stride)
        x = x.permute(0, 2, 3, 1).flatten(1)
        return {"embedding": x, "logits": self.output(x)}

    def tree(self):
        tree = Tree()
        tree.put("front_end/input_norm", self.input_norm)
        for i, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True), start=1):
            tree.put(f"front_end/conv{i}_block", convolution)
            tree.put(f"front_end/conv{i}_block/batch_norm", norm)
        tree.put("head/output", self.output)
        return dict(tree)


class Baseline(nn.Module):
    """Shapes (or a first convolution over all bands), a convolution over time, a dense layer of 100 scaled."""

    def __init__(self, shapes, n):
        super().__init__()
        self.shapes = shapes
        self.input_norm = nn.BatchNorm2d(1, EPSILON)
        if shapes:
            self.convolutions = nn.ModuleList(nn.Conv2d(1, count, (frames, bands)) for frames, bands, count in shapes)
            self.norms = nn.ModuleList(nn.BatchNorm2d(count, EPSILON) for _, _, count in shapes)
        else:
            self.first = nn.Conv2d(1, n, (8, 96))
        self.second = nn.Conv2d(sum(count for _, _, count in shapes) or n, n, (8, 1))
        units = scaled(100, n, 32)
        self.dense, self.output = nn.Linear((45 if shapes else 9) * n, units), nn.Linear(units, 50)

    def forward(self, x):
        x = self.input_norm(as_map(x))
        if self.shapes:
            maps = []
            for (frames, _, _), convolution, norm in zip(self.shapes, self.convolutions, self.norms, strict=True):
                y = norm(functional.relu(convolution(functional.pad(x, (0, 0, frames // 2, frames // 2)))))
                maps.append(y.amax(dim=3, keepdim=True))
            x = torch.cat(maps, dim=1)
        else:
            x = functional.max_pool2d(functional.relu(self.first(x)), (4, 1))
        x = functional.max_pool2d(functional.relu(self.second(x)), (4, 1))
        x = functional.relu(self.dense(x.permute(0, 2, 3, 1).flatten(1)))
        return {"embedding": x, "logits": self.output(x)}

    def tree(self):
        tree = Tree()
        if not self.shapes:
            tree.put("front_end/input_norm", self.input_norm)
            tree.put("front_end/conv1_block", self.first)
            tree.put("front_end/conv2_block", self.second)
        else:
            tree.put("front_end/parts_0/input_norm", self.input_norm)
            for (frames, bands, _), convolution, norm in zip(self.shapes, self.convolutions, self.norms, strict=True):
                tree.put(f"front_end/parts_0/timbral_{frames}x{bands}_block", convolution)
                tree.put(f"front_end/parts_0/timbral_{frames}x{bands}_block/batch_norm", norm)
            second = layer(self.second)
            tree.put("front_end/parts_1/conv2_block", {**second, "kernel": second["kernel"][:, 0]})
        tree.put("head/dense1_layer", self.dense)
        tree.put("head/output", self.output)
        return dict(tree)


def case(network, seed, *shape):
    """(x, variables, outputs) of a torch network with random weights."""
    network, x = random_weights(network, seed), inputs(seed, *shape)
    with torch.no_grad():
        outputs = network(x)
    return x, network.tree(), {name: value.numpy() for name, value in outputs.items()}


def make():
    """{case: (x, variables, outputs)}; n = 2, the one-shape networks n = 1."""
    shapes = ((7, 38, 6), (7, 67, 6), (128, 1, 2), (64, 1, 2), (32, 1, 2))
    one = ((7, 38, 9),)
    counts = {76: (1, 1, 1, 1), 57: (1, 1, 1, 1), 19: (1, 1, 1, 1)}  # of n = 2
    timbre = tuple(
        (frames, bands, count)
        for bands, of_bands in counts.items()
        for frames, count in zip((1, 3, 5, 7), of_bands, strict=True)
    )
    return {
        "musicnn": case(Musicnn(shapes, 2, 64, "max mean", True), 1, 2, 41, 96),
        "musicnn_legacy": case(Musicnn(shapes, 2, 64, "max mean", True, legacy=True), 2, 2, 40, 96),
        "musicnn_attention": case(Musicnn(one, 1, 64, "attention", True), 3, 2, 23, 96),
        "musicnn_autopool": case(Musicnn(one, 1, 64, "autopool", True), 4, 2, 23, 96),
        "musicnn_rnn": case(Musicnn(shapes, 2, 64, "rnn", False), 5, 2, 23, 96),
        "vgg_32": case(Vgg(2), 6, 1, 187, 96),
        "dieleman_66k": case(Baseline((), 2), 7, 1, 187, 96),
        "timbre_185k": case(Baseline(timbre, 2), 8, 1, 187, 96),
    }
