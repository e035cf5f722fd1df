"""Distillation losses of classifiers: soft targets, their limit, and what compares hidden layers.

Logits are B×C. Features are B×K×h×w, or B×K×… where only distances between examples count. Each loss is a mean over the
batch. Tensors of the teacher should carry no gradient.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlib.checks import check_number


def soften(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return class probabilities at a temperature, softmax(z / T) over the last dimension: same shape, sums to 1.

    Args:
        logits: …×C.
        temperature: T > 0; 1 is the usual softmax, a higher one brings the probabilities closer together.
    """
    check_number("temperature", temperature, above=0)
    return torch.softmax(logits / temperature, dim=-1)


def kl_divergence(p: Tensor, q: Tensor) -> Tensor:
    """Return KL(p ‖ q) = Σ p log(p / q) in nats, averaged over the batch.

    Args:
        p: probabilities of the distribution to be matched, …×C; classes with probability 0 add nothing.
        q: probabilities of the distribution that is scored, …×C.
    """
    return (torch.xlogy(p, p) - torch.xlogy(p, q)).sum(-1).mean()


def soft_target_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return T² · KL(teacher ‖ student) of the distributions at temperature T (Hinton et al., 2015, section 2).

    The factor keeps the size of the gradient, which would otherwise fall with 1/T².

    Args:
        student, teacher: logits, …×C.
        temperature: T > 0.
    """
    log_q = F.log_softmax(student / temperature, dim=-1)  # log(softmax(…)) would be −∞ where a probability is 0
    p = soften(teacher, temperature)
    return temperature**2 * (torch.xlogy(p, p) - p * log_q).sum(-1).mean()


def logit_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return ½ · mean squared error of logits less their mean: the limit of :func:`soft_target_loss` for T → ∞.

    Args:
        student, teacher: logits, …×C.
    """
    apart = student - teacher
    return (apart - apart.mean(-1, keepdim=True)).square().mean() / 2


def hint_loss(student: Tensor, teacher: Tensor, projection: nn.Module) -> Tensor:
    """Mean squared error of projected features (Romero et al., 2015): FitNets' hints.

    Args:
        student: features B×K×h×w.
        teacher: features B×L×h×w.
        projection: turns K channels into L; it learns together with the student and is dropped afterwards.
    """
    return F.mse_loss(projection(student), teacher.detach())


def attention_transfer_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Compare where two layers are active: squared distance of their attention maps, each of norm 1.

    An attention map is the sum of squares over channels (Zagoruyko and Komodakis, 2017), so the layers may have
    different numbers of channels.

    Args:
        student, teacher: features of the same height and width, B×K×h×w and B×L×h×w.
    """
    maps = [F.normalize(features.square().sum(1).flatten(1), dim=1) for features in (student, teacher)]
    return (maps[0] - maps[1]).square().sum(1).mean()


def relation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Compare the distances between the examples of a batch, each divided by the mean distance.

    This is the distance-wise loss of Park et al. (2019): the Huber loss of distances.

    Args:
        student, teacher: features of the same B ≥ 2 examples, B×…; the other sizes may differ.
    """
    one, other = (F.pdist(features.flatten(1)) for features in (student, teacher))
    return F.smooth_l1_loss(one / one.mean().clamp_min(1e-12), other / other.mean().clamp_min(1e-12))
