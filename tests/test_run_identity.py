"""What a run by losses of one's own must find unchanged to be continued."""

import random
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from kdlib.training import LoopConfig, distill
from kdlib.training.identity import fingerprint
from tests.helpers import in_new_process

QUICK = {"epochs": 2, "batch_size": 4, "progress": False, "device": "cpu"}


def softened(student, teacher, batch, temperature=2.0):
    return F.mse_loss(student / temperature, teacher / temperature)


def plain(student, teacher, batch):
    return F.mse_loss(student, teacher)


def absolute(student, teacher, batch):
    return F.l1_loss(student, teacher)


absolute.__qualname__ = absolute.__name__ = "plain"  # only the code differs


def divided_by(temperature):
    return lambda student, teacher, batch: softened(student, teacher, batch, temperature)


class Scaled(nn.Module):
    def __init__(self, factor, weight=1.0):
        super().__init__()
        self.factor = factor
        self.register_buffer("weight", torch.tensor(weight))

    def forward(self, student, teacher, batch):
        return self.factor * self.weight * F.mse_loss(student, teacher)


class Scaling:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, student, teacher, batch):
        return self.factor * F.mse_loss(student, teacher)

    def compare(self, student, teacher, batch):
        return self(student, teacher, batch)


def again(loss):
    """A function that refers to itself."""

    def repeated(student, teacher, batch, times=2):
        return loss(student, teacher, batch) if times == 1 else repeated(student, teacher, batch, times - 1)

    return repeated


# Makers of equal functions, and of another one that a run must not take for them.
CHANGES = {
    "code": (lambda: plain, lambda: absolute),
    "name": (lambda: plain, lambda: softened),
    "lambda": (
        lambda: lambda student, teacher, batch: F.mse_loss(student, teacher),
        lambda: lambda student, teacher, batch: F.mse_loss(student, 2 * teacher),
    ),
    "enclosed number": (lambda: divided_by(2.0), lambda: divided_by(4.0)),
    "enclosed function": (lambda: again(plain), lambda: again(absolute)),
    "partial": (lambda: partial(softened, temperature=2.0), lambda: partial(softened, temperature=4.0)),
    "module's attribute": (lambda: Scaled(1.0), lambda: Scaled(2.0)),
    "module's buffer": (lambda: Scaled(1.0), lambda: Scaled(1.0, weight=2.0)),
    "object": (lambda: Scaling(1.0), lambda: Scaling(2.0)),
    "method": (lambda: Scaling(1.0).compare, lambda: Scaling(2.0).compare),
}


def run(folder, loss=plain, data=None, **more):
    points = TensorDataset(torch.randn(12, 2, generator=torch.Generator().manual_seed(0)))
    torch.manual_seed(1)
    student, teacher = nn.Linear(2, 3), nn.Linear(2, 3)
    return distill(
        student,
        teacher,
        None,
        folder,
        data=points if data is None else data,
        losses={"loss": (1.0, loss)},
        **QUICK,
        **more,
    )


@pytest.mark.parametrize("change", CHANGES)
def test_a_fingerprint_tells_functions_apart(change):
    same, other = CHANGES[change]
    assert fingerprint(same()) == fingerprint(same()) != fingerprint(other())


def test_a_run_is_continued_with_the_same_loss_only(tmp_path, interrupted_in):
    with interrupted_in(2):
        run(tmp_path)
    with pytest.raises(ValueError, match=r"belongs to a run with other settings \(functions"):
        run(tmp_path, absolute, resume=True)
    assert len(run(tmp_path, resume=True).history) == 2


def test_features_are_compared_by_the_same_function_only(tmp_path):
    features = {"hidden": (0.1, ("", ""), F.mse_loss)}
    run(tmp_path, features=features)
    with pytest.raises(ValueError, match=r"other settings \(functions"):
        run(tmp_path, features={"hidden": (0.1, ("", ""), F.l1_loss)}, resume=True)
    assert run(tmp_path, features=features, resume=True).history


@pytest.mark.slow
def test_a_fingerprint_is_the_same_in_every_process(capsys):
    program = """
from kdlib.training.identity import fingerprint
print(fingerprint([lambda s, t, b: s if t in {"one", "two", "three"} else ..., {"two": 1.0}, open, int]))
"""
    exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})
    done = in_new_process(program)  # where texts have other hashes
    assert done.returncode == 0, done.stderr
    assert done.stdout == capsys.readouterr().out


def test_the_order_of_a_set_has_no_effect():
    # Among so few, numbers with the same remainder by 8 keep the order in which they came.
    one, other = (lambda s, t, b: t in {0, 8}), (lambda s, t, b: t in {8, 0})
    assert [*frozenset([0, 8])] != [*frozenset([8, 0])]
    one.__qualname__ = other.__qualname__ = "found"
    assert fingerprint([one, {0, 8}]) == fingerprint([other, {8, 0}]) != fingerprint([other, {8, 1}])


def test_a_run_by_a_recipe_is_recognised_by_the_settings_of_old(tmp_path):
    photos = torch.randint(0, 256, (4, 3, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
    distill("nano-161", "zero-dce++", None, tmp_path, photos=photos, **QUICK)
    kept = torch.load(tmp_path / "last.ckpt", weights_only=True)["config"]
    own = {"augmentation", "photos", "recipe", "student", "teacher", "validation_fraction"}
    assert kept.keys() == LoopConfig().identity().keys() | own


class Points(Dataset):
    """Twelve points, as a data set of one's own."""

    def __init__(self, last=0.0, noise=None, length=12):
        self.last, self.noise, self.length = last, noise, length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        shift = self.noise() if self.noise else 0.0
        return torch.tensor([index + shift, self.last if index == 11 else 0.0])


def test_a_run_is_continued_with_the_same_data_set_only(tmp_path):
    run(tmp_path, data=Points())
    with pytest.raises(ValueError, match=r"other settings \(data"):
        run(tmp_path, data=Points(last=1.0), resume=True)
    assert run(tmp_path, data=Points(), resume=True).history


@pytest.mark.parametrize("length", [0, 1])
def test_a_data_set_too_small_to_hold_any_out_is_refused(length, tmp_path):
    with pytest.raises(ValueError, match=f"training needs at least 2 items, .* there is {length}"):
        run(tmp_path, data=Points(length=length))


@pytest.mark.parametrize("noise", [lambda: float(torch.rand(())), random.random, random.SystemRandom().random])
def test_a_data_set_that_draws_its_items_is_recognised(noise, tmp_path):
    run(tmp_path, data=Points(noise=noise))
    assert run(tmp_path, data=Points(noise=noise), resume=True).history
