"""``kdlib export``: a model as an ONNX file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdlib.checks import check_choice
from kdlib.extras import needed_by
from kdlib.models.family import follow
from kdlib.models.registry import find_family
from kdlib.weights.catalogue import catalogue, own_catalogue
from kdlib.weights.exported import FLAVOURS, PRECISIONS, Exported, write_exported

if TYPE_CHECKING:
    from kdlib.export.form import Form
    from kdlib.models.network import Network


def export_onnx(
    model: str | Path | Network,
    path: str | Path,
    *,
    flavour: str = "photo",
    precision: str = "float32",
    licence: str = "",
    training_data: str = "",
) -> Exported:
    """Write a model as an ONNX file with standard operators of opset 18, for any batch, height and width from 1 up.

    The flavour ``photo`` takes ``photo``, B×3×H×W float32 in [0, 1], and returns ``enhanced``, which is what the
    network's forward pass returns, or the enlarged photo if the family does super-resolution. The flavour ``network``
    holds the network alone: ``thumbnail`` in and ``map`` out for families that see a thumbnail; for the others, all
    that the network computes from the photo at full size.

    Args:
        model: name of a shipped model, path of a weights file, or a model.
        path: of the file, which ends in ``.onnx``; an existing file is replaced.
        flavour: ``photo`` or ``network``.
        precision: of the network's weights; see :mod:`kdlib.export.precision`. What happens at full size stays in
            float32 for families that see a thumbnail.
        licence, training_data: for the metadata; by default those of the catalogue.

    Returns:
        The metadata.

    Raises:
        FileNotFoundError: no such weights file.
        ValueError: an unknown name, flavour or precision, a damaged file, another extension, or a family that cannot be
            exported.
        MissingExtraError: PyTorch or ``onnx`` is not installed.
    """
    path = Path(path)
    check_choice("flavour", flavour, FLAVOURS)
    check_choice("precision", precision, PRECISIONS)
    if path.suffix != ".onnx":
        raise ValueError(f"{path}: an exported file ends in .onnx, or in .tflite for LiteRT")
    with needed_by("exporting"):
        import onnx  # noqa: F401 - said before the model is loaded

        from kdlib.weights.models import resolve_model

        network = resolve_model(model)
    family = find_family(network.config)
    if not family.exported:
        raise ValueError(f"the family {family.name} cannot be exported; its record names no form")
    form: Form = follow(family.exported)(network)
    graph = _photo_graph(form, network) if flavour == "photo" else _network_graph(form)
    if precision != "float32":
        from kdlib.export.precision import reduced

        graph = reduced(graph, precision, form, flavour)
    about = described(model, network, form, flavour, precision, licence, training_data)
    write_exported(graph, about, path)
    return about


def described(
    model: str | Path | Network,
    network: Any,
    form: Form,
    flavour: str,
    precision: str,
    licence: str,
    training_data: str,
) -> Exported:
    """Return the metadata of a file; ``model`` is what was asked for, and ``network`` what it names."""
    from kdlib.weights.models import digest_of

    name, known = _known(model, network)
    return Exported(
        name=name,
        version=_version(),
        licence=licence or known["licence"],
        training_data=training_data or known["made"],
        thumbnail_size=str(form.side or "full size"),
        thumbnail=form.thumbnail,
        smoothing=form.smoothing if flavour == "photo" else "nothing",
        family=find_family(network.config).name,
        architecture=json.dumps(network.config),
        flavour=flavour,
        precision=precision,
        upscale=str(getattr(network, "upscale", 1) if flavour == "photo" else 1),
        parameters=json.dumps(form.parameters()),
        weights=digest_of(network),
    )


def _photo_graph(form: Form, network: Any) -> Any:
    upscale = getattr(network, "upscale", 1)
    graph = form.graph
    enhanced = form.photo(graph.input("photo"))
    size = ["height", "width"] if upscale == 1 else [f"{upscale}*height", f"{upscale}*width"]
    return graph.model({"photo": ["batch", 3, "height", "width"]}, {"enhanced": (enhanced, ["batch", 3, *size])})


def _network_graph(form: Form) -> Any:
    graph = form.graph
    found = form.network(graph.input(form.seen))
    outputs = {name: (value, shape) for (name, shape), value in zip(form.outputs.items(), found, strict=True)}
    return graph.model({form.seen: ["batch", 3, "height", "width"]}, outputs)


def _known(model: str | Path | Network, network: Network) -> tuple[str, dict[str, str]]:
    """Return name, licence and training of a model, as far as a catalogue knows them."""
    unknown = {"licence": "not stated; it follows from the training data", "made": "not stated"}
    if not isinstance(model, str | Path):
        return f"a network of the family {network.config.get('family', 'zero-dce')}", unknown
    entry = (catalogue() | own_catalogue()).get(str(model))
    return (entry.name, {"licence": entry.licence, "made": entry.made}) if entry else (Path(model).name, unknown)


def _version() -> str:
    import kdlib

    return kdlib.__version__
