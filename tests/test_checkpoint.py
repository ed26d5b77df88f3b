"""Checkpoints: what is restored is what was saved, bit for bit, or an error that says what to do."""

import contextlib
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mirjax import checkpoint, optimisers, rules, train

OPTIMISERS = {
    "sgd": ("sgd", {}),
    "nesterov": ("sgd", {"momentum": 0.9, "nesterov": True, "l2": 1e-4, "clip_norm": 1.0}),
    "schedule": ("sgd", {"momentum": 0.9}),
    "adam": ("adam", {"clip_value": 0.5}),
    "adamw": ("adamw", {"l2": 0.1}),
    "slow": ("adam", {"slow": {"front_end": 1e-4}}),
}
RULES = ("constant()", "plateau(valid_loss, factor=.5, patience=3) + stop_early(valid_loss, 9)")
ABOUT = {"architecture": "vgg", "n": 24, "learning_rate": 0.1}


def tree(step=3, *, optimiser="adam", rule=RULES[0], average=False, width=5, seed=0):
    """What `train.fit` saves, after an update and an epoch; every value drawn."""
    rng = np.random.default_rng((seed, step))

    def draw(*shape):
        return jnp.asarray(rng.standard_normal(shape), jnp.float32)

    params = {"front_end": {"conv1": {"kernel": draw(3, 1, width), "bias": draw(width)}}}
    params["head"] = {"kernel": draw(width, 2)}
    state = {"batch_stats": {"mean": draw(width)}, "input": {"mean": np.float32(-20.5), "deviation": np.float32(3)}}
    name, options = OPTIMISERS[optimiser]
    rate = optimisers.make_schedule("cosine", 0.1, num_steps=50) if optimiser == "schedule" else 0.1
    made = optimisers.make_optimiser(name, rate, **options)
    _, moments = made.update(jax.tree.map(lambda leaf: draw(*leaf.shape), params), made.init(params), params)
    made_rule = rules.make_rule(rule)
    looked = made_rule.update(made_rule.init(), {"valid_loss": 1.5})
    totals = draw(2).astype(jnp.result_type(float))
    key = jax.random.key(seed)
    whole = train.TrainState(jnp.int32(step), params, state, moments, looked, params if average else None, totals, key)
    return {"state": whole, "best": train.Best({"params": params, **state}, np.float32(1.25), np.int32(step - 1))}


def bits(leaf):
    """Type, shape and bytes of a leaf; of a key, its data and its kind."""
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return str(jax.random.key_impl(leaf)), bits(jax.random.key_data(leaf))
    leaf = np.asarray(leaf)
    return leaf.dtype, leaf.shape, leaf.tobytes()


def assert_same(found, wanted):
    """The same structure, tuples' names included, and the same bits."""
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert bits(a) == bits(b)


@pytest.fixture
def saved(tmp_path):
    """Checkpoints of steps 3 and 4."""
    checkpoints = checkpoint.Checkpoints(tmp_path / "run", ABOUT)
    checkpoints.save(tree(3))
    checkpoints.save(tree(4))
    return checkpoints


@pytest.fixture
def told():
    """Messages of the package's log."""

    class Handler(logging.Handler):
        def emit(self, record):
            messages.append(record.getMessage())

    messages, handler, log = [], Handler(), logging.getLogger("mirjax")
    log.addHandler(handler)
    yield messages
    log.removeHandler(handler)


def steps(checkpoints):
    return sorted(path.name for path in checkpoints.folder.iterdir())


# ── what is restored ──


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_every_optimiser_comes_back(tmp_path, optimiser):
    """Oracle: what was saved; weights of another seed as the template, so that nothing can come from that."""
    options = {"optimiser": optimiser, "rule": RULES[optimiser < "s"], "average": optimiser in ("adam", "sgd")}
    checkpoints = checkpoint.Checkpoints(tmp_path, ABOUT)
    checkpoints.save(tree(**options))
    assert_same(checkpoints.restore(tree(seed=1, step=0, **options)), tree(**options))


def test_the_newest_of_the_last_two(saved):
    """Hand-worked: of steps 3, 4 and 11 the folder keeps 4 and 11, compared as numbers."""
    saved.save(tree(11))
    assert steps(saved) == ["11", "4"]
    assert_same(saved.restore(tree(0)), tree(11))


def test_there_is_none(tmp_path):
    """Hand-worked: no folder, an empty one, and one that was cleared; `clear` finishes what a kill left of another."""
    assert checkpoint.Checkpoints(tmp_path / "absent", ABOUT).restore(tree()) is None
    assert not (tmp_path / "absent").exists()
    checkpoints = checkpoint.Checkpoints(tmp_path / "run", ABOUT)
    checkpoints.folder.mkdir()
    assert checkpoints.restore(tree()) is None
    checkpoints.save(tree())
    (tmp_path / ".run.deleted" / "3").mkdir(parents=True)
    checkpoint.clear(checkpoints.folder)
    checkpoint.clear(checkpoints.folder)
    assert list(tmp_path.iterdir()) == [] and checkpoints.restore(tree()) is None


def test_what_a_kill_left_is_cleared(saved, monkeypatch):
    """Oracle: the folder before a save that was cut off before its last act; the next save clears what it left."""

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        for name in ("rename", "replace"):
            patch.setattr(os, name, killed)
        with pytest.raises(KeyboardInterrupt):
            saved.save(tree(5))
    assert len(steps(saved)) == 3
    assert_same(saved.restore(tree(0)), tree(4))
    saved.save(tree(6))
    assert steps(saved) == ["4", "6"]


# ── what is refused ──


def test_another_run_is_refused_by_name(saved):
    """Hand-worked: the message says what differs, here and there."""
    other = checkpoint.Checkpoints(saved.folder, ABOUT | {"architecture": "sample", "learning_rate": 0.2})
    with pytest.raises(checkpoint.CheckpointError) as error:
        other.restore(tree())
    assert "checkpoint 4" in str(error.value) and "Choose another folder" in str(error.value)
    assert "architecture: 'sample' (there: 'vgg'); learning_rate: 0.2 (there: 0.1)." in str(error.value)
    with pytest.raises(checkpoint.CheckpointError, match=r"dtype: 'bfloat16' \(there: None\)"):
        checkpoint.Checkpoints(saved.folder, ABOUT | {"dtype": "bfloat16"}).restore(tree())
    assert steps(saved) == ["3", "4"]


@pytest.mark.parametrize(
    "other, named",
    [
        ({"width": 6}, "state/params/front_end/conv1/bias: 'float32[6]' (there: 'float32[5]')"),
        ({"optimiser": "sgd"}, "state/optimiser/1/count: None (there: 'int32[]')"),
        ({"average": True}, "state/average/front_end/conv1/bias: 'float32[5]' (there: None)"),
    ],
)
def test_another_tree_is_refused_by_name(saved, monkeypatch, other, named):
    """Hand-worked: sizes, moments and averages that no description told; nothing is cut off or filled up."""
    monkeypatch.setattr(checkpoint, "_MOST_TOLD", 100)
    with pytest.raises(checkpoint.CheckpointError, match=r"checkpoint 4 .* of another run") as error:
        saved.restore(tree(**other))
    assert named in str(error.value)
    assert steps(saved) == ["3", "4"]


# ── damage ──


def largest(folder):
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "halved": lambda step: os.truncate(largest(step), largest(step).stat().st_size // 2),
    "emptied": lambda step: os.truncate(largest(step), 0),
    "one bit": lambda step: flip(largest(step)),
    "deleted": lambda step: largest(step).unlink(),
    "undescribed": lambda step: (step / "about" / "metadata").unlink(),
    "half deleted": lambda step: shutil.rmtree(step / "state"),
    "nothing left": lambda step: [shutil.rmtree(step), step.mkdir()],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_torn_one_gives_way_to_the_one_before(tmp_path, told, damage):
    """Oracle: the checkpoint before the damaged one, with one line in the log; the run goes on from there."""
    checkpoints, width = checkpoint.Checkpoints(tmp_path, ABOUT), 4000  # values take more room than their description
    checkpoints.save(tree(3, width=width))
    checkpoints.save(tree(4, width=width))
    DAMAGES[damage](tmp_path / "4")
    assert_same(checkpoints.restore(tree(0, width=width)), tree(3, width=width))
    (line,) = told
    assert "damaged checkpoint left aside, step 4" in line
    checkpoints.save(tree(4, width=width))
    assert_same(checkpoints.restore(tree(0, width=width)), tree(4, width=width))


def test_all_torn(saved):
    """Hand-worked: the error names every checkpoint and the remedy, and nothing is deleted."""
    for step in ("3", "4"):
        DAMAGES["halved"](saved.folder / step)
    with pytest.raises(checkpoint.CheckpointError, match=r"can be read \(step 4: .*; step 3: .*delete the folder"):
        saved.restore(tree())
    assert steps(saved) == ["3", "4"]


# ── a full disk ──


def test_no_space(saved, monkeypatch):
    """Hand-worked: the system's own error on every write; what there was stays."""
    import orbax.checkpoint as ocp

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(ocp.CheckpointManager, "save", full)
        with pytest.raises(OSError, match=r"no space to save step 5 in .* are kept: free some space"):
            saved.save(tree(5))
    assert_same(saved.restore(tree(0)), tree(4))


@contextlib.contextmanager
def small_disk(folder):
    """A file system of 1 MB."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_full(tmp_path):
    """Oracle: a real file system with room for some checkpoints; later, with space again, the run goes on."""
    with small_disk(tmp_path / "disk"):
        checkpoints = checkpoint.Checkpoints(tmp_path / "disk" / "run", ABOUT)
        checkpoints.save(tree(3))
        filler = tmp_path / "disk" / "filler"
        for room in (0, 4096, 20_000, 60_000):  # where it ends differs: the folder, a file, the last one
            free = shutil.disk_usage(tmp_path / "disk").free
            filler.write_bytes(os.urandom(max(0, free - room)))
            with pytest.raises(OSError, match="no space to save step 4") as error:
                checkpoints.save(tree(4, width=20_000))
            assert error.value.errno == 28
            filler.unlink()
            assert_same(checkpoints.restore(tree(0)), tree(3))
        checkpoints.save(tree(4))
        assert_same(checkpoints.restore(tree(0)), tree(4))


# ── other devices ──

GOES_ON = """
import hashlib, sys
from pathlib import Path
import jax, numpy as np
from mirjax import checkpoint, optimisers, rules, train
from mirjax.data import patches
from mirjax.models import backends, blocks, taggers
from mirjax.signal.representations import LogMel
from mirjax.tasks import tagging

folder, devices, saves = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "saves"
assert jax.device_count() == devices
layer = blocks.Conv(4, (3, 3), norm=blocks.Norm(), norm_first=True, pool=(2, 4), dropout=0.2)
network = taggers.Network(LogMel(), blocks.Stack((layer, layer)), backends.GlobalPool(), blocks.Head(3))
step = train.make_step(tagging.Tagging(network), optimisers.make_optimiser("sgd", 0.05, momentum=0.9), average=0.9)
rng = np.random.default_rng(0)
arrays = [rng.standard_normal((12, 96)).astype("f4") + i % 3 for i in range(24)]
clips = patches.Clips(arrays.__getitem__, np.full(24, 12), np.arange(24, dtype=np.int32) % 3)
data = patches.TrainingBatches(clips, np.arange(24), 8, 8)
state = step.init(jax.random.key(5), data[0], rules.constant())
best = train.Best(step.host(state.variables), np.float32(0), np.int32(0))
checkpoints = checkpoint.Checkpoints(folder / "checkpoints", {})
if saves:
    for number in range(6):
        state, _ = step(state, data[number])
    checkpoints.save({"state": step.host(state), "best": best})
else:
    found = checkpoints.restore({"state": step.host(state), "best": best})
    state = step.place(found["state"])
there = step.host(state)
assert there.step == 6
leaves = jax.tree.leaves(checkpoint._arrays(there))
print(hashlib.sha256(b"".join(leaf.tobytes() for leaf in leaves)).hexdigest())
for number in range(6, 10):
    state, _ = step(state, data[number])
last = step.host(state)
values = jax.tree.leaves((last.params, last.state, last.average))
np.savez(folder / f"{devices}.npz", *values)
"""


def start(folder, devices, what):
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment |= {"JAX_NUM_CPU_DEVICES": str(devices)}
    command = [sys.executable, "-c", GOES_ON, str(folder), str(devices), what]
    root = Path(__file__).parents[1]
    return subprocess.Popen(
        command, env=environment, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process):
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]
    return output.split()[-1]


def values(folder, devices):
    with np.load(folder / f"{devices}.npz") as stored:
        return [stored[name] for name in stored.files]


def test_saved_on_eight_devices_goes_on_with_one_and_four(tmp_path):
    """Oracle: the eight devices, going on: the restored state has the same bits; four steps more differ by rounding."""
    digest = finish(start(tmp_path, 8, "saves"))
    others = {devices: start(tmp_path, devices, "goes on") for devices in (1, 4)}
    whole = values(tmp_path, 8)
    for devices, process in others.items():
        assert finish(process) == digest
        for found, wanted in zip(values(tmp_path, devices), whole, strict=True):
            assert np.abs(found - wanted).max() <= 1e-6 * max(np.abs(leaf).max() for leaf in whole)
