"""Wrong answers to the exercises of lesson 12."""

import numpy as np
import torch

from kdlib.exercises.lesson_12 import slice_at, taught_loss, white_is_lost
from kdlib.gain_grid import KNOTS
from kdlib.models.grid import within_white
from kdlib.training.exposure import picture_error


def nearest_cell(gains, across, down, luminance):
    row, column = int(down * (gains.shape[1] - 1) + 0.5), int(across * (gains.shape[2] - 1) + 0.5)
    return float(np.interp(luminance, KNOTS, gains[:, row, column].numpy()))


def sliced(gains, across, down, luminance, knots=KNOTS, corners=False):
    for size, position in ((gains.shape[2], across), (gains.shape[1], down)):
        place = min(max(position * (size - 1) if corners else position * size - 0.5, 0.0), size - 1.0)
        below = min(int(place), size - 2)
        gains = torch.lerp(gains[..., below], gains[..., below + 1], place - below)
    return float(np.interp(luminance, knots, gains.numpy()))


def fails_at_white(gains, across, down, luminance):
    above = KNOTS[np.searchsorted(KNOTS, luminance, side="right")]
    return slice_at(gains, across, down, min(luminance, above))


def lost_if(clipped_share=0.005, part=1 / 20, of_all=False, values=False):
    """The solution with other limits, or a count of values instead of pixels."""

    def white_is_lost(photo):
        brightest = photo if values else photo.max(axis=2)
        clipped, bright = int((brightest > 0.978).sum()), int((brightest > 0.9).sum())
        return clipped > clipped_share * brightest.size and bright - clipped > part * (
            brightest.size if of_all else clipped
        )

    return white_is_lost


def values_among_pixels(photo):
    clipped, bright = int((photo > 0.978).sum()), int((photo > 0.9).sum())
    return clipped > 0.005 * photo.shape[0] * photo.shape[1] and bright - clipped > clipped / 20


def mean_of_errors(picture, target, answers, alpha):
    errors = [picture_error(picture, answer) for answer in answers]
    return taught_loss(picture, target, [], alpha) * (1 - alpha if answers else 1) + (
        alpha * torch.stack(errors).mean() if answers else 0
    )


def each_teacher_by_itself(picture, target, answers, alpha):
    errors = sum(alpha * picture_error(picture, answer) for answer in answers)
    return (1 - alpha) * picture_error(picture, target) + errors


WRONG = {
    "12.1": [
        (0.35 / 0.08, "what the room alone would get"),
        (2.0, "too high"),
        (0.714, "twice as many"),
        (0.5, "too low"),
    ],
    "12.2": [
        (nearest_cell, "slice_at at"),
        (fails_at_white, "fails_at_white raises IndexError"),
        (lambda *at: sliced(*at, corners=True), "puts the outermost centres at the edges"),
        (lambda *at: sliced(*at, knots=np.linspace(0, 1, 8)), "takes the knots as evenly spaced"),
        (lambda gains, across, down, luminance: slice_at(gains, down, across, luminance), "across and down swapped"),
        (lambda gains, *at: slice_at(gains.transpose(1, 2), *at), "across and down swapped"),
        (lambda gains, *at: float(np.exp(slice_at(gains.log(), *at))), "interpolates logarithms"),
        (lambda gains, across, down, luminance: slice_at(gains, across, down, luminance**0.5), "slice_at at"),
    ],
    "12.3": [
        (lambda image: image.clamp(0, 1), "clips each channel by itself"),
        (lambda image: image / image.amax(1, keepdim=True).clamp_min(1), "expected [0, 1]"),
        (lambda image: image.clamp_min(0) / image.amax(1, keepdim=True).clamp_min(1e-3), "stay as they are"),
        (lambda image: within_white(image)[0], "shape"),
    ],
    "12.4": [
        ((0.9, 0.45, 0.1), "the hue turns by 58°"),
        ((0.5, 0.5, 0.5), "a grey has no hue"),
        ((2.0, 0.5, 0.0), "three values in [0, 1]"),
    ],
    "12.5": [
        (lambda photo: (photo.max(axis=2) > 0.978).mean() > 0.005, "for a screenshot"),
        (lambda photo: photo.mean() > 0.6, "expected"),
        (lost_if(of_all=True), "a twentieth of the clipped ones"),
        (lost_if(part=1 / 5), "a twentieth of the clipped ones"),
        (lost_if(part=0), "a twentieth of the clipped ones"),
        (lost_if(clipped_share=0.05), "more than 0.5% are clipped"),
        (lost_if(values=True), "not values"),
        (values_among_pixels, "0.25% are clipped"),
        (lambda photo: float(white_is_lost(photo)), "returns a float, expected True or False"),
        (lambda photo: white_is_lost(photo.min(axis=2, keepdims=True)), "for a lamp of which only red is clipped"),
        (lambda photo: white_is_lost(photo) or 0 < (photo.max(axis=2) > 0.978).mean() <= 0.005, "0.25% are clipped"),
    ],
    "12.6": [
        (
            lambda picture, target, answers, alpha: taught_loss(picture, target, answers, 1 - alpha),
            "1 teacher, α = 0.7 has α and 1 − α swapped",
        ),
        (mean_of_errors, "3 teachers, α = 0.4 takes the mean of the teachers' errors"),
        (each_teacher_by_itself, "3 teachers, α = 0.4 adds the errors"),
        (
            lambda picture, target, answers, alpha: taught_loss(picture, target, answers[:1], alpha),
            "uses the first teacher only",
        ),
        (
            lambda picture, target, answers, alpha: (
                (1 - alpha) * picture_error(picture, target)
                + (alpha * picture_error(picture, torch.stack(answers).mean(0)) if answers else 0)
            ),
            "without a teacher it has all of the weight",
        ),
    ],
}
