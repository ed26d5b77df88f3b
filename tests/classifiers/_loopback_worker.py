"""One process of `test_sharded`: OUT ID COUNT ADDRESS; writes what it got to OUT/ID-*.npz and OUT/ID.json.

With COUNT = 1 it is the only process and has the devices that XLA_FLAGS gives it. FAULT=exit ends process 1 halfway.
"""

import json
import os
import sys
import traceback
from pathlib import Path


def shares(count):
    """Unequal numbers of rows of the processes: the last has next to none."""
    return [0, 1003, *([1003 + 400, 1003 + 400 + 300][: count - 2]), 1797][: count + 1] if count > 1 else [0, 1797]


def main(out, me, count, address):
    import jax
    import numpy as np

    if count > 1:
        jax.distributed.initialize(
            address, count, me, coordinator_bind_address=address, heartbeat_timeout_seconds=20,
            cluster_detection_method="deactivate",
        )  # fmt: skip
    from sklearn.datasets import load_digits

    from mirjax.classifiers.hidden import draw_layer
    from mirjax.classifiers.sharded import accumulate

    x, y = load_digits(return_X_y=True)
    x, targets = x / 16, np.where(y[:, None] == np.arange(10), 1.0, -1.0)
    weights = np.random.default_rng(0).random(len(x))
    weights[::7] = 0
    layer = draw_layer(64, 150, 0)
    bounds = shares(count)
    mine = slice(bounds[me], bounds[me + 1])

    def batches(size, rows=mine):
        for i in range(rows.start, rows.stop, size):
            if os.environ.get("FAULT") == "exit" and me == 1:
                print("process 1 is out of disk", flush=True)
                os._exit(3)
            part = slice(i, min(i + size, rows.stop))
            yield x[part], targets[part], weights[part]

    def told(call):
        try:
            call()
        except (ValueError, RuntimeError) as error:
            return f"{type(error).__name__}: {error}"
        return "no error"

    def broken():
        yield from batches(100)
        raise ValueError("file 17 is torn")

    # Process i takes batches of 90 + 10 i rows: sizes differ too.
    accumulate(layer, batches(90 + 10 * me)).save(out / f"{me}-float64.npz")
    accumulate(lambda x: x, batches(90), dtype=np.float32).save(out / f"{me}-float32.npz")
    facts = {"devices": jax.device_count(), "local": jax.local_device_count()}
    if count > 1:
        accumulate(layer, batches(100) if me == 0 else iter(())).save(out / f"{me}-alone.npz")
        accumulate(layer, batches(100), mesh=jax.sharding.Mesh(jax.local_devices(), "x")).save(out / f"{me}-local.npz")
        facts["widths"] = told(lambda: accumulate(layer.first(100 + 10 * me), batches(100)))
        facts["broken"] = told(lambda: accumulate(layer, broken() if me == 1 else batches(100)))
        facts["nothing"] = told(lambda: accumulate(layer, iter(())))
    (out / f"{me}.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    except BaseException:
        traceback.print_exc()
        sys.stdout.flush()
        os._exit(1)  # skip JAX's shutdown barrier, which waits for the peers
