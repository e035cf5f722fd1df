"""The effect of each option of distilling a super-resolution network: one small student, taught in many ways.

``python -m kdlib.experiments.super_resolution_options --out results/super_resolution_options.json`` measures it. The
command can be stopped at any time, and continues when it is called again.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from kdlib.evaluation.report import as_method
from kdlib.evaluation.super_resolution import bicubic, capped_psnr_y, score_super_resolution, sharp_photos
from kdlib.experiments.measurement import Compared, Measurement
from kdlib.models import count_parameters, create_model
from kdlib.models.msafn import MSAFN
from kdlib.resampling import blur
from kdlib.training.super_resolution import Sharp, distill_super_resolution, open_images, split_images
from kdlib.training.task import digest
from kdlib.weights import load_model, save_model

TAUGHT, ALONE, LONGER = "taught by l1", "no teacher", "no teacher, as much time"
# Both start from the photo itself, so that a few minutes of training suffice.
STUDENT = {"name": "light-msafn", "width": 8, "blocks": 2, "residual": True}
TEACHER = {"name": "msafn", "width": 16, "blocks": 3, "residual": True, "drop": 0.0}
TRAINING = {"patch": 48, "batch_size": 8, "learning_rate": 0.001, "clip_norm": 0.5, "ema_decay": 0.95, "averaged": True}


@dataclass(frozen=True)
class Option(Compared):
    """One way to make the student.

    Attributes:
        changes: arguments of :func:`~kdlib.training.super_resolution.distill_super_resolution` that differ from the
            base: half the truth, half the teacher's photo, both by L1.
        architecture: arguments of the student that differ.
        teacher: whether the student has one.
    """

    changes: Mapping[str, Any] = field(default_factory=dict)
    architecture: Mapping[str, Any] = field(default_factory=dict)
    teacher: bool = True
    against: str = field(default=TAUGHT, kw_only=True)

    def definition(self) -> dict[str, Any]:
        """What results depend on, as plain JSON: stored with them, and compared before they are reused."""
        parts = {"changes": self.changes, "architecture": self.architecture, "teacher": self.teacher}
        plain: dict[str, Any] = json.loads(json.dumps(parts))
        return plain


OPTIONS = (
    Option(TAUGHT, "teacher"),
    Option(ALONE, "teacher", {"alpha": 1.0}, teacher=False),
    # The teacher takes more than half of the time: what does the student gain from as much time alone?
    Option(LONGER, "teacher", {"alpha": 1.0, "epochs": 13}, teacher=False),
    Option("the teacher alone, l1", "teacher", {"alpha": 0.0}),
    Option("taught by mse", "soft loss", {"soft_loss": "mse"}),
    Option("taught by kl", "soft loss", {"soft_loss": "kl"}),
    # Squares and divergences of errors this small are a fortieth to a seventieth of the errors: α compensates for it.
    Option("taught by mse, α 0.02", "soft loss", {"soft_loss": "mse", "alpha": 0.02}),
    Option("taught by kl, α 0.02", "soft loss", {"soft_loss": "kl", "alpha": 0.02}),
    Option("the teacher alone, kl", "soft loss", {"soft_loss": "kl", "alpha": 0.0}),
    Option("guidance decays to nothing", "guidance", {"teacher_decay": 1.0}),
    Option("mimics features", "guidance", {"mimic": 0.01}),
    Option("no recurrent unit", "network", architecture={"recurrent": False}),
    Option("paints the photo anew", "network", architecture={"residual": False}),
    Option("centralised gradients", "training", {"centralise": True}),
    Option("learning rate 0.003", "training", {"learning_rate": 0.003}),
)


def train_teacher(data: Sharp, path: Path, *, epochs: int, **settings: Any) -> MSAFN:
    """The teacher at ``path``; if there is none, one is trained from sharp images alone, and written there."""
    if not path.is_file():
        torch.manual_seed(0)
        teacher = make(TEACHER)
        distill_super_resolution(teacher, None, data, epochs=epochs, seed=0, progress=False, **settings)
        save_model(teacher, path)
    model = load_model(path)
    assert isinstance(model, MSAFN)
    return model


def make(arguments: Mapping[str, Any]) -> MSAFN:
    """A network from its name and arguments."""
    rest = dict(arguments)
    model: MSAFN = create_model(rest.pop("name"), **rest)
    return model


def measure_options(
    results_path: str | Path,
    data: str | Path,
    eval_dir: str | Path,
    teacher_path: str | Path,
    *,
    options: Sequence[Option] = OPTIONS,
    seeds: Sequence[int] = (0, 1, 2),
    epochs: int = 5,
    repeats: int = 8,
    teacher_epochs: int = 10,
    progress: bool = True,
    **settings: Any,
) -> dict[str, Any]:
    """Train the student with every option from every seed, and score it.

    The file is written after each run, and runs that it holds are not repeated. An option that was redefined under its
    old name runs again.

    Args:
        results_path: a JSON file: new, or of a measurement with the same settings.
        data: a folder of sharp images to train on, a tenth of which is held out.
        eval_dir: a folder of sharp images, for reporting only, such as Set5.
        teacher_path: where the teacher is, or will be written.
        seeds: of the student's weights, the patches, their order, and the selection of held-out images.
        epochs, repeats: of the student; the teacher has ``teacher_epochs``.
        settings: of both trainings, where they differ from :data:`TRAINING`.

    Returns:
        The content of the file: ``settings``, ``yardsticks`` (of bicubic and the teacher) and ``rows``, one per run:
        ``variant``, ``seed``, ``parameters``, ``validation_psnr``, ``validation_gain`` (over bicubic on the same
        images), ``psnr_y`` and ``ssim_y`` on ``eval_dir``, ``terms``, the means of the loss's terms in the last epoch,
        and ``seconds`` of processor time.

    Raises:
        ValueError: the file holds results with other settings.
        OSError: a folder is not there.
    """
    once = {**TRAINING, **settings}
    images = open_images(data, once["patch"])
    teacher = train_teacher(images, Path(teacher_path), epochs=teacher_epochs, repeats=repeats, **once)
    test = list(sharp_photos(eval_dir))
    shown: dict[str, Any] = {"data": Path(data).absolute().name, "images": len(images)}
    shown |= {"eval": Path(eval_dir).absolute().name, "student": STUDENT, "teacher": TEACHER}
    shown |= {"teacher_digest": digest(*teacher.state_dict().values()), "teacher_epochs": teacher_epochs}
    shown |= {"epochs": epochs, "repeats": repeats, **once}
    measurement = Measurement(results_path, shown, yardsticks={})
    content = measurement.content
    if not content["yardsticks"]:
        for name, method in (("bicubic", bicubic), ("teacher", as_method(teacher))):
            content["yardsticks"][name] = rounded(score_super_resolution(method, test))
        content["yardsticks"]["teacher"]["parameters"] = count_parameters(teacher)
        measurement.write()
    wanted = {option.name: option.definition() for option in options}
    content["rows"] = [row for row in content["rows"] if wanted.get(row["variant"], row["made_by"]) == row["made_by"]]
    done = measurement.done("variant", "seed")
    todo = [(option, seed) for seed in seeds for option in options if (option.name, seed) not in done]
    for option, seed in tqdm(todo, desc="options", unit="run", disable=not progress):
        torch.manual_seed(seed)
        student, started = make({**STUDENT, **option.architecture}), time.process_time()
        run = distill_super_resolution(
            student, teacher if option.teacher else None, images, seed=seed, progress=False,
            **{**once, "epochs": epochs, "repeats": repeats, **option.changes},
        )  # fmt: skip
        seconds = round(time.process_time() - started, 1)
        row = {"variant": option.name, "seed": seed, "parameters": count_parameters(student)}
        row |= {"validation_psnr": round(run.best_score, 4)}
        row |= {"validation_gain": round(run.best_score - bicubic_score(images, once["patch"], seed), 4)}
        row |= rounded(score_super_resolution(as_method(run.model), test))
        terms = {"truth", "truth ssim", "teacher", "mimic"} & run.history[-1].keys()
        row |= {"terms": {name: round(run.history[-1][name], 8) for name in sorted(terms)}}
        measurement.add({**row, "seconds": seconds, "made_by": wanted[option.name]})
    return content


def rounded(scores: Mapping[str, Any]) -> dict[str, float]:
    """The scores on the luminance, rounded for the file."""
    return {name: round(scores[name], 4) for name in ("psnr_y", "ssim_y")}


def bicubic_score(images: Sharp, patch: int, seed: int) -> float:
    """Mean PSNR of the enlarged held-out images of a run of this seed, in dB: where its student starts."""
    _, held = split_images(images, patch, 0.1, seed)
    truths = [(image[None].float() / 255) for image in held]
    return sum(capped_psnr_y(blur(truth)[0], truth[0]) for truth in truths) / len(truths)


def main(measure: Callable[..., Mapping[str, Any]] = measure_options, arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m kdlib.experiments.super_resolution_options", description=__doc__)
    parser.add_argument("--out", required=True, help="the JSON file with the results, new or to be continued")
    parser.add_argument("--data", default="data/bsds500_train", help="folder of sharp images to train on [%(default)s]")
    parser.add_argument("--eval", default="data/Set5", help="folder of sharp images to report on [%(default)s]")
    parser.add_argument("--teacher", default="runs/super_resolution_options/teacher.safetensors",
                        help="the teacher's file, written if it is not there [%(default)s]")  # fmt: skip
    parser.add_argument("--seeds", type=int, default=3, help="so many from 0 on [%(default)s]")
    given = parser.parse_args(arguments)
    content = measure(given.out, given.data, given.eval, given.teacher, seeds=range(given.seeds), device="cpu")
    print(f"{len(content['rows'])} runs in {given.out}")


if __name__ == "__main__":
    main()
