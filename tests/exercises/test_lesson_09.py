"""Wrong answers to the exercises of lesson 09."""

import math

import torch

EYE = torch.eye(3)


def attend(queries, keys, values, root=0.5, over=-1):
    shares = (queries @ keys.transpose(-2, -1) / queries.shape[-1] ** root).softmax(dim=over)
    return shares @ values, shares


def fold(weight, norm, eps=None, bias=True, rows=True):
    scale = norm.weight / (norm.running_var + (norm.eps if eps is None else eps)).sqrt()
    scaled = weight * (scale[:, None, None, None] if rows else scale.mean())
    return scaled, norm.bias - norm.running_mean * scale if bias else norm.bias


def mean_of_another_sign(weight, norm):
    scaled, bias = fold(weight, norm)
    return scaled, 2 * norm.bias - bias


def no_root(weight, norm):
    scale = norm.weight / (norm.running_var + norm.eps)
    return weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale


def along(way_of, warm_up=0.1, late_from=0.7, limited=True):
    def soft_ramp(early, late):
        def weights(progress):
            t = (progress - warm_up) / (late_from - warm_up)
            way = way_of(min(1.0, max(0.0, t)) if limited else t)
            return {level: (1 - way) * early[level] + way * late[level] for level in early}

        return weights

    return soft_ramp


def half_a_cosine(t):
    return (1 - math.cos(math.pi * t)) / 2


def ramp(early, late, warm_up=0.1, late_from=0.7):
    def weights(progress):
        way = min(1.0, max(0.0, (progress - warm_up) / (late_from - warm_up)))
        return {level: (1 - way) * early[level] + way * late[level] for level in early}

    return weights


WRONG = {
    "09.1": [
        (lambda q, k, v: attend(q, k, v, root=0), "not divided by √d"),
        (lambda q, k, v: attend(q, k, v, over=-2), "do not sum to 1"),
        (lambda q, k, v: attend(q, k, v)[0], "two tensors"),
        (lambda q, k, v: attend(q, k, v)[::-1], "the tensor of shares for 5 tokens has the shape"),
    ],
    "09.2": [
        (lambda weight, norm: fold(weight, norm, eps=0.0), "ε belongs under the root"),
        (lambda weight, norm: fold(weight, norm, bias=False), "the bias is that of the norm"),
        (lambda weight, norm: fold(weight, norm, rows=False), "the weight"),
        (lambda weight, norm: fold(weight, norm)[0], "weight and bias"),
        (no_root, "expected the root of it"),
        (mean_of_another_sign, "has the scaled mean added"),
        (lambda weight, norm: (fold(weight, norm)[0], norm.bias - norm.running_mean), "scales it as well"),
        (lambda weight, norm: (fold(weight, norm)[0], fold(weight, norm)[1] - norm.bias), "lacks b"),
    ],
    "09.3": [
        (ramp, "the ramp is straight"),
        (lambda early, late: ramp(early, late, 0.0, 1.0), "at 0.1 is that of a ramp over the whole training"),
        (along(half_a_cosine, 0.0, 1.0), "at 0.1 is that of a ramp over the whole training"),
        (along(half_a_cosine, limited=False), "at the start goes on outside of the ramp"),
        (along(lambda t: t, limited=False), "at the start goes on outside of the ramp, which is straight"),
        (along(lambda t: 1 - math.cos(math.pi * t / 2)), "a quarter of a cosine"),
        (along(lambda t: math.sin(math.pi * t / 2)), "a quarter of a sine"),
        (along(lambda t: 3 * t**2 - 2 * t**3), "which is similar"),
        (lambda early, late: {**early}, "returns no function"),
        (lambda early, late: along(half_a_cosine)(late, early), "has the two ends swapped"),
    ],
    "09.4": [
        (lambda width, height, across: 9 * width**2 * height * across, "two convolutions"),
        (lambda width, height, across: 2 * width**2 * height * across, "9 multiply-adds"),
        (lambda width, height, across: 2 * 9 * width * height * across, "reads all width inputs"),
        (lambda width, height, across: 2 * 9 * width**2 * height * across + 2 * width, "expected"),
    ],
    "09.5": [
        (EYE, "no colour becomes black"),
        (-EYE, "the guard changes the matrix"),
        (torch.zeros(3), "of the shape 3×3"),
        (5 * EYE, "between −2 and 2"),
    ],
    "09.6": [
        (lambda colour: EYE + (colour - EYE).clamp(-0.25, 0.25), "clipping passes none"),
        (lambda colour: EYE + 0.25 * torch.tanh(colour - EYE), "divide by the limit inside tanh"),
        (lambda colour: colour.tanh(), "near the identity"),
        (lambda colour: EYE + 0.5 * torch.tanh((colour - EYE) / 0.5), "a row sums to"),
        (lambda colour: EYE + 0.25 * torch.tanh((colour.detach() - EYE) / 0.25), "has lost the graph"),
    ],
}

ALSO_RIGHT = {"09.6": [lambda colour: EYE + 0.8 / 3 * torch.tanh((colour - EYE) / (0.8 / 3))]}
