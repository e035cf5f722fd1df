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


def each_teacher_by_itself(picture, target, answers, alpha):
    errors = sum(alpha * picture_error(picture, answer) for answer in answers)
    return (1 - alpha) * picture_error(picture, target) + errors


WRONG = {
    "12.1": [(0.35 / 0.08, "what the room alone would get"), (2.0, "too high"), (0.5, "too low")],
    "12.2": [
        (nearest_cell, "slice_at at"),
        (lambda gains, across, down, luminance: slice_at(gains, down, across, luminance), "slice_at at"),
        (lambda gains, across, down, luminance: slice_at(gains, across, down, luminance**0.5), "slice_at at"),
    ],
    "12.3": [
        (lambda image: image.clamp(0, 1), "within(image) is"),
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
        (lambda photo: white_is_lost(photo.min(axis=2, keepdims=True)), "for a lamp of which only red is clipped"),
        (lambda photo: white_is_lost(photo) or 0 < (photo.max(axis=2) > 0.978).mean() <= 0.005, "0.25% are clipped"),
    ],
    "12.6": [
        (
            lambda picture, target, answers, alpha: taught_loss(picture, target, answers, 1 - alpha),
            "1 teacher, α = 0.7",
        ),
        (each_teacher_by_itself, "3 teachers"),
        (
            lambda picture, target, answers, alpha: (
                (1 - alpha) * picture_error(picture, target)
                + (alpha * picture_error(picture, torch.stack(answers).mean(0)) if answers else 0)
            ),
            "0 teachers",
        ),
    ],
}
