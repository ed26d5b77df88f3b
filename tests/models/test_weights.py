"""Oracles: the arrays that went in; paths and shapes written down by hand; NumPy's own reader."""

import dataclasses

import jax
import numpy as np
import pytest

from mirjax.models import blocks, taggers, weights
from mirjax.signal.representations import LogMel

SPEC = blocks.Conv(2, (3, 4), norm=blocks.Norm())


def make_network(filters=2):
    spec = dataclasses.replace(SPEC, filters=filters)
    return taggers.Network(LogMel(n_mels=8), blocks.Stack((spec,)), num_steps=6)


def make_variables():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 4, 1, 2)).astype(np.float32)
    norm = {"scale": np.ones(2, np.float32), "bias": np.zeros(2, np.float32)}
    averages = {"mean": np.zeros(2, np.float32), "var": np.ones(2, np.float32)}
    block = {"kernel": kernel, "bias": rng.normal(size=2).astype(np.float32), "batch_norm": norm}
    return {
        "params": {"front_end": {"conv1_block": block}},
        "batch_stats": {"front_end": {"conv1_block": {"batch_norm": averages}}},
    }


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    assert all(np.array_equal(x, y) and x.dtype == y.dtype for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))


def test_back_as_it_was(tmp_path):
    """Oracle: the arrays that went in, bit for bit; NumPy's reader without pickle sees paths."""
    path = tmp_path / "weights.npz"
    weights.save(path, make_variables(), model=make_network(), metadata={"name": "tiny", "n": 2, "options": {}})
    same(weights.load(path), make_variables())
    same(weights.load(path, model=make_network()), make_variables())
    note = weights.metadata(path)
    assert (note["name"], note["n"], note["options"]) == ("tiny", 2, {})
    assert note["representation"] == repr(LogMel(n_mels=8))
    with np.load(path, allow_pickle=False) as stored:
        assert "params/front_end/conv1_block/kernel" in stored.files
    assert [each.name for each in tmp_path.iterdir()] == ["weights.npz"]


def test_the_networks_own_variables_pass(tmp_path):
    """Oracle: the outputs of the network with the variables it drew itself; any file name will do."""
    model = make_network()
    x = np.ones((1, 6, 8), np.float32)
    variables = model.init(jax.random.key(0), x, method="embed")
    variables = {name: variables[name] for name in ("params", "batch_stats")}
    weights.save(tmp_path / "weights", variables, model=model)
    loaded = weights.load(tmp_path / "weights", model=model)
    outputs = [model.apply(each, x, method="embed")["embedding"] for each in (variables, loaded)]
    np.testing.assert_array_equal(*outputs)


def test_what_does_not_fit_is_named(tmp_path):
    """Hand-worked: one path missing, one surplus, one of another shape, all in one message with the file."""
    path = tmp_path / "weights.npz"
    variables = make_variables()
    block = variables["params"]["front_end"]["conv1_block"]
    block["extra"] = block.pop("bias")
    block["kernel"] = block["kernel"][:2]
    weights.save(path, variables)
    with pytest.raises(ValueError) as error:
        weights.load(path, model=make_network())
    said = str(error.value)
    assert str(path) in said
    assert "missing: params/front_end/conv1_block/bias" in said
    assert "surplus: params/front_end/conv1_block/extra" in said
    assert "params/front_end/conv1_block/kernel (2, 4, 1, 2) instead of (3, 4, 1, 2)" in said
    with pytest.raises(ValueError, match="missing: params/front_end/conv1_block/bias"):
        weights.save(tmp_path / "b.npz", variables, model=make_network())
    assert not (tmp_path / "b.npz").exists()


def test_another_width_is_refused(tmp_path):
    """Hand-worked: weights of two filters in a network of three."""
    weights.save(tmp_path / "a.npz", make_variables())
    with pytest.raises(ValueError, match=r"\(3, 4, 1, 2\) instead of \(3, 4, 1, 3\)"):
        weights.load(tmp_path / "a.npz", model=make_network(3))


def test_another_input_is_refused(tmp_path):
    """Oracle: ARCHITECTURES section 13: the preprocessing is part of the weights."""
    path = tmp_path / "a.npz"
    weights.save(path, make_variables(), model=make_network())
    other = make_network().clone(representation=LogMel(n_mels=8, mel_power=2.0))
    with pytest.raises(ValueError, match="trained on LogMel"):
        weights.load(path, model=other)


@pytest.mark.parametrize("content", [b"", b"nothing", b"PK\x03\x04 torn"])
def test_a_torn_file_is_named(tmp_path, content):
    """Hand-worked: bytes that are no archive."""
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.npz holds no weights"):
        weights.load(tmp_path / "a.npz")
    with pytest.raises(FileNotFoundError):
        weights.load(tmp_path / "b.npz")


def test_a_pickle_is_not_opened(tmp_path):
    """Oracle: NumPy refuses objects without allow_pickle; the message has file and array."""
    np.savez(tmp_path / "a.npz", **{"params/a": np.array({"a": 1}, dtype=object)})
    with pytest.raises(ValueError, match=r"a\.npz holds no weights \(array 'params/a'"):
        weights.load(tmp_path / "a.npz")
    np.save(tmp_path / "b.npy", np.zeros(3))
    with pytest.raises(ValueError, match="a single array"):
        weights.load(tmp_path / "b.npy")


def test_what_cannot_be_written_leaves_the_old_file(tmp_path, monkeypatch):
    """Oracle: the content before, after a name, a type, a note and a disk that fail."""
    import jax.numpy as jnp

    path = tmp_path / "a.npz"
    weights.save(path, make_variables())
    before = path.read_bytes()
    with pytest.raises(ValueError, match="without a slash"):
        weights.save(path, {"params": {"a/b": np.zeros(1)}})
    with pytest.raises(ValueError, match=r"params/a is bfloat16.*cast it to float32"):
        weights.save(path, {"params": {"a": jnp.zeros(1, jnp.bfloat16)}})
    with pytest.raises(ValueError, match="plain values of JSON"):
        weights.save(path, make_variables(), metadata={"n": {1, 2}})

    def full(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="disk full"):
        weights.save(path, {"params": {"a": np.zeros(1)}})
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["a.npz"]


def test_paths_and_trees():
    """Hand-worked: there and back."""
    tree = {"params": {"a": {"b": np.zeros(1)}, "c": np.ones(2)}}
    flat = weights.flatten(tree)
    assert list(flat) == ["params/a/b", "params/c"]
    same(weights.unflatten(flat), tree)
    with pytest.raises(ValueError, match="params/c/d lies below 'c'"):
        weights.unflatten({"params/c": np.zeros(1), "params/c/d": np.zeros(1)})
