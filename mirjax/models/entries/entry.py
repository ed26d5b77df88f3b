"""What an entry of the zoo says, as plain data. Names: `Count`, `Entry`."""

import dataclasses
import re


@dataclasses.dataclass(frozen=True)
class Count:
    """A published number of parameters and the integer that the built network has.

    Attributes:
      reproduced: the integer by the publication's own convention, legacy flags included.
      published: as printed ("3,275,312", "75k", "11.8M"); None where nothing was published.
      kind: `exact`; `truncation` or `rounding` (of the printed short form); `near` (a few per cent away, reason in the
        entry's note); `derived` (from the published layers, no number printed); `reconstructed` (layers are ours or
        taken from elsewhere); `open` (the nearest documented layout).
      convention: what is counted: `trainable` (kernels, biases, batch norm's scales and shifts), `total` (with its
        running averages), `no batch norm`.
      variant: name of the variant that this is the count of; "" for the entry's default.
      n: width of the variant; the entry's when None.
      options: options of the constructor that make the variant.
      legacy: further options under which the count holds, and which nobody should use otherwise.
      trainable: trainable parameters without the legacy options, pinned; `reproduced` when None.
    """

    reproduced: int
    published: str | None = None
    kind: str = "derived"
    convention: str = "trainable"
    variant: str = ""
    n: int | None = None
    options: dict = dataclasses.field(default_factory=dict)
    legacy: dict = dataclasses.field(default_factory=dict)
    trainable: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """What is true of an architecture before it is built.

    Attributes:
      name: as configs and records spell it.
      family: networks that share a module, a test and an input.
      make: where its constructor is, `module:function` under `mirjax.models`: (n, **options) → `taggers.Model`.
      n: width of the publication: what n counts is said by the constructor.
      signal: `spectrogram` or `waveform`.
      domain_knowledge: `none`, `filter shape` or `filter length`: what its filters assume about music.
      filters: `single`, `many` or `minimal` shapes in the first layer; `none` without convolutions.
      back_end: `fixed` or `variable` input length, `none` without a back-end, `sequence` for one output a step.
      sample_rate: hertz.
      num_channels: of the audio.
      length: frames (spectrogram) or samples (waveform) of the published input; None: any.
      input: the representation in words.
      citation: where it was published.
      status: `published` (layers as in paper, code or weights), `reconstructed` (some layers chosen by us) or `ours`.
      output: `sigmoid`, `softmax`, `linear`, or `none` without a head.
      published: the published result, with its data and metric; None where there is none.
      counts: of parameters; the first one is the default's.
      n_by_width: n that gives about 120 and about 3500 features.
      not_screened: why it cannot be screened untrained; "" when it can.
      same_features: name of a network whose untrained features are these, number for number, at the same seed and n
        (the difference comes after the maps); the group `zoo` holds one of them.
      note: what a user should know: disagreements of paper and code, what was chosen.
    """

    name: str
    family: str
    make: str
    n: int
    signal: str
    domain_knowledge: str
    filters: str
    back_end: str
    sample_rate: int
    input: str
    citation: str
    length: int | None = None
    num_channels: int = 1
    status: str = "published"
    output: str = "sigmoid"
    published: str | None = None
    counts: tuple[Count, ...] = ()
    n_by_width: dict[int, int] = dataclasses.field(default_factory=dict)
    not_screened: str = ""
    same_features: str = ""
    note: str = ""

    @property
    def reference(self) -> str:
        """First author or two and year, from the first work of the citation; `ours` for our own."""
        if self.status == "ours":
            return "ours"
        authors = self.citation.split(",")[0]
        if "&" not in authors and re.match(r"[^,&;\d]+(, [^,&;\d]{1,30})+ & ", self.citation):
            authors += " et al."
        return f"{authors} {re.search(r'(19|20)[0-9]{2}', self.citation)[0]}"

    @property
    def variants(self) -> dict[str, Count]:
        """Variants by name."""
        return {count.variant: count for count in self.counts if count.variant}
