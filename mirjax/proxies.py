"""Zero-cost scores: what a network promises before it is trained, from its weights and one batch.

Convention
----------
`score(model, variables, x, labels) → float`, higher promises more: `model` a `taggers.Model` with a head, `variables`
as initialised, `x` the batch's representation f32[B, T, F], f32[B, T, F, C] or a waveform f32[B, N] (standardised as
it will be in training), `labels` int32[B] from 0 to K − 1. Scores of several networks compare on one batch of them;
their scales mean nothing beyond their order.

    score                   what                                                       networks' runs
    num_parameters          trainable parameters                                       none
    gigaflops               arithmetic of the batch's clips, each                      none
    gradient_norm           ‖∂L/∂w‖, L the mean cross-entropy                          forward + backward
    snip                    Σ |w · ∂L/∂w|                                              forward + backward
    synflow                 log₁₀ Σ |w| · ∂R/∂|w|, R = Σ logits of |w| on ones         forward + backward, one clip
    jacobian_covariance     how unlike the examples' input gradients are               forward + backward, B × B
    naswot                  log |det K|, how unlike the examples' activations are      forward, B × B
    linear_on_pooled_input  no network: a linear classifier on mean and deviation      none

Each score compiles a network once for a shape of batch (seconds on a CPU, more than the run). `gradient_norm` and
`snip` run it as the first step of training does (batch norm by the batch, dropout by a fixed key). The others run it as
screening does: by its running averages, so that a row does not know of those beside it.

Two scores go by the name of Mellor et al.: `jacobian_covariance` is that of their first version (often "jacob_cov"),
`naswot` that of the paper at ICML 2021.

Names: `PROXIES`, the scores above, and `vote`, which joins several.

References
----------
Lee, Ajanthan and Torr 2019, SNIP, ICLR. Tanaka et al. 2020, Pruning neural networks without any data by iteratively
conserving synaptic flow, NeurIPS. Mellor et al. 2020, Neural architecture search without training,
arXiv:2006.04647v1; 2021, ICML. Abdelfattah et al. 2021, Zero-cost proxies for lightweight NAS, ICLR.
"""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from mirjax.models import counts, layers

K = 1e-5  # Mellor et al. (v1): keeps the logarithm and the inverse of an eigenvalue 0 finite
# Raise one when a score comes to give other numbers: those that are kept are then computed anew.
NUMBERS = {"naswot": 2}
RIDGE = 1.0  # penalty of the linear classifier on standardised values
_HIGHEST = jax.lax.Precision.HIGHEST


def num_parameters(model, variables, x, labels) -> float:
    """Number of trainable parameters, the head's included."""
    return float(sum(leaf.size for leaf in jax.tree.leaves(variables["params"])))


def gigaflops(model, variables, x, labels) -> float:
    """Arithmetic of the network's products for a clip as long as the batch's, a multiply-add counting two, in 1e9."""
    return 2e-9 * sum(layer.multiply_adds for layer in counts.layers_of(model, x.shape[1]))


def gradient_norm(model, variables, x, labels) -> float:
    """‖∂L/∂w‖ over all trainable parameters together, L the mean cross-entropy of the batch.

    (The code of Abdelfattah et al. adds the norms of the layers' weights, without biases and batch norms.)

    Raises:
      ValueError: a network without a head, or labels that do not fit it.
    """
    gradients = _gradients(model, variables, x, _checked(model, variables, x, labels))
    return float(np.sqrt(sum(float(np.sum(np.asarray(g, np.float64) ** 2)) for g in jax.tree.leaves(gradients))))


def snip(model, variables, x, labels) -> float:
    """Σ |w · ∂L/∂w| over all trainable parameters, L the mean cross-entropy of the batch.

    (Not divided by its sum over all networks' weights, as no network is pruned; batch norms' scales count.)

    Raises:
      ValueError: as `gradient_norm`.

    Reference:
      Lee, Ajanthan & Torr, "SNIP: single-shot network pruning based on connection sensitivity", ICLR 2019, eq. 5.
    """
    gradients = _gradients(model, variables, x, _checked(model, variables, x, labels))
    products = jax.tree.map(lambda w, g: np.abs(np.asarray(w, np.float64) * g).sum(), variables["params"], gradients)
    return float(sum(jax.tree.leaves(products)))


def synflow(model, variables, x, labels) -> float:
    """log₁₀ Σ w ∂R/∂w with every weight replaced by |w|, R the sum of the logits for an input of ones.

    Batch norms are at mean 0, variance 1, scale 1, shift 0 (a factor of 1 / √(1 + ε) is left of each), and their own
    parameters are left out of the sum (each layer of them would add R once more). Computed in float64; the logarithm,
    as a product of layers grows with depth. In a network of homogeneous layers one after the other it is
    log₁₀ (number of layers · R). −inf where R is dead; so are recurrent layers with gates, which positive weights shut
    (z = 1 keeps the first state for ever): SynFlow says nothing of them, leave them out of its ranking.

    Raises:
      ValueError: a network without a head.

    Reference:
      Tanaka et al. 2020, section 5, eq. 2.
    """
    _checked(model, variables, x, np.zeros(x.shape[0], np.int32))
    with jax.enable_x64(True):  # float32 overflows at 1e38
        params = jax.tree.map(lambda w: jnp.asarray(np.abs(np.asarray(w, np.float64))), variables["params"])
        stats = jax.tree.map(lambda v: jnp.asarray(np.asarray(v, np.float64)), variables.get("batch_stats", {}))
        params, stats = _plain_norms(params, stats)
        flow = _synaptic_flow(model, params, stats, jnp.ones((1, *x.shape[1:])))
        total = sum(
            float(leaf.sum())
            for path, leaf in jax.tree_util.tree_leaves_with_path(flow)
            if not _has(stats, path[:-1])  # batch norm's
        )
    return float(np.log10(total)) if total > 0 else -np.inf


def jacobian_covariance(model, variables, x, labels) -> float:
    """−Σᵢ log(σᵢ + k) + 1 / (σᵢ + k), σ the eigenvalues of the correlations of the examples' input gradients.

    The gradient of an example is that of the sum of its logits with respect to its input. Unlike gradients have
    σ = 1 and the score −B (nearly); the score falls without bound as they become alike. −inf where an example's
    gradient is constant and so correlates with nothing.

    Raises:
      ValueError: a network without a head, or a batch of one.

    Reference:
      Mellor et al., "Neural architecture search without training", arXiv:2006.04647v1, section 3.
    """
    _checked(model, variables, x, np.zeros(x.shape[0], np.int32), several=True)
    jacobian = np.asarray(_input_gradients(model, variables, x), np.float64).reshape(x.shape[0], -1)
    jacobian = jacobian - jacobian.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(jacobian, axis=1)
    if not norms.all():
        return -np.inf
    jacobian /= norms[:, None]
    eigenvalues = np.linalg.eigvalsh(jacobian @ jacobian.T).clip(min=0) + K
    return float(-np.sum(np.log(eigenvalues) + 1 / eigenvalues))


def naswot(model, variables, x, labels) -> float:
    """log |det K|, K[i, j] = number of units that are on for both examples or off for both.

    A unit is one position of what enters an activation, before any pooling, on where it is above 0: of ReLU whether it
    passes anything, of ELU the sign. Recurrent layers have none. −inf where two examples switch all units alike. The
    score grows with the number of units. (The authors normalise by the batch; here batch norm is that of screening.)

    Raises:
      ValueError: a batch of one, or a network without activations.

    Reference:
      Mellor et al., "Neural architecture search without training", ICML 2021, eq. 2.
    """
    _several(x)
    found = _same_codes(model, variables, x)
    if not found:
        raise ValueError("this network has no activations outside of recurrent layers; this score compares them")
    sign, logarithm = np.linalg.slogdet(sum(np.asarray(each, np.float64) for each in found))
    return float(logarithm) if sign > 0 else -np.inf


def linear_on_pooled_input(model, variables, x, labels) -> float:
    """Leave-one-out accuracy of a ridge classifier on mean and deviation over time of the representation.

    The same for all networks of one representation: what the input itself gives away. Values are standardised, targets
    ±1 one-vs-rest, the intercept free, and the examples' predictions without themselves come in closed form from the
    hat matrix H: ŷ₋ᵢ = (ŷᵢ − Hᵢᵢ yᵢ) / (1 − Hᵢᵢ).

    Raises:
      ValueError: a batch of one, or labels that do not fit it.

    Reference:
      Hastie, Tibshirani & Friedman, The elements of statistical learning, 2009, eq. 7.64.
    """
    _several(x)
    labels = _labels(x, labels)
    x = np.asarray(x, np.float64)
    pooled = np.concatenate([statistic(x, axis=1).reshape(len(x), -1) for statistic in (np.mean, np.std)], axis=1)
    pooled -= pooled.mean(axis=0)
    deviations = pooled.std(axis=0)
    pooled /= np.where(deviations > 0, deviations, 1)
    size = len(pooled)
    gram = pooled @ pooled.T  # X (XᵀX + λ)⁻¹ Xᵀ = G (G + λ)⁻¹
    hat = np.linalg.solve(gram + RIDGE * np.eye(size), gram) + 1 / size
    classes, indices = np.unique(labels, return_inverse=True)
    targets = 2.0 * np.eye(len(classes))[indices] - 1
    leverage = hat.diagonal()[:, None]
    left_out = (hat @ targets - leverage * targets) / (1 - leverage)
    return float(np.mean(left_out.argmax(axis=1) == indices))


PROXIES = {
    "num_parameters": num_parameters,
    "gigaflops": gigaflops,
    "gradient_norm": gradient_norm,
    "snip": snip,
    "synflow": synflow,
    "jacobian_covariance": jacobian_covariance,
    "naswot": naswot,
    "linear_on_pooled_input": linear_on_pooled_input,
}


def vote(scores: Mapping[str, object]) -> np.ndarray:
    """Mean rank of networks over several scores: f64[A], 1 for the lowest of all and A for the highest.

    Args:
      scores: f[A] by name; ties share their mean rank, infinities rank at the ends.

    Raises:
      ValueError: no scores, of different lengths, or NaN among them.
    """
    from scipy import stats

    rows = {name: np.asarray(values, float) for name, values in scores.items()}
    shapes = {name: values.shape for name, values in rows.items()}
    if len(set(shapes.values())) != 1 or len(next(iter(shapes.values()))) != 1:
        raise ValueError(f"scores of shapes {shapes}; give one number for each network, the same networks in all")
    if bad := [name for name, values in rows.items() if np.isnan(values).any()]:
        raise ValueError(f"scores {', '.join(bad)} hold NaN, which has no rank; leave these networks or scores out")
    return stats.rankdata(np.stack(list(rows.values())), axis=1).mean(axis=0)


# ── what is compiled, once for a network and a shape of batch ──


def _loss(params, rest, model, x, labels):
    variables = {"params": params, **rest}
    rngs = {"dropout": jax.random.key(0)}
    outputs, _ = model.apply(variables, x, train=True, method="embed", rngs=rngs, mutable=["batch_stats"])
    logits = jax.nn.log_softmax(outputs["logits"].astype(jnp.promote_types(x.dtype, jnp.float32)))
    return -jnp.take_along_axis(logits, labels[:, None], axis=1).mean()


@functools.partial(jax.jit, static_argnames="model")
def _gradients(model, variables, x, labels):
    rest = {kind: tree for kind, tree in variables.items() if kind != "params"}
    return jax.grad(_loss)(variables["params"], rest, model, x, labels)


@functools.partial(jax.jit, static_argnames="model")
def _synaptic_flow(model, params, stats, ones):
    def total(params):
        variables = {"params": params} | ({"batch_stats": stats} if stats else {})
        return model.apply(variables, ones, method="embed")["logits"].sum()

    return jax.tree.map(jnp.multiply, params, jax.grad(total)(params))


@functools.partial(jax.jit, static_argnames="model")
def _input_gradients(model, variables, x):
    return jax.grad(lambda x: model.apply(variables, x, method="embed")["logits"].sum())(x)


@functools.partial(jax.jit, static_argnames="model")
def _same_codes(model, variables, x):
    """For every activation the number of units that two examples switch alike: list of f32[B, B]."""
    found = []
    with layers.record_units() as entering:
        model.apply(variables, x, method="embed")
    for each in entering:
        on = (each > 0).reshape(x.shape[0], -1).astype(jnp.float32)  # exact up to 2²⁴ units a map
        counts_on = on.sum(axis=1)
        both = jnp.matmul(on, on.T, precision=_HIGHEST)
        found.append(on.shape[1] - counts_on[:, None] - counts_on[None] + 2 * both)
    return found


# ── checks ──


def _several(x) -> None:
    if x.shape[0] < 2:
        raise ValueError(f"a batch of {x.shape[0]} clips; this score compares clips, give at least two")


def _labels(x, labels):
    labels = np.asarray(labels)
    if labels.shape != (x.shape[0],) or labels.dtype.kind not in "iu":
        raise ValueError(f"labels are {labels.dtype}{list(labels.shape)} and must be whole numbers [{x.shape[0]}]")
    return labels


def _checked(model, variables, x, labels, *, several=False):
    """The labels, once they and the head are known to fit."""
    if several:
        _several(x)
    labels = _labels(x, labels)
    shapes = jax.eval_shape(functools.partial(model.apply, method="embed"), variables, x)
    if "logits" not in shapes or shapes["logits"].ndim != 2:
        raise ValueError("this network has no logits for each clip; build it with num_classes (`space.with_head`)")
    num_classes = shapes["logits"].shape[1]
    if not (0 <= labels.min() and labels.max() < num_classes):
        raise ValueError(
            f"labels from {labels.min()} to {labels.max()} for a head of {num_classes} classes; number them from 0"
        )
    return labels


def _has(tree, path) -> bool:
    """Whether the batch statistics hold a normalisation at this path."""
    for part in path:
        if part.key not in tree:
            return False
        tree = tree[part.key]
    return "mean" in tree and not isinstance(tree["mean"], Mapping)


def _plain_norms(params, stats):
    """Variables whose batch norms do nothing."""

    def plain(path, leaf):
        return jnp.full_like(leaf, 1 if path[-1].key in ("scale", "var") else 0) if _has(stats, path[:-1]) else leaf

    return jax.tree_util.tree_map_with_path(plain, params), jax.tree_util.tree_map_with_path(plain, stats)
