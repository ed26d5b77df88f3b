"""What `list architectures` and `describe` tell: rows and text about the networks of the zoo, counted on built modules.

Names: `architectures`, `describe`.
"""

import math
from collections.abc import Iterator

from mirjax.models import zoo
from mirjax.models.entries.entry import Count, Entry

_UNBOUND_SECONDS = 10.0  # clip length at which a network that takes any is counted


def architectures(width: int | None = None) -> Iterator[dict]:
    """A row for every network, and for every variant with a published count.

    Args:
      width: 120 or 3500: networks at the n that has about so many features (variants are left out); the publication's
        n when None.

    Raises:
      ValueError: no network has that width.
    """
    if width is None:
        for name, entry in zoo.ARCHITECTURES.items():
            yield row(name, entry, entry.counts[0] if entry.counts else None, entry.n)
            for variant, count in entry.variants.items():
                yield row(f"{name}/{variant}", entry, count, count.n or entry.n)
        return
    sized = {name: entry for name, entry in zoo.ARCHITECTURES.items() if width in entry.n_by_width}
    if not sized:
        known = sorted({each for entry in zoo.ARCHITECTURES.values() for each in entry.n_by_width})
        raise ValueError(f"width={width} is not one of {', '.join(map(str, known))}")
    for name, entry in sized.items():
        yield row(name, entry, None, entry.n_by_width[width], width)


def row(name: str, entry: Entry, count: Count | None, n: int, width: int | None = None) -> dict:
    """Everything that is true of a network, as JSON values."""
    from mirjax.models import counts

    module = zoo.build(name, n)
    field = counts.receptive_field(module)
    known = dict.fromkeys(("published", "reproduced", "kind", "convention"))
    if count is not None:
        legacy = zoo.build(name, count.n or entry.n, **count.legacy)
        known = {
            "published": count.published,
            "reproduced": counts.count(legacy, count.convention),
            "kind": count.kind,
            "convention": count.convention,
        }
    seconds, gflops = _arithmetic(module, entry)
    return {
        "name": name,
        "family": entry.family,
        "input": entry.signal,
        "representation": entry.input,
        "sample_rate": entry.sample_rate,
        "num_channels": entry.num_channels,
        "length": module.num_steps or entry.length,
        "domain_knowledge": entry.domain_knowledge,
        "filters": entry.filters,
        "back_end": entry.back_end,
        "output": entry.output,
        "width": width,
        "n": n,
        "parameters": counts.count(module),
        **known,
        "features": counts.num_features(module),
        "gflops": gflops,
        "seconds": seconds,
        "receptive_field": "∞" if math.isinf(field) else int(field),
        "status": entry.status,
        "published_result": entry.published,
        "not_screened": entry.not_screened or None,
        "same_features": entry.same_features or None,
        "note": entry.note or None,
        "reference": entry.reference,
        "citation": entry.citation,
    }


def _arithmetic(module, entry) -> tuple[float, float]:
    """Seconds of a clip of the published length (10 s where any is taken), and its GFLOPs (a multiply-add counts 2)."""
    from mirjax.models import counts, taggers

    steps = module.num_steps or entry.length
    if steps is None:
        num_samples = round(_UNBOUND_SECONDS * entry.sample_rate)
        steps = module.representation.shape(num_samples)[0]
    else:
        num_samples = taggers.num_samples(module.representation, steps)
    multiply_adds = sum(layer.multiply_adds for layer in counts.layers_of(module, steps))
    return round(num_samples / entry.sample_rate, 3), 2e-9 * multiply_adds


def describe(name: str, n: int | None = None) -> str:
    """A network's facts, its layers with their shapes, and its parameters, as text.

    Args:
      name: of the zoo.
      n: width; the publication's when None.

    Raises:
      ValueError: unknown name.
    """
    from mirjax.models import counts

    entry, count = zoo.variant(name)
    count = count or (entry.counts[0] if entry.counts else None)
    n = n or (count and count.n) or entry.n
    module = zoo.build(name, n)
    facts = row(name, entry, count, n)
    unit = "samples" if entry.signal == "waveform" else "frames"
    hidden = {
        "name",
        "citation",
        "reference",
        "note",
        "width",
        "parameters",
        "published",
        "reproduced",
        "kind",
        "convention",
    }
    lines = [f"{name}: {entry.citation}", ""]
    lines += [f"  {key:18s} {value}" for key, value in facts.items() if key not in hidden and value is not None]
    lines += [f"  {'parameters':18s} {facts['parameters']:,} trainable, {counts.count(module, 'total'):,} in all"]
    if count is not None and n == (count.n or entry.n):
        printed = f"published {count.published}, " if count.published else ""
        flags = f", with {count.legacy}" if count.legacy else ""
        reproduced = f"{printed}reproduced {facts['reproduced']:,} ({count.kind}; {count.convention}{flags})"
        lines.append(f"  {'count':18s} {reproduced}")
    lines += [f"  {'note':18s} {entry.note}"] if entry.note else []
    steps = module.num_steps or entry.length
    spec = counts.input_spec(module, steps)
    lines += ["", f"layers, for an input of {spec.shape[1]} {unit}, {_times(spec.shape[1:])}:"]
    features = set(module.feature_layers)
    for layer in counts.layers_of(module, steps):
        mark = "*" if layer.name in features else " "
        lines.append(f"  {mark} {layer.name:24s} {_times(layer.shape):>18s}  {layer.multiply_adds:>15,} multiply-adds")
    lines += ["  (* makes the features of an untrained network: its average over all positions)", "", "parameters:"]
    lines += [
        f"  {path:60s} {_times(shape) or '1':>20s}  {math.prod(shape):>12,}"
        for path, shape in counts.parameters_of(module)
    ]
    return "\n".join(lines)


def _times(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
