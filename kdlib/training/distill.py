"""Stage 2: teach a student to do what its teacher does."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Unpack

from torch import Tensor, nn
from torch.utils.data import Dataset, Subset, TensorDataset

from kdlib.checks import check_choice
from kdlib.data.datasets import load_photos
from kdlib.models import create_model
from kdlib.training.answers import AnswersObjective, FeatureLoss, OutputLoss, terms_of
from kdlib.training.augmentation import AUGMENTATIONS, darken_once
from kdlib.training.checkpoint import alone_in_its_folder
from kdlib.training.config import LoopConfig, LoopSettings
from kdlib.training.distill_curve import distill_curve
from kdlib.training.identity import fingerprint, fingerprint_of_data
from kdlib.training.recipes import Recipe, make_recipe
from kdlib.training.state import Run
from kdlib.training.task import Task, at_scale, frozen, split, training, validate_objective


@training
@alone_in_its_folder
def distill(
    student: str | nn.Module = "student-565",
    teacher: str | Path | nn.Module = "zero-dce++",
    data_dir: str | Path | None = None,
    output_dir: str | Path | None = None,
    *,
    photos: Tensor | None = None,
    data: Dataset[Any] | None = None,
    losses: Mapping[str, tuple[float, OutputLoss]] | None = None,
    features: Mapping[str, tuple[float, tuple[str, str], FeatureLoss]] | None = None,
    validate: Callable[[nn.Module], Mapping[str, float]] | None = None,
    monitor: str | None = None,
    recipe: Literal["alignment", "one-stage", "two-stage"] | Recipe | None = None,
    augmentation: str = "none",
    size: int | None = None,
    network_side: int | None = None,
    limit: int | None = None,
    validation_fraction: float = 0.1,
    epochs: int = 24,
    ema_decay: float | None = None,
    alpha: float | None = None,
    beta: float | None = None,
    perceptual: float | None = None,
    pretrain_epochs: int | None = None,
    **settings: Unpack[LoopSettings],
) -> Run:
    """Train a student to repeat its frozen teacher.

    Without ``losses`` and ``features`` the student is a curve network of the Zero-DCE family, and a recipe says what is
    compared. With them, student and teacher are any modules::

        distill(small, large, data=TensorDataset(images, labels),
                losses={"soft labels": (0.7, lambda student, teacher, batch: softened(student, teacher)),
                        "labels": (0.3, lambda student, teacher, batch: F.cross_entropy(student, batch[1]))},
                features={"hidden": (0.1, ("body.2", "body.4"), mimicry)})

    Args:
        student: a name, or a model, which is trained in place.
        teacher: a shipped name, the path of a weights file, or a model, of any family; a copy of it is frozen. By a
            recipe, a teacher that is not a curve network is followed by its photos alone.
        data_dir: a folder of photos, or None for the embedded ones.
        output_dir: gets ``history.csv``, checkpoints and, by a recipe, previews (of stage 1 in ``stage1/``); None
            writes nothing.
        photos: N×3×S×S uint8 instead of ``data_dir``.
        data: a map-style data set of tensors, or of tuples of them, instead of ``data_dir``. Both networks see the
            first tensor. Tensors of 8 bits are taken for photos and brought to [0, 1].
        losses: by name, a weight and a function (student's output, teacher's output, batch) → loss, averaged over the
            batch, which is the tuple of its tensors. A loss to the truth ignores the teacher.
        features: by name, a weight, a pair (student layer, teacher layer), named as in ``named_modules()``, and a
            function of their two outputs.
        validate: scores of the student in evaluation mode, for ``losses`` and ``features``; then all data are trained
            on. By default a share is held out, and scored by minus the weighted losses: ``validation_objective``.
        monitor: the score of ``validate`` that selects the best epoch; higher is better.
        recipe: ``one-stage`` (default), ``two-stage``, ``alignment`` (the shipped students') or a
            :class:`~kdlib.training.recipes.Recipe`.
        augmentation: of photos: ``none``, ``darken-once`` (see :func:`~kdlib.training.augmentation.darken_once`),
            ``gamma`` or ``darken``; the last two vary the photos in every epoch. By a recipe, the first two let the
            teacher run only once for each photo.
        size: side of the training images, 64 unless given, which both networks see at full resolution, except for
            ``network_side``. ``photos`` and ``data`` have their own.
        network_side: by a recipe, for a student given by name: it sees a copy of at most this many pixels a side, in
            training and ever after; 0 sets no limit, None takes the teacher's own.
        limit: use at most so many photos of ``data_dir``.
        validation_fraction: share of the data that is held out. By a recipe the epoch with the highest fidelity on it
            wins.
        alpha, beta, perceptual, pretrain_epochs: replace the recipe's own.
        epochs, settings: see :class:`~kdlib.training.config.LoopConfig`.
        ema_decay: likewise, 0.999 by default; an average is kept only for ``averaged=True``, which averages stage 1
            too, and for recipes with a contrastive term.

    Returns:
        The run. By a recipe, its history has ``fidelity`` (PSNR to the teacher in dB) and ``task_loss`` on the held-out
        photos.

    Raises:
        ValueError: unknown names, values out of range, or arguments that do not go together; the message says which.
        TypeError, NonFiniteLossError, OSError: see :func:`~kdlib.training.task.training`.
    """
    by_recipe = {"alpha": alpha, "beta": beta, "perceptual": perceptual, "pretrain_epochs": pretrain_epochs}
    chosen = make_recipe("one-stage" if recipe is None else recipe, **by_recipe)
    if free := losses is not None or features is not None:
        _refuse({"recipe": recipe, **by_recipe, "network_side": network_side}, "belong to recipes, not to own losses")
    else:
        _refuse({"data": data, "validate": validate, "monitor": monitor}, "need losses or features of your own")
    if (validate is None) != (monitor is None):
        raise ValueError("validate and monitor are given together: monitor names the score that selects the best epoch")
    check_choice("augmentation", augmentation, (*AUGMENTATIONS, "darken-once"))
    if data is not None and (photos is not None or data_dir is not None or augmentation != "none"):
        raise ValueError("data replaces data_dir and photos, and is not augmented")
    if data is not None or photos is not None:
        _refuse({"data_dir": data_dir, "size": size, "limit": limit}, "choose photos; photos and data replace them")
    contrastive = not free and chosen.contrastive > 0
    if contrastive and ema_decay == 0:
        raise ValueError("the contrastive term compares with the student's average: it needs ema_decay above 0")
    averaging = contrastive or settings.get("averaged", False)
    if ema_decay is None:
        ema_decay = 0.999 if averaging else 0.0
    elif ema_decay and not averaging:
        raise ValueError("ema_decay above 0 needs averaged=True or a recipe with a contrastive term")
    config = LoopConfig(epochs=epochs, ema_decay=ema_decay, **settings)
    terms = terms_of(losses or {}, features or {}) if free else {}
    master = frozen(teacher, config)
    identity: dict[str, Any] = {"augmentation": augmentation, "validation_fraction": validation_fraction}
    if data is None and photos is None:
        photos = load_photos(data_dir, size=64 if size is None else size, limit=limit, seed=config.seed).photos
    if photos is not None and augmentation == "darken-once":
        photos, augmentation = darken_once(photos, config.seed), "none"
    if not free:
        assert photos is not None
        return distill_curve(
            student, master, chosen, photos, config, output_dir, augmentation=augmentation, network_side=network_side,
            validation_fraction=validation_fraction, identity=identity, stage1=settings,
        )  # fmt: skip
    pupil: Any = create_model(student) if isinstance(student, str) else student
    functions: dict[str, Any] = {**(losses or {}), **(features or {})}
    layers = [pair for _, pair, _ in (features or {}).values()]
    objective = AnswersObjective(master, terms, layers, augmentation=augmentation)
    if photos is not None:
        data = TensorDataset(photos)
    assert data is not None
    identity |= {
        "student": repr(getattr(pupil, "config", pupil)),
        "terms": repr({name: weight for name, (weight, _) in terms.items()}),
        "layers": repr(layers),
        "functions": fingerprint({name: function for name, (*_, function) in functions.items()}),
        "data": fingerprint_of_data(data, config.seed),
    }
    if validate is None:
        train, held = split(len(data), validation_fraction, config.seed, "items")  # type: ignore[arg-type]  # map-style
        validate, monitor = validate_objective(objective, data, held, config.seed), "validation_objective"
        data = Subset(data, train.tolist())
    assert monitor is not None
    with at_scale(1, pupil, master):
        return Task(
            student=pupil,
            teacher=master,
            objective=objective,
            data=data,
            validation=validate,
            monitored=monitor,
            description="distilling",
            identity=identity,
        ).train(config, output_dir)


def _refuse(arguments: Mapping[str, object], reason: str) -> None:
    if given := [name for name, value in arguments.items() if value is not None]:
        raise ValueError(f"{', '.join(given)}: {reason}")
