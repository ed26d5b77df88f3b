"""The one door to mirjax: run | report | features | prepare | list | describe | doctor.

Parses, logs, calls, nothing else. Exit status 0 done, 1 failed, 2 wrong usage. `python launch.py --help` says more.
"""

import argparse
import json
import logging
import os
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parent
COMMANDS = ("run", "report", "features", "prepare", "list", "describe", "doctor")
LISTS = ("architectures", "datasets", "configs")


def main(arguments: list[str]) -> int:
    """Run one command; returns the exit status."""
    from mirjax.config import UsageError, nearest
    from mirjax.results import ConfigMismatch, RunFolderBusy

    if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
        near = nearest(arguments[0], COMMANDS)
        print(f"launch.py: {arguments[0]!r} is not a command; nearest: {near}", file=sys.stderr)
        return 2
    options = _parser().parse_args(arguments)
    if options.command is None:
        _parser().print_help()
        return 2
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("mirjax").addHandler(logging.NullHandler())
    # The package logs what it also warns of; on a terminal once is enough.
    logging.getLogger("mirjax").propagate = False
    warnings.showwarning = _show_warning
    try:
        return options.function(options) or 0
    except UsageError as error:
        print(f"launch.py: {error}", file=sys.stderr)
        return 2
    except (ValueError, OSError, RunFolderBusy) as error:
        print(f"launch.py: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigMismatch) else 1
    except KeyboardInterrupt:
        print("launch.py: interrupted; the same command goes on where this one stopped", file=sys.stderr)
        return 1


def _show_warning(message, *_, **__) -> None:
    from tqdm import tqdm

    tqdm.write(f"warning: {message}", file=sys.stderr)  # on a line of its own, above a progress bar


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="launch.py", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    run = commands.add_parser("run", help="run a study: CONFIG [key=value …]")
    run.add_argument("config", metavar="CONFIG", help="a path, or the name of a file in configs/")
    run.add_argument("overrides", nargs="*", metavar="key=value", help="fields of the experiment; lists with commas")
    run.epilog = "processes=4: on so many processes of this machine. shard=2/8: of a screening, the second of 8 parts."
    run.set_defaults(function=_run)

    report = commands.add_parser("report", help="tables and figures of run folders: RUN… [out=DIR]")
    report.add_argument("runs", nargs="+", metavar="RUN")
    report.set_defaults(function=_report)

    features = commands.add_parser("features", help="the features themselves: CONFIG out=FILE.npz [key=value …]")
    features.add_argument("config", metavar="CONFIG")
    features.add_argument("overrides", nargs="*", metavar="key=value")
    features.set_defaults(function=_features)

    prepare = commands.add_parser("prepare", help="prepare a data set: DATASET source=DIR [data_dir=DIR]")
    prepare.add_argument("dataset", metavar="DATASET")
    prepare.add_argument("settings", nargs="*", metavar="key=value")
    prepare.set_defaults(function=_prepare)

    listing = commands.add_parser("list", help="list architectures, datasets or configs")
    listing.add_argument("what", metavar="|".join(LISTS))
    listing.add_argument("--json", action="store_true", help="one JSON array")
    listing.add_argument("--width", type=int, help="of architectures: 120 or 3500 features, nearly; else as published")
    listing.set_defaults(function=_list)

    describing = commands.add_parser("describe", help="layers of an architecture with their shapes: NAME [n=…]")
    describing.add_argument("name", metavar="NAME")
    describing.add_argument("settings", nargs="*", metavar="n=…")
    describing.set_defaults(function=_describe)

    doctor = commands.add_parser("doctor", help="versions, devices, golden checks, decoders, cache folders")
    doctor.set_defaults(function=_doctor)
    return parser


def _set_up_jax() -> None:
    """Keep compiled programs between runs."""
    import jax

    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(Path.home() / ".cache" / "mirjax" / "jax")
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _settings(arguments: list[str], known: tuple[str, ...]) -> dict[str, str]:
    """`key=value` arguments as a dictionary; anything else is a usage error."""
    from mirjax.config import UsageError, nearest

    settings = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or key not in known:
            raise UsageError(
                f"argument {argument!r} is not one of {', '.join(f'{name}=…' for name in known)}"
                f"; nearest: {nearest(key, known)}"
            )
        settings[key] = value
    return settings


def _experiment(options, overrides):
    from mirjax import config

    experiment, _ = config.load(options.config, ROOT / "configs")
    for name in ("processes", "shard"):
        if not hasattr(experiment, name) and any(argument.startswith(f"{name}=") for argument in overrides):
            kind = type(experiment).__name__
            raise config.UsageError(f"{kind} has no {name}=; a Screening has processes and shard, a Training processes")
    return config.override(experiment, overrides)


def _run(options) -> int:
    from mirjax import processes
    from mirjax.config import UsageError

    experiment = _experiment(options, options.overrides)
    experiment.sources()  # an unknown name is answered before JAX is imported
    number, place = getattr(experiment, "processes", None), processes.place(os.environ)
    several = isinstance(number, int) and number > 1
    if place is not None and several and number != place.count:
        raise UsageError(f"processes={number}, but {place.count} were started; leave processes= away")
    if experiment.dry_run:
        _set_up_jax()
        experiment.check()
        print(experiment.forecast())
        return 0
    if several and place is None:
        command = [sys.executable, str(ROOT / "launch.py"), "run", options.config, *options.overrides]
        status = processes.launch_local(number, command, os.environ, communicate=experiment.communicates)
        if status or experiment.communicates:
            return status
        _set_up_jax()
        _, workdir = experiment.gather(number)
    else:
        _set_up_jax()
        experiment, first = _take_place(experiment, place)
        records, workdir = experiment.execute(progress=first)
        if getattr(experiment, "shard", None) is not None:
            print(f"part {experiment.shard}: {len(records)} records in {workdir}/")
            return 0
        if not first:
            return 0
    print(experiment.report([workdir]).to_text())
    print(f"\nrecords, predictions, report and figures: {workdir}/")
    return 0


def _take_place(experiment, place) -> tuple[object, bool]:
    """The experiment as this process, perhaps one of several, runs it, and whether it is the first of them."""
    from mirjax import config, processes

    if getattr(experiment, "communicates", False):
        seconds = os.environ.get("MIRJAX_JOIN_SECONDS") or str(processes.TIMEOUT)
        seconds = config.parse(seconds, float, "MIRJAX_JOIN_SECONDS")
        if processes.join(os.environ, ask_jax=experiment.processes == "auto", timeout=seconds):
            import jax

            return experiment, jax.process_index() == 0
    elif place is not None and hasattr(experiment, "shard"):
        return experiment.as_part(*place), place.rank == 0
    return experiment, True


def _report(options) -> int:
    from mirjax.config import UsageError
    from mirjax.experiments import batchnorm_report, rank_report, report, scale_report

    runs = [Path(run) for run in options.runs if "=" not in run]
    settings = _settings([run for run in options.runs if "=" in run], ("out",))
    if not runs:
        raise UsageError("report needs at least one run folder")
    kinds = {_kind_of(run) for run in runs}
    if "scale studies" in kinds:  # whose report has the usual one within
        kinds.discard("screenings and trainings")
    if len(kinds) > 1:
        raise UsageError(f"{' and '.join(sorted(kinds))} have reports of their own; name runs of one kind")
    of_kind = {"batch-norm studies": batchnorm_report, "rank correlations": rank_report, "scale studies": scale_report}
    made = of_kind.get(kinds.pop(), report)
    print(made.build_report(runs, Path(settings["out"]) if "out" in settings else None).to_text())
    return 0


def _kind_of(run: Path) -> str:
    """What kind of study a run folder (or a table of one) is of."""
    from mirjax import results
    from mirjax.config import UsageError

    if (run / "records.jsonl").is_file():
        records = results.read_records(run)
        if any("batch_norm" in record["options"] for record in records[:1]):
            return "batch-norm studies"
        trained = [record["options"] for record in records if record.get("classifier") == "trained"]
        varied = {(options.get("train_share", 1), options.get("whole", False)) for options in trained}
        return "scale studies" if len(varied) > 1 else "screenings and trainings"
    if run.suffix != ".csv" and not any(run.glob("*/untrained")):
        raise UsageError(f"run folder {str(run)!r} holds no records.jsonl; give a folder that `run` made")
    return "rank correlations"


def _features(options) -> int:
    import numpy as np

    from mirjax.config import UsageError

    out = [argument for argument in options.overrides if argument.startswith("out=")]
    if len(out) != 1 or not out[0].endswith(".npz"):
        raise UsageError("features needs out=FILE.npz")
    experiment = _experiment(options, [argument for argument in options.overrides if argument not in out])
    if not hasattr(experiment, "features"):
        raise UsageError(f"{type(experiment).__name__} makes no table of features; name a screening")
    experiment.sources()
    _set_up_jax()
    target = Path(out[0].removeprefix("out="))
    if not target.parent.is_dir():
        raise UsageError(f"out={str(target)!r}: the folder does not exist")
    table = experiment.features()
    np.savez(target, **table)
    print(f"{table['features'].shape[0]} clips × {table['features'].shape[1]} features: {target}")
    return 0


def _prepare(options) -> int:
    from mirjax.config import UsageError
    from mirjax.data import builders, dataset

    settings = _settings(options.settings, ("source", "data_dir"))
    if "source" not in settings:
        raise UsageError("prepare needs source=DIR, the folder with the files of the data set")
    data_dir = settings.get("data_dir") or dataset.default_data_dir()
    print(f"prepared: {builders.prepare(options.dataset, settings['source'], data_dir)}")
    return 0


def _list(options) -> int:
    from mirjax.config import UsageError, nearest

    if options.what not in LISTS:
        raise UsageError(f"{options.what!r} cannot be listed; nearest: {nearest(options.what, LISTS)}")
    rows = {"architectures": _architectures, "datasets": _datasets, "configs": _configs}[options.what](options)
    if options.json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return 0
    columns = [key for key in rows[0] if key in _COLUMNS.get(options.what, rows[0])]
    widths = [max(len(column), *(len(_cell(row[column])) for row in rows)) for column in columns]
    for cells in (columns, *([_cell(row[column]) for column in columns] for row in rows)):
        print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())
    for row in rows:
        if row.get("not_screened"):
            print(f"{row['name']} cannot be screened: {row['not_screened']}")
        if row.get("same_features"):
            print(f"{row['name']} has, untrained, the features of {row['same_features']}")
    return 0


# What a terminal shows of long rows; --json has everything.
_COLUMNS = {
    "architectures": tuple(
        "name input sample_rate length n parameters published features gflops receptive_field reference".split()
    ),
    "datasets": ("name", "description", "group", "licence"),
}


def _cell(value) -> str:
    return f"{value:.3f}" if isinstance(value, float) else "" if value is None else str(value)


def _architectures(options) -> list[dict]:
    from tqdm import tqdm

    from mirjax.config import UsageError
    from mirjax.experiments import listing

    try:
        return list(tqdm(listing.architectures(options.width), unit="network", desc="counting", leave=False))
    except ValueError as error:
        raise UsageError(str(error)) from None


def _describe(options) -> int:
    from mirjax.config import UsageError
    from mirjax.experiments import listing
    from mirjax.models import zoo

    n = _settings(options.settings, ("n",)).get("n")
    if n is not None and not (n.isascii() and n.isdigit() and 1 <= int(n) <= zoo.LARGEST_N):
        raise UsageError(f"n={n!r} must be a whole number from 1 to {zoo.LARGEST_N}")
    try:
        zoo.lookup(options.name)
    except ValueError as error:
        raise UsageError(str(error)) from None
    print(listing.describe(options.name, n and int(n)))
    return 0


def _datasets(options) -> list[dict]:
    from mirjax.data import catalogue

    return [
        {
            "name": name,
            "description": (facts := catalogue.describe(name)).description,
            "group": facts.group,
            "licence": facts.licence,
            "citation": facts.citation,
        }
        for name in catalogue.names()
    ]


def _configs(options) -> list[dict]:
    import ast

    from mirjax import config

    rows = []
    for path in config.available(ROOT / "configs"):
        header = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        rows.append({"name": path.stem, "description": header.splitlines()[0] if header else ""})
    return rows


def _doctor(options) -> int:
    _set_up_jax()
    from mirjax.experiments import doctor

    lines, healthy = doctor.examine()
    print("\n".join(lines))
    return 0 if healthy else 1


if __name__ == "__main__":
    from mirjax import processes

    processes.follow_launcher(os.environ)
    with processes.ending_at_once():
        sys.exit(main(sys.argv[1:]))
