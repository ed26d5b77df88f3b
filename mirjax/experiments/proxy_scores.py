"""Zero-cost scores of a training's networks, kept as JSON lines.

A line is {network, seed, proxy, value, seconds}, and `numbers` where `proxies.NUMBERS` has any; where a score cannot be
had its value is null and `why` says so. All scores of one network under one seed are written together.
Names: `add_scores`, `read_scores`.
"""

import json
import time
from pathlib import Path

import numpy as np

from mirjax import proxies

ROWS = 32  # clips of the batch on which a score looks


def read_scores(path: Path) -> list[dict]:
    """Rows of a file, of networks and seeds that have all scores; none where there is no file.

    Raises:
      ValueError: a damaged line before the last.
    """
    rows = _current(path)
    found: dict[tuple, set] = {}
    for row in rows:
        found.setdefault((row["network"], row["seed"]), set()).add(row["proxy"])
    return [row for row in rows if found[row["network"], row["seed"]] >= proxies.PROXIES.keys()]


def _current(path: Path) -> list[dict]:
    """Rows of a file; not those of scores that give other numbers now."""
    rows, lines = [], path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except ValueError:
            if number < len(lines):
                raise ValueError(f"{path}, line {number} is damaged; mend or delete it, the rest is kept") from None
    return [row for row in rows if row.get("numbers", 1) == proxies.NUMBERS.get(row["proxy"], 1)]


def add_scores(path: Path, trained, seeds, *, progress: bool = True) -> None:
    """Append the scores that a file lacks, by one batch of the training clips of the first fold.

    Scores that were kept before their numbers changed (`proxies.NUMBERS`) are computed anew.

    Args:
      path: the file; made when it is not there. What a kill left torn is taken out.
      trained: the `training.Training` whose networks, clips and input statistics they are of.
      seeds: of the weights.
      progress: show a bar.
    """
    import jax
    from tqdm import tqdm

    from mirjax import features
    from mirjax.experiments import cells, fitting, training_run
    from mirjax.signal.representations import Waveform

    rows = _current(path)
    whole = "".join(json.dumps(row) + "\n" for row in rows)
    if path.exists() and path.read_text(encoding="utf-8") != whole:
        mended = path.with_name(f".{path.name}")
        mended.write_text(whole, encoding="utf-8")
        mended.replace(path)
    done: dict[tuple, set] = {}
    for row in rows:
        done.setdefault((row["network"], row["seed"]), set()).add(row["proxy"])
    run = training_run.Run(trained, trained.sources(), progress)
    (clips,) = run.load()
    fold = run.folds(run.divide(clips), clips)[0]
    chosen = np.sort(np.random.default_rng(0).permutation(fold.train)[:ROWS])
    cells_ = [(each, seed, done.get((each.name, seed), set())) for each in run.networks_of(clips) for seed in seeds]
    todo = [(each, seed, have) for each, seed, have in cells_ if not have >= proxies.PROXIES.keys()]
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        for network, seed, have in tqdm(todo, desc="proxies", unit="network", disable=not progress):
            cell = cells.Cell(network.name, network, "raw", {}, seed, "trained", "none")
            fitted = fitting.Fitting(run, cell, clips, fold, network.name)
            statistics = fitted.statistics(fold.train)
            batch = fitted.clips.batch(chosen, [0] * len(chosen), fitted.patch, len(chosen))
            x = batch[fitted.clips.key]
            if fitted.clips.key == "audio" and not isinstance(network.module.representation, Waveform):
                x = np.asarray(jax.jit(network.module.representation)(x))  # too many to be kept in memory
            x = (x - statistics["mean"]) / statistics["deviation"]
            variables = features.initialise(network.module, jax.random.key(seed), network.num_samples)
            found = []
            for proxy, score in proxies.PROXIES.items():
                if proxy in have:
                    continue
                began = time.perf_counter()
                row = {"network": network.name, "seed": seed, "proxy": proxy, "value": None}
                row |= {"numbers": proxies.NUMBERS[proxy]} if proxy in proxies.NUMBERS else {}
                try:
                    row["value"] = float(score(network.module, variables, x, batch["label"]))
                except ValueError as error:
                    row["why"] = str(error)
                found.append(row | {"seconds": round(time.perf_counter() - began, 4)})
            file.write("".join(json.dumps(row) + "\n" for row in found))
            file.flush()
            if seed == seeds[-1]:
                jax.clear_caches()  # programs of this network are not needed again
