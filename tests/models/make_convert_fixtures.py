"""Makes `frozen/convert_*.npz`: weights as real PyTorch and real Keras hold them, and what those frameworks compute.

Run where torch and Keras 3 are installed (`pip install keras`; it runs on torch):
`KERAS_BACKEND=torch python tests/models/make_convert_fixtures.py`. Inputs are drawn by `numpy.random.RandomState(1)`,
whose stream NumPy keeps, and are not stored. Every file holds `s:NAME`, the source's arrays, and `y`, the output.

TensorFlow 1 and Keras 1 run nowhere any more. Their files are made of real Keras 3 layers, whose arrays TensorFlow 1's
checkpoints share in shape and order; for Keras 1 they are rearranged below: kernels to (out, in, k…) and turned by 180
degrees, as Theano convolved, and gates one by one.
"""

import os
import sys
from pathlib import Path

import numpy as np

os.environ.setdefault("KERAS_BACKEND", "torch")
FROZEN = Path(__file__).parent / "frozen"


def draw(*shape):
    return np.random.RandomState(1).standard_normal(shape).astype(np.float32)


def write(name, source, y):
    FROZEN.mkdir(exist_ok=True)
    arrays = {f"s:{key}": np.asarray(value) for key, value in source.items()}
    np.savez_compressed(FROZEN / f"convert_{name}.npz", y=np.asarray(y), **arrays)
    print(name, (FROZEN / f"convert_{name}.npz").stat().st_size)


# ── PyTorch ──


def torch_fixtures():
    import torch
    from torch import nn

    torch.manual_seed(0)

    class Net(nn.Module):
        """Frequency first, as most code: [B, 1, 12, 20]."""

        def __init__(self):
            super().__init__()
            self.norm0 = nn.BatchNorm2d(1)
            self.conv1 = nn.Conv2d(1, 3, (5, 3), padding=(2, 1))
            self.norm1 = nn.BatchNorm2d(3)
            self.conv2 = nn.Conv2d(3, 4, (2, 3), padding=0)
            self.dense1 = nn.Linear(4 * 2 * 3, 5)
            self.norm2 = nn.BatchNorm1d(5)
            self.output = nn.Linear(5, 2)

        def forward(self, x):
            x = x.transpose(1, 2)[:, None]
            x = torch.max_pool2d(torch.relu(self.norm1(self.conv1(self.norm0(x)))), (4, 4))
            x = torch.relu(self.conv2(x))
            return self.output(self.norm2(torch.relu(self.dense1(x.flatten(1)))))

    class Sequences(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(6, 4, num_layers=2, batch_first=True, bidirectional=True)
            self.gru = nn.GRU(8, 3, batch_first=True)
            self.conv = nn.Conv1d(3, 5, 3)

        def forward(self, x):
            return self.conv(self.gru(self.lstm(x)[0])[0].transpose(1, 2)).relu().transpose(1, 2)

    for name, net, x in (("torch", Net(), draw(2, 20, 12)), ("torch_sequences", Sequences(), draw(2, 9, 6))):
        for module in net.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                for tensor in (module.weight.data, module.running_var):
                    tensor.uniform_(0.5, 2)
                for tensor in (module.bias.data, module.running_mean):
                    tensor.normal_()
        y = net.eval()(torch.tensor(x)).detach()
        write(name, {key: value.numpy() for key, value in net.state_dict().items()}, y)


# ── Keras ──


def stir(model):
    """No zeros and ones among biases and averages."""
    rng = np.random.RandomState(2)
    for layer in model.layers:
        arrays = layer.get_weights()
        is_norm = type(layer).__name__ == "BatchNormalization"
        for i, array in enumerate(arrays):
            if is_norm and i in (0, 3):
                arrays[i] = rng.uniform(0.5, 2, array.shape)
            elif array.ndim == 1 or is_norm or (type(layer).__name__ in ("GRU", "Bidirectional") and i % 3 == 2):
                arrays[i] = 0.3 * rng.standard_normal(array.shape)
        layer.set_weights(arrays)
    return model


def keras_arrays(model):
    return {layer.name: layer.get_weights() for layer in model.layers if layer.get_weights()}


def numbered(layers):
    return {f"{name}:{i}": array for name, arrays in layers.items() for i, array in enumerate(arrays)}


def predict(model, x):
    return np.asarray(model(x, training=False).detach())


def keras_fixtures():
    from keras import Model, layers

    x = layers.Input((20, 12, 1))
    y = layers.BatchNormalization(name="norm0")(x)
    y = layers.Conv2D(3, (3, 5), padding="same", name="conv1")(y)
    y = layers.ELU()(layers.BatchNormalization(name="norm1")(y))
    y = layers.MaxPooling2D((4, 4))(y)
    y = layers.Dense(2, name="output")(layers.Flatten()(y))
    model = stir(Model(x, y))
    write("keras", numbered(keras_arrays(model)), predict(model, draw(2, 20, 12, 1)))

    x = layers.Input((9, 6))
    y = layers.Bidirectional(layers.LSTM(4, return_sequences=True), name="lstm")(x)
    y = layers.GRU(3, return_sequences=True, reset_after=True, name="gru_after")(y)
    y = layers.GRU(3, return_sequences=True, reset_after=False, name="gru_before")(y)
    y = layers.Conv1D(5, 3, activation="relu", name="conv")(y)
    model = stir(Model(x, y))
    write("keras_sequences", numbered(keras_arrays(model)), predict(model, draw(2, 9, 6)))


def theano(kernel):
    """A kernel of Keras 3 as Keras 1 on Theano held it: (out, in, k…), turned by 180 degrees."""
    return np.flip(kernel, (0, 1)).transpose(3, 2, 0, 1)


def keras1(arrays, kind):
    """Arrays of a Keras 3 layer as Keras 1's file has them."""
    if kind == "Conv2D":
        return [theano(arrays[0]), arrays[1]]
    if kind in ("GRU", "LSTM"):  # gate by gate, and an LSTM's cell before its forget gate
        order = (0, 1, 2) if kind == "GRU" else (0, 2, 1, 3)
        split = [np.split(array, len(order), axis=-1) for array in arrays]
        return [part[gate] for gate in order for part in split]
    return arrays


def choi_blocks(x, widths, pools, names=("conv{}", "bn{}")):
    """On [B, bands, frames, 1]: frequency first."""
    from keras import layers

    for i, (width, (frames, bands)) in enumerate(zip(widths, pools, strict=True), start=1):
        x = layers.Conv2D(width, (3, 3), padding="same", name=names[0].format(i))(x)
        x = layers.ELU()(layers.BatchNormalization(name=names[1].format(i))(x))
        x = layers.MaxPooling2D((bands, frames))(x)
    return x


def choi_fixtures():
    from keras import Model, layers

    kinds = {}

    def freeze(name, model):
        stir(model)
        kinds.update({layer.name: type(layer).__name__ for layer in model.layers})
        source = {key: keras1(arrays, kinds[key]) for key, arrays in keras_arrays(model).items()}
        write(name, numbered(source), predict(model, draw(1, 1366, 96).transpose(0, 2, 1)[..., None]))

    x = layers.Input((96, 1366, 1))
    y = layers.BatchNormalization(axis=2, name="bn_0_freq")(x)
    y = choi_blocks(y, (2, 8, 8, 12, 16), ((4, 2), (4, 2), (4, 2), (5, 3), (4, 4)))
    freeze("music_tagger_cnn", Model(x, layers.Dense(5, name="output")(layers.Flatten()(y))))

    y = layers.BatchNormalization(axis=2, name="bn_0_freq")(layers.ZeroPadding2D((0, 37))(x))
    y = choi_blocks(y, (4, 8, 8, 8), ((2, 2), (3, 3), (4, 4), (4, 4)))
    y = layers.Reshape((15, 8))(y)
    y = layers.GRU(2, return_sequences=True, reset_after=False, name="gru1")(y)
    y = layers.GRU(2, reset_after=False, name="gru2")(y)
    freeze("music_tagger_crnn", Model(x, layers.Dense(5, name="output")(y)))

    names = ("convolution2d_{}", "batchnormalization_{}")
    y = choi_blocks(x, (3,) * 5, ((4, 2), (4, 3), (5, 2), (4, 2), (4, 4)), names)
    freeze("compact_cnn", Model(x, layers.Dense(5, name="dense_1")(layers.Flatten()(y))))


# ── TensorFlow 1, by the names of its checkpoints ──


def tf_arrays(model):
    parts = {
        "BatchNormalization": ("gamma", "beta", "moving_mean", "moving_variance"),
        "Conv2D": ("kernel", "bias"),
        "Dense": ("kernel", "bias"),
    }
    found = {}
    for layer in model.layers:
        arrays = layer.get_weights()
        if arrays:
            found |= {f"{layer.name}/{part}": a for part, a in zip(parts[type(layer).__name__], arrays, strict=True)}
    return found


def tf_fixtures():
    from keras import Model, layers

    def number(name, i):
        return f"{name}_{i}" if i else name

    # musicnn, n = 2: 6 timbral filters of each shape, 2 temporal ones, 2 in the middle, 6 units (204, 51, 64, 200)
    counts = {"conv2d": 0, "batch_normalization": 0}

    def named(kind):
        counts[kind] += 1
        return number(kind, counts[kind] - 1)

    def norm(y):
        return layers.BatchNormalization(name=named("batch_normalization"))(y)

    def convolve(y, filters, kernel, padding="valid"):
        return layers.Conv2D(filters, kernel, padding=padding, activation="relu", name=named("conv2d"))(y)

    frames = 40
    x = layers.Input((frames, 96))
    first = norm(layers.Reshape((frames, 96, 1))(x))
    padded = layers.ZeroPadding2D((3, 0))(first)
    maps = []
    for kernel in ((7, 38), (7, 67)):
        y = norm(convolve(padded, 6, kernel))
        maps.append(layers.MaxPooling2D((1, y.shape[2]))(y))
    for length in (128, 64, 32):
        y = norm(convolve(first, 2, (length, 1), "same"))
        maps.append(layers.MaxPooling2D((1, 96))(y))
    y = layers.Permute((1, 3, 2))(layers.Concatenate(axis=3)(maps))
    everything = [y]
    for i in range(3):
        before = y
        y = norm(convolve(layers.ZeroPadding2D((3, 0))(y), 2, (7, y.shape[2])))
        y = layers.Permute((1, 3, 2))(y)
        y = layers.Add()([y, before]) if i else y
        everything.append(y)
    y = layers.Concatenate(axis=2)(everything)
    pooled = [layers.MaxPooling2D((frames, 1))(y), layers.AveragePooling2D((frames, 1))(y)]
    y = norm(layers.Flatten()(layers.Concatenate(axis=3)(pooled)))  # (channel, max and mean)
    y = norm(layers.Dense(6, activation="relu", name="dense")(y))
    model = stir(Model(x, layers.Dense(5, name="dense_1")(y)))
    write("musicnn", tf_arrays(model), predict(model, draw(2, frames, 96)))

    # musicnn's VGG, 3 filters
    x = layers.Input((187, 96, 1))
    y = layers.BatchNormalization(name="batch_normalization")(x)
    for i in range(1, 6):
        y = layers.Conv2D(3, 3, padding="same", activation="relu", name=f"{i}CNN")(y)
        y = layers.BatchNormalization(name=f"batch_normalization_{i}")(y)
        y = layers.MaxPooling2D({1: (4, 1), 5: (4, 4)}.get(i, (2, 2)), {5: (4, 4)}.get(i, (2, 2)))(y)
    model = stir(Model(x, layers.Dense(5, name="dense")(layers.Flatten()(y))))
    write("musicnn_vgg", tf_arrays(model), predict(model, draw(2, 187, 96, 1)))

    # VGGish, 1 filter for every 64
    x = y = layers.Input((96, 64, 1))
    for name, filters in (("conv1", 1), ("conv2", 2), ("conv3", 4), ("conv4", 8)):
        for j in (1, 2) if name in ("conv3", "conv4") else (0,):
            full = f"{name}-{name}_{j}" if j else name
            y = layers.Conv2D(filters, 3, padding="same", activation="relu", name=full)(y)
        y = layers.MaxPooling2D(2)(y)
    y = layers.Flatten()(y)
    for full, units in (("fc1-fc1_1", 64), ("fc1-fc1_2", 64), ("fc2", 2)):
        y = layers.Dense(units, activation="relu" if units > 2 else None, name=full)(y)
    model = stir(Model(x, y))
    source = {
        "vggish/" + key.replace("-", "/").replace("kernel", "weights").replace("bias", "biases"): value
        for key, value in tf_arrays(model).items()
    }
    write("vggish", source, predict(model, draw(1, 96, 64, 1)))


if __name__ == "__main__":
    wanted = sys.argv[1:] or ["torch", "keras", "choi", "tf"]
    for each in wanted:
        globals()[f"{each}_fixtures"]()
