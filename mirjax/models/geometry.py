"""What a network's layers do to the time axis, as plain values: steps in, steps out, receptive field, shortest input.

A layer is a `Window` that slides over time; a network is a tuple of them, in order. Where branches run side by side
the longest one counts (`longest`). Imports no JAX; the number of steps may be an int or an array of them.
Names: `Window`, `everything`, `num_steps`, `stride`, `receptive_field`, `shortest`, `require`, `longest`.
"""

import dataclasses
import math
from collections.abc import Iterable


@dataclasses.dataclass(frozen=True)
class Window:
    """One layer as time sees it.

    Attributes:
      name: the layer, as an error message names it.
      size: input steps that one output step sees; infinite for recurrent, attentive and global layers.
      stride: input steps from one output step to the next.
      padding: zeros added on both sides together, or "same": ⌈T / stride⌉ output steps.
      keeps: of an infinite window: True when it gives a step for every input step (many-to-many).
    """

    name: str
    size: float
    stride: int = 1
    padding: int | str = 0
    keeps: bool = False

    def num_steps(self, steps):
        """Output steps for a number of input steps (an int, or an array of them); never negative."""
        if math.isinf(self.size):
            return steps if self.keeps else steps * 0 + 1
        if self.padding == "same":
            return -(-steps // self.stride)
        found = (steps + self.padding - self.size) // self.stride + 1
        return found * (found > 0) * (steps > 0)  # also of an array

    def least(self, steps: int) -> int:
        """Input steps that `steps` output steps need; infinite after a global layer, which leaves one."""
        if math.isinf(self.size):
            return steps if self.keeps else 1 if steps == 1 else math.inf
        if self.padding == "same":
            return (steps - 1) * self.stride + 1
        return max((steps - 1) * self.stride + self.size - self.padding, 1)


def everything(name: str, *, keeps: bool = False) -> Window:
    """A layer that sees all steps: global pooling, or recurrence and attention that keep the steps."""
    return Window(name, math.inf, keeps=keeps)


def num_steps(windows: Iterable[Window], steps):
    """Steps after all layers, of an int or an array of steps."""
    for window in windows:
        steps = window.num_steps(steps)
    return steps


def stride(windows: Iterable[Window]) -> int:
    """Input steps from one output step to the next."""
    return math.prod(window.stride for window in windows)


def receptive_field(windows: Iterable[Window]) -> float:
    """Input steps that one output step sees: 1 + Σ (sizeᵢ − 1) Π_{j<i} strideⱼ; `math.inf` when a layer sees all."""
    field, jump = 1, 1
    for window in windows:
        field += (window.size - 1) * jump
        jump *= window.stride
    return field


def shortest(windows: Iterable[Window]) -> int:
    """Fewest input steps that leave at least one step after every layer."""
    least = 1
    for window in reversed(tuple(windows)):
        least = window.least(least)
    return least


def require(windows: Iterable[Window], steps: int, what: str, unit: str = "frames") -> None:
    """Refuse an input that some layer cannot take.

    Raises:
      ValueError: names the network, the layer that runs out of steps, and the shortest input that works.
    """
    windows = tuple(windows)
    left = steps
    for window in windows:
        before, left = left, window.num_steps(left)
        if left < 1 or before < 1:
            why = f"{window.name} needs {window.least(1)} steps and has {before} left"
            if math.isinf(least := shortest(windows)):
                raise ValueError(f"{what} takes no input, however long: {why}, behind a layer that leaves one step")
            remedy = "raise `seconds` or leave this network out"
            raise ValueError(f"{what} needs at least {least} {unit} and got {steps}: {why}; {remedy}")


def longest(branches: Iterable[tuple[Window, ...]]) -> tuple[Window, ...]:
    """Of branches side by side, the one with the largest receptive field."""
    return max(branches, key=receptive_field)
