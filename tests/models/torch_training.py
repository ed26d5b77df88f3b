"""Twenty training steps in torch alone: losses and weights for the parity test of the training step.

Networks: `spectrogram` and `waveform` without batch norm, and both with it (`…_norm`: torch's own settings); dropout
nowhere. They hear real audio: patches of the golden log-mel, whose class is their loudness, and spoken digits at 8 kHz.

Each case is (clip and first step of every row: int64[20, B, 2]; initial weights; what came out): `label`, and by
optimiser `NAME/losses` f64[20] and `NAME/params/…`, `NAME/batch_stats/…` after the last step.
"""

import wave
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch_companions import Tree

STEPS, ROWS, PATCHES = 20, 8, 16
FRAMES, SAMPLES = 48, 2187  # of a patch
CLASSES, DIGITS = 3, 10
ROOT = Path(__file__).parents[2]


class Spectrogram(nn.Module):
    """Three layers of 3×3 (maximum, maximum, mean), maximum and mean over time, one hidden layer."""

    def __init__(self, norm):
        super().__init__()
        sizes = (1, 6, 6, 8)
        self.layers = nn.ModuleList(nn.Conv2d(*sizes[i : i + 2], 3, padding=1, bias=not norm) for i in range(3))
        self.norms = nn.ModuleList(nn.BatchNorm2d(size) if norm else nn.Identity() for size in sizes[1:])
        self.hidden, self.output = nn.Linear(2 * 3 * 8, 12, bias=not norm), nn.Linear(12, CLASSES)
        self.hidden_norm = nn.BatchNorm1d(12) if norm else nn.Identity()

    def forward(self, x):
        x = functional.max_pool2d(torch.relu(self.norms[0](self.layers[0](x[:, None]))), (2, 4))
        x = functional.max_pool2d(self.norms[1](functional.elu(self.layers[1](x))), (3, 4))
        x = functional.avg_pool2d(self.norms[2](torch.relu(self.layers[2](x))), 2)
        x = x.permute(0, 2, 3, 1).flatten(2)  # time, then band and channel
        x = torch.cat([x.amax(dim=1), x.mean(dim=1)], dim=1)
        return self.output(self.hidden_norm(torch.relu(self.hidden(x))))

    def parts(self):
        for i in range(3):
            yield f"front_end/conv{i + 1}_block", self.layers[i]
            yield f"front_end/conv{i + 1}_block/batch_norm", self.norms[i]
        yield "head/dense1_layer", self.hidden
        yield "head/dense1_norm", self.hidden_norm
        yield "head/output", self.output


class Sample(nn.Module):
    """The study's sample-level network of n = 6: stride 3, six layers pooled by 3, a dense layer on the mean."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv1d(6, 6, 3, padding=1) if i else nn.Conv1d(1, 6, 3, 3) for i in range(7))
        self.output = nn.Linear(6, DIGITS)

    def forward(self, x):
        x = torch.relu(self.layers[0](x[:, None]))
        for part in self.layers[1:]:
            x = functional.max_pool1d(torch.relu(part(x)), 3)
        return self.output(x.mean(dim=2))

    def parts(self):
        for i, part in enumerate(self.layers):
            yield f"front_end/stack{i + 1}", part
        yield "head/output", self.output


class Waveform(nn.Module):
    """Sample-level layers, normalised in turn before and after the activation; for many tags."""

    def __init__(self):
        super().__init__()
        layers = [nn.Conv1d(1, 8, 3, 3, bias=False)]
        self.layers = nn.ModuleList(layers + [nn.Conv1d(8, 8, 3, padding=1, bias=False) for _ in range(4)])
        self.norms = nn.ModuleList(nn.BatchNorm1d(8) for _ in range(5))
        self.output = nn.Linear(16, DIGITS)

    def forward(self, x):
        x = x[:, None]
        for i, (part, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            x = norm(torch.relu(part(x))) if i % 2 else torch.relu(norm(part(x)))
            x = functional.max_pool1d(x, 3) if i else x
        return self.output(torch.cat([x.amax(dim=2), x.mean(dim=2)], dim=1))

    def parts(self):
        for i, (part, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            yield f"front_end/conv{i + 1}_block", part
            yield f"front_end/conv{i + 1}_block/batch_norm", norm
        yield "head/output", self.output


def draw(network, seed):
    """Random weights: He's, and biases that are not 0."""
    torch.manual_seed(seed)
    for _, part in network.parts():
        if isinstance(part, nn.Conv1d | nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(part.weight)
            if part.bias is not None:
                nn.init.normal_(part.bias, std=0.05)
    return network


def tree(network):
    """Weights and running averages as this project stores them; copies."""
    found = Tree()
    for path, part in network.parts():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            found.put(path, part)
        elif not isinstance(part, nn.Identity):
            kernel = np.moveaxis(part.weight.detach().numpy(), (0, 1), (-1, -2))
            found.put(path, {"kernel": kernel} | ({} if part.bias is None else {"bias": part.bias.detach().numpy()}))
    return _copies(found)


def _copies(node):
    return {key: _copies(value) if isinstance(value, dict) else np.array(value) for key, value in node.items()}


def optimiser(name, network):
    """(optimiser, function that gives the penalty, largest norm of the gradient)."""
    kernels = [p for _, part in network.parts() for p in part.parameters() if p.ndim > 1]
    others = [p for _, part in network.parts() for p in part.parameters() if p.ndim == 1]
    if name == "sgd":
        return torch.optim.SGD(network.parameters(), 0.1), None, None
    if name == "adam":
        return torch.optim.Adam(network.parameters(), 3e-3), None, None
    if name == "adamw":
        groups = [{"params": kernels, "weight_decay": 1.0}, {"params": others, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, 1e-3), None, None
    # The penalty is in the loss, so in the gradient that is clipped.
    rule = torch.optim.SGD(network.parameters(), 0.02, momentum=0.9, nesterov=True)
    return rule, lambda: 0.5 * 0.02 * sum((kernel**2).sum() for kernel in kernels), 0.5


def train(network, name, patches, label):
    """Losses f64[20] of training, each before its step, and the weights after the last."""
    rule, penalty, clip = optimiser(name, network.train())
    losses = []
    for x, y in zip(patches, label, strict=True):
        logits, y = network(torch.tensor(x)), torch.tensor(y)
        compare = functional.cross_entropy if y.ndim == 1 else functional.binary_cross_entropy_with_logits
        loss = compare(logits, y) + (0 if penalty is None else penalty())
        rule.zero_grad()
        loss.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(network.parameters(), clip)
        rule.step()
        losses.append(loss.item())
    return np.array(losses), tree(network)


def standardised(patches, clips):
    """By one mean and one deviation of all clips."""
    values = np.concatenate([np.ravel(clip) for clip in clips]).astype(np.float64)
    return ((patches - np.float32(values.mean())) / np.float32(values.std())).astype(np.float32)


def of_log_mel():
    """Rows, their patches f32[20, B, T, F] and classes: terciles of the mean level."""
    with np.load(ROOT / "tests" / "golden" / "inputs.npz") as stored:
        clip = stored["logmel"]
    rng = np.random.default_rng(0)
    starts = rng.choice(rng.integers(len(clip) - FRAMES + 1, size=PATCHES), (STEPS, ROWS))
    patches = np.stack([clip[start : start + FRAMES] for start in starts.ravel()]).reshape(STEPS, ROWS, FRAMES, -1)
    level = patches.mean((2, 3))
    label = np.searchsorted(np.quantile(level, (1 / 3, 2 / 3)), level).astype(np.int64)
    return np.stack([np.zeros_like(starts), starts], axis=-1), standardised(patches, [clip]), label


def of_digits():
    """Rows (number of the file in the order of names), their patches f32[20, B, N] and digits."""
    clips, digits = [], []
    for path in sorted((ROOT / "mirjax/data/embedded/digits_small/audio").glob("*.wav")):
        with wave.open(str(path)) as file:
            clips.append(np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768)
        digits.append(int(path.name[0]))
    rng = np.random.default_rng(1)
    long = [i for i, clip in enumerate(clips) if len(clip) >= SAMPLES]
    few = np.array([(i, rng.integers(len(clips[i]) - SAMPLES + 1)) for i in rng.choice(long, PATCHES)])
    rows = few[rng.integers(PATCHES, size=(STEPS, ROWS))]
    patches = np.stack([clips[i][start : start + SAMPLES] for i, start in rows.reshape(-1, 2)])
    label = np.array(digits)[rows[..., 0]]
    return rows, standardised(patches.reshape(STEPS, ROWS, SAMPLES), clips), label


def case(make_network, seed, optimisers, rows, patches, label):
    """One case of `parity`; every optimiser begins with the same weights."""
    outputs, first = {"label": label}, None
    for name in optimisers:
        network = draw(make_network(), seed)
        first = tree(network)
        losses, weights = train(network, name, patches, label)
        outputs |= {f"{name}/losses": losses}
        outputs |= {f"{name}/{path}": value for path, value in _flat(weights)}
    return rows, first, outputs


def _flat(node, prefix=""):
    for key, value in node.items():
        yield from _flat(value, f"{prefix}{key}/") if isinstance(value, dict) else [(f"{prefix}{key}", value)]


def make():
    """{case: (rows, initial weights, outputs)}."""
    torch.set_num_threads(1)
    log_mel, digits = of_log_mel(), of_digits()
    tags = np.eye(DIGITS, dtype=np.float32)[digits[2]] + np.eye(DIGITS, dtype=np.float32)[(digits[2] + 3) % DIGITS]
    # From some weights rounding errors grow a hundredfold in twenty steps (torch in float32 against float64 shows it);
    # these seeds are of the calmer ones.
    return {
        "spectrogram": case(lambda: Spectrogram(norm=False), 4, ("sgd", "adam"), *log_mel),
        "waveform": case(Sample, 4, ("sgd", "adam"), *digits),
        "spectrogram_norm": case(lambda: Spectrogram(norm=True), 4, ("nesterov", "adamw"), *log_mel),
        "waveform_norm": case(Waveform, 5, ("nesterov", "adamw"), digits[0], digits[1], tags),
    }
