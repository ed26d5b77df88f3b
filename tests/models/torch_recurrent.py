"""Recurrent networks computed by torch.nn: `make()` for `parity.py`. Every bias is random, none is zero.

torch's gates: LSTM i, f, g, o as ours; GRU r, z, n where ours are z, r, candidate. Networks with one bias a gate get
the sum of torch's two.
"""

import numpy as np
import torch


def _numpy(tensor):
    return tensor.detach().numpy().astype(np.float32)


def _columns(cell, weights):
    """torch's rows (gates · n, …) as our columns (…, gates · n), gates in our order."""
    if cell == "gru":
        r, z, n = np.split(weights, 3)
        weights = np.concatenate([z, r, n])
    return np.ascontiguousarray(weights.T)


def _direction(cell, layer, suffix, two_biases):
    weights = {kind: _columns(cell, _numpy(getattr(layer, f"{kind}_l{suffix}"))) for kind in ("weight_ih", "weight_hh")}
    biases = [_columns(cell, _numpy(getattr(layer, f"bias_{kind}_l{suffix}"))) for kind in ("ih", "hh")]
    found = {"kernel": weights["weight_ih"], "recurrent_kernel": weights["weight_hh"]}
    if two_biases:
        return found | {"bias": biases[0], "recurrent_bias": biases[1]}
    return found | {"bias": biases[0] + biases[1]}


def _case(seed, cell, units, inputs, *, num_classes=2, bidirectional=False, two_biases=False, last=False, steps=17):
    torch.manual_seed(seed)
    make = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}[cell]
    x = y = torch.randn(2, steps, inputs)
    tree = {}
    for i, n in enumerate(units):
        layer = make(y.shape[-1], n, batch_first=True, bidirectional=bidirectional)
        for weights in layer.parameters():
            torch.nn.init.normal_(weights, std=0.5)
        for name, suffix in (("forward", "0"), ("backward", "0_reverse"))[: 1 + bidirectional]:
            tree[f"recurrent{i + 1}_{name}"] = _direction(cell, layer, suffix, two_biases)
        y, state = layer(y)
    if last:
        state = state[0] if cell == "lstm" else state
        y = torch.cat(list(state), dim=-1)
    output = torch.nn.Linear(y.shape[-1], num_classes)
    head = {"output": {"kernel": _numpy(output.weight).T, "bias": _numpy(output.bias)}}
    return (
        _numpy(x),
        {"params": {"front_end": tree, "head": head}},
        {"embedding": _numpy(y), "logits": _numpy(output(y))},
    )


def _onset_cnn():
    torch.manual_seed(6)
    n, steps, bands = 2, 20, 80
    functional = torch.nn.functional
    x = 3 * torch.randn(2, steps, 3, bands) - 2
    mean, variance = torch.randn(3, bands) - 2, torch.rand(3, bands) * 5 + 1
    first, second = torch.nn.Conv2d(3, n, (7, 3)), torch.nn.Conv2d(n, 2 * n, (3, 3))
    dense, output = torch.nn.Linear(7 * 8 * 2 * n, 51), torch.nn.Linear(51, 1)
    y = (x - mean) / torch.sqrt(variance + 1e-5)
    y = functional.pad(y.permute(0, 2, 3, 1), (7, 7, 0, 0), mode="replicate").permute(0, 1, 3, 2)
    y = functional.max_pool2d(torch.tanh(first(y)), (1, 3))
    y = functional.max_pool2d(torch.tanh(second(y)), (1, 3)).permute(0, 2, 3, 1)  # [B, T, F, C]
    y = torch.stack([y[:, t : t + 7].flatten(1) for t in range(steps)], dim=1)
    hidden = torch.sigmoid(dense(y))

    def conv(layer):
        return {"kernel": _numpy(layer.weight).transpose(2, 3, 1, 0), "bias": _numpy(layer.bias)}

    params = {
        "parts_1": {"conv1_block": conv(first), "conv2_block": conv(second)},
        "parts_3": {
            "dense1_block": {"kernel": _numpy(dense.weight).T.reshape(7, 8 * 2 * n, 51), "bias": _numpy(dense.bias)}
        },
    }
    averages = {"mean": _numpy(mean).ravel(), "var": _numpy(variance).ravel()}
    variables = {
        "params": {
            "front_end": params,
            "head": {"output": {"kernel": _numpy(output.weight).T, "bias": _numpy(output.bias)}},
        },
        "batch_stats": {"front_end": {"parts_0": {"normalise": averages}}},
    }
    outputs = {"embedding": _numpy(hidden), "logits": _numpy(output(hidden))}
    return _numpy(x).reshape(2, steps, -1), variables, outputs


def make():
    """{case: (x, variables, outputs)}; the networks of the cases stand in `test_recurrent` and `test_trackers`."""
    both = {"bidirectional": True, "two_biases": True}
    return {
        "lstm": _case(0, "lstm", (5, 3), 80, **both),
        "gru": _case(1, "gru", (5, 3), 80, **both),
        "rnn": _case(2, "rnn", (5, 3), 80, two_biases=True),
        "last": _case(3, "gru", (4,), 80, last=True, **both),
        "onset_rnn": _case(4, "rnn", (4, 4, 4), 266, num_classes=1, bidirectional=True),
        "leglaive": _case(5, "lstm", (6, 4, 8), 80, num_classes=1, bidirectional=True),
        "onset_cnn": _onset_cnn(),
    }
