"""Wrong answers to the exercises of "Distillation from zero", and what must be said about each."""

import torch
import torch.nn.functional as F

from kdlib.losses import kl_divergence, logit_loss, soft_target_loss, soften


def _unstable(logits, temperature):
    powers = (logits / temperature).exp()
    return powers / powers.sum(-1, keepdim=True)


def _stable_for_one(logits, temperature):
    return _unstable(logits - logits.max(), temperature)


WRONG = {
    "00.1": [
        (_unstable, "NaN for the logits 1000, 999 and 0"),
        (lambda logits, temperature: torch.softmax(logits / temperature, dim=0), "sum to"),
        (lambda logits, temperature: torch.softmax(logits * temperature, dim=-1), "multiplies the logits by T"),
        (lambda logits, temperature: torch.softmax(logits, dim=-1), "ignores the temperature"),
        (_stable_for_one, "the logits of each image their own largest"),
        (lambda logits, temperature: torch.softmax(logits, dim=-1) / temperature, "sum to 0.25 at T = 4"),
        (lambda logits, temperature: torch.log_softmax(logits / temperature, dim=-1), "expected 1: divide by the sum"),
    ],
    "00.2": [
        (lambda p, q: kl_divergence(q, p), "the other direction"),
        (lambda p, q: (p * (p / q).log()).sum(-1).mean(), "NaN if a probability of p is 0"),
        (lambda p, q: (p * (p / q).log()).sum(), "sums over the three images"),
        (lambda p, q: (p * (p / q).log()).mean(), "averages over the ten classes"),
        (lambda p, q: -kl_divergence(p, q), "wrong sign"),
        (lambda p, q: (torch.xlogy(p, p) - torch.xlogy(p, q)).sum() / len(p), "average over all dimensions but"),
        (lambda p, q: (p * (p / q).log()).sum(-1), "has the shape 3, expected () (a single value)"),
    ],
    "00.3": [(0.5, "too high: q − p shrinks as well"), (1 / 16, "too low"), (4.0, "too high")],
    "00.4": [
        (lambda s, t, T: soft_target_loss(s, t, T) / T**2, "lacks the factor T²"),
        (lambda s, t, T: soft_target_loss(s, t, T) / T, "has the factor T, expected T²"),
        (lambda s, t, T: soft_target_loss(t, s, T), "is KL(student ‖ teacher)"),
        (lambda s, t, T: T**2 * kl_divergence(soften(t, T), soften(s)), "softens the teacher alone"),
        (lambda s, t, T: T**2 * kl_divergence(soften(t), soften(s)), "divide both by T"),
        (lambda s, t, T: T**2 * kl_divergence(soften(t), soften(s, T)), "softens the student alone"),
        (lambda s, t, T: soft_target_loss(s, t, T) / 10, "F.kl_div needs reduction='batchmean'"),
        (lambda s, t, T: soft_target_loss(s.detach(), t, T), "no gradient with respect to the student's logits"),
        (lambda s, t, T: T**2 * F.cross_entropy(s / T, soften(t, T)), "soft_target_loss(student, teacher, 4) is"),
    ],
    "00.5": [("a", "a 3 may now resemble a 6"), ("b", "drawn at random"), ("d", "one of the letters")],
    "00.6": [
        (lambda s, t: F.mse_loss(s, t) / 2, "subtract from the logits of each image their mean"),
        (lambda s, t: 2 * logit_loss(s, t), "the factor ½ of the limit is missing"),
        (lambda s, t: 10 * logit_loss(s, t), "sums over the ten"),
        (lambda s, t: ((s - t) - (s - t).mean()).square().mean() / 2, "subtracts one mean over the whole batch"),
    ],
    "00.7": [
        (lambda s, t, projection: F.mse_loss(projection(s), t), "use teacher.detach()"),
        (lambda s, t, projection: F.mse_loss(projection(s.detach()), t.detach()), "must both get a gradient"),
        (lambda s, t, projection: F.mse_loss(projection(s), t).detach(), "has no gradient"),
        (lambda s, t, projection: F.l1_loss(projection(s), t.detach()), "hint_loss(student, teacher, projection) is"),
        (lambda s, t, projection: F.mse_loss(projection(t), s), "raises RuntimeError"),
    ],
    "00.8": [("a", "fewer different ones"), ("c", "which of the two directions"), ("e", "one of the letters")],
}  # fmt: skip
