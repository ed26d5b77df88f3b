"""Shares of the training clips, for studies of how much data a network needs.

Convention: clips are numbers, int[M]. All shares are beginnings of one order, so that a larger share contains the
smaller ones. In that order the classes are evenly spread: of any beginning, each class has its share, to within a clip.
Names: `take`.
"""

import numpy as np


def take(chosen: np.ndarray, ids: np.ndarray, classes: np.ndarray | None = None, *, share: float, seed: int = 0):
    """A share of some clips: stratified, nested, and the same whatever the order of the clips.

    Clip i of a class' n, in random order, has the place (i + ½) / n; clips are taken by place, ties in random order.

    Args:
      chosen: int[M'], the clips to take from.
      ids: str[M], of all clips.
      classes: [M], class of every clip; None takes all for one class.
      share: above 0, at most 1; of M' clips round(share · M') are taken.
      seed: of the order.

    Returns:
      int[m], clip numbers, ascending.

    Raises:
      ValueError: a share out of its range, or so small that a class is left without clips.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share={share} must be above 0, at most 1")
    chosen = np.asarray(chosen)
    among = chosen[np.argsort(np.asarray(ids)[chosen], kind="stable")]
    among = np.random.default_rng(seed).permutation(among)
    labels = np.zeros(len(among), int) if classes is None else np.asarray(classes)[among]
    places = np.empty(len(among))
    for name in np.unique(labels):
        mine = labels == name
        places[mine] = (np.arange(mine.sum()) + 0.5) / mine.sum()
    taken = np.argsort(places, kind="stable")[: round(share * len(among))]
    if lost := sorted(set(labels.tolist()) - set(labels[taken].tolist())):
        which = "" if classes is None else f" of {lost[0]!r}"
        raise ValueError(f"share={share} of {len(among)} training clips leaves none{which}; take a larger share")
    return np.sort(among[taken])
