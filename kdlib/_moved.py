"""How the package's modules are imported: under their old names too, and with a sentence for what is not installed.

Each use of a name of version 0.1 that has moved warns, and version 0.3 will no longer have it.
"""

import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import InspectLoader, Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import find_spec
from types import CodeType, ModuleType
from typing import Any

from kdlib.extras import needed_by

MOVED = {
    "kdlib.catalogue": "kdlib.weights.catalogue",
    "kdlib.data.images": "kdlib.enhance.photos.rgb",
    "kdlib.data.photo_file": "kdlib.enhance.photos.photo_file",
    "kdlib.data.photo_formats": "kdlib.enhance.photos.formats",
    "kdlib.data.photo_paths": "kdlib.enhance.photos.paths",
    "kdlib.data.scaling": "kdlib.resampling",
    "kdlib.data.sharp": "kdlib.data.super_resolution_images",
    "kdlib.data.sharp_pairs": "kdlib.data.super_resolution_pairs",
    "kdlib.downloads": "kdlib.weights.download",
    "kdlib.evaluation.engines": "kdlib.experiments.cluster_cost",
    "kdlib.inference": "kdlib.enhance",
    "kdlib.inference._compile": "kdlib.enhance.kernels.compiled",
    "kdlib.inference.camera": "kdlib.enhance.video.camera",
    "kdlib.inference.curve": "kdlib.enhance.kernels.curve",
    "kdlib.inference.denoise": "kdlib.enhance.kernels.denoise",
    "kdlib.inference.denoise_kernel": "kdlib.enhance.kernels.denoise_rows",
    "kdlib.inference.folder": "kdlib.enhance.folders.local",
    "kdlib.inference.glance": "kdlib.enhance.kernels.glance",
    "kdlib.inference.kinds": "kdlib.enhance.array_kinds",
    "kdlib.inference.network": "kdlib.enhance.kernels.separable",
    "kdlib.inference.pillow": "kdlib.enhance.photos.pillow_modes",
    "kdlib.inference.pipeline": "kdlib.enhance.video.pipeline",
    "kdlib.inference.smoothing": "kdlib.enhance.video.smoothing",
    "kdlib.inference.stages": "kdlib.enhance.backends.torch_stages",
    "kdlib.inference.threads": "kdlib.threads",
    "kdlib.inference.torch_engine": "kdlib.enhance.backends.torch_curves",
    "kdlib.inference.triton_kernels": "kdlib.enhance.kernels.triton",
    "kdlib.inference.video": "kdlib.enhance.video.enhance",
    "kdlib.inference.video_files": "kdlib.enhance.video.files",
    "kdlib.inference.video_input": "kdlib.enhance.video.read",
    "kdlib.inference.video_output": "kdlib.enhance.video.write",
    "kdlib.losses.sharpening": "kdlib.losses.super_resolution",
    "kdlib.models.inputs": "kdlib.models.network",
    "kdlib.models.stages": "kdlib.stages",
    "kdlib.pickled_header": "kdlib.weights.pickled_header",
    "kdlib.scale.dataset": "kdlib.enhance.folders.cluster",
    "kdlib.scale.stores": "kdlib.enhance.folders.stores",
    "kdlib.scale.worker": "kdlib.enhance.folders.cluster_worker",
    "kdlib.training.ablation": "kdlib.experiments.ablation",
    "kdlib.training.curve_distillation": "kdlib.training.distill_curve",
    "kdlib.training.distillation": "kdlib.training.answers",
    "kdlib.training.exposure_targets": "kdlib.experiments.exposure_targets",
    "kdlib.training.resumable": "kdlib.experiments.measurement",
    "kdlib.training.sharpening_options": "kdlib.experiments.super_resolution_options",
    "kdlib.training.super_resolve": "kdlib.training.super_resolution",
    "kdlib.training.teacher_search": "kdlib.experiments.teacher_search",
    "kdlib.viz_ablation": "kdlib.viz.ablation",
    "kdlib.viz_compare": "kdlib.viz.compare",
    "kdlib.viz_diagram": "kdlib.viz.diagram",
    "kdlib.viz_glance": "kdlib.viz.glance",
    "kdlib.viz_iat": "kdlib.viz.iat",
    "kdlib.viz_sharp": "kdlib.viz.super_resolution",
    "kdlib.viz_speed": "kdlib.viz.speed",
    "kdlib.viz_sweep": "kdlib.viz.sweep",
    "kdlib.weights_header": "kdlib.weights.header",
}
"""Old name → new name. Of a package, the modules in it that are not listed keep their own name."""

NAMES = {
    "kdlib.enhance.backends.torch_curves": {
        name: f"kdlib.enhance.kernels.plain_torch.{name}" for name in ("apply_curve_map", "small_copy")
    },
    "kdlib.evaluation.report": {
        name: f"kdlib.evaluation.tables.{name}" for name in ("COLUMNS", "Columns", "markdown_table")
    },
    "kdlib.evaluation.super_resolution": {
        "score_sharpening": "kdlib.evaluation.super_resolution.score_super_resolution",
    },
    **{
        module: {
            name: f"kdlib.losses.distillation.mean_{name.replace('attention', 'activation')}"
            for name in ("attention_map", "attention_maps")
        }
        for module in ("kdlib.losses", "kdlib.losses.distillation")
    },
    "kdlib.models": {"Model": "kdlib.models.network.Network"},
    "kdlib.models.registry": {"Model": "kdlib.models.network.Network"},
    "kdlib.notebook": {"nearest": "kdlib.checks.nearest"},
    "kdlib.training.answers": {"Distillation": "kdlib.training.answers.AnswersObjective"},
    "kdlib.training.distill": {
        "DistillationObjective": "kdlib.training.distill_curve.RecipeObjective",
        **{
            name: f"kdlib.training.distill_curve.{name}"
            for name in ("CACHE_LIMIT", "FEATURE_SIZE", "cache_teacher", "matching_layers")
        },
    },
    "kdlib.training.distill_curve": {"DistillationObjective": "kdlib.training.distill_curve.RecipeObjective"},
    "kdlib.training.pretrain": {
        name: f"kdlib.training.augmentation.{name}" for name in ("GAMMA_RANGE", "TRAINING_DARKENING")
    },
    "kdlib.training.super_resolution": {
        "SharpeningObjective": "kdlib.training.super_resolution.SuperResolutionObjective",
        "distill_sharpening": "kdlib.training.super_resolution.distill_super_resolution",
    },
    "kdlib.weights": {"AnyModel": "kdlib.weights.models.AnyModel"},
    "kdlib.weights.header": {
        "check_architecture": "kdlib.models.registry.check_config",
        "require_shapes": "kdlib.checks.require_shapes",
    },
}
"""Names that moved, by their module's present name: old name → module and new name."""


def _new_name(old: str) -> str | None:
    if old in MOVED:
        return MOVED[old]
    parent, _, child = old.rpartition(".")
    return f"{MOVED[parent]}.{child}" if parent in MOVED else None


class _Finder(MetaPathFinder, Loader):
    """Imports the package's modules: under an old name that of the new name, one module with two names, not two.

    A package whose modules went to several places keeps a module of its own, which passes names on.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if _new_name(fullname):
            return ModuleSpec(fullname, self)
        spec = PathFinder.find_spec(fullname, path) if fullname.startswith("kdlib.") else None
        if spec is None or type(spec.loader) is not SourceFileLoader:
            return None  # another finder knows
        spec.loader = _Loader(fullname, spec.loader.path)
        return spec

    def exec_module(self, module: ModuleType) -> None:
        old = module.__name__
        new = import_module(self._warned(old))
        if any(name.startswith(f"{old}.") for name in MOVED):
            # Importing a module sets it as an attribute of its package. The new package must not get the old names of
            # modules that went elsewhere: kdlib.inference.video would become kdlib.enhance.video.
            module.__dict__.update(__doc__=new.__doc__, __all__=new.__all__, __path__=[])
            module.__dict__["__getattr__"] = lambda name: getattr(new, name)
        else:
            sys.modules[old] = new

    def get_code(self, fullname: str) -> CodeType | None:
        """For ``python -m``."""
        new = find_spec(self._warned(fullname))
        return new.loader.get_code(new.name) if new is not None and isinstance(new.loader, InspectLoader) else None

    def _warned(self, old: str) -> str:
        new = _new_name(old)
        assert new is not None
        warnings.warn(f"{old} is now {new}; version 0.3 drops the old name", DeprecationWarning, stacklevel=3)
        return new


class _Loader(SourceFileLoader):
    """Loads a module of the package: what it lacks is said in one sentence, and its former names are found."""

    def exec_module(self, module: ModuleType) -> None:
        with needed_by(module.__name__, importing=True):
            super().exec_module(module)
        own = vars(module).get("__getattr__")
        if own is not None or module.__name__ in NAMES:
            module.__dict__["__getattr__"] = _finding(module.__name__, own)


def _finding(module: str, own: Callable[[str], Any] | None) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a module: names that moved, then those that it imports when they are needed."""

    def find(name: str) -> Any:
        if new := NAMES.get(module, {}).get(name):
            message = f"{module}.{name} is now {new}; version 0.3 drops the old name"
            warnings.warn(message, DeprecationWarning, stacklevel=2)
            home, _, name = new.rpartition(".")
            return getattr(import_module(home), name)
        if own is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        with needed_by(f"{module}.{name}", importing=True):
            return own(name)

    return find


def install() -> None:
    """Let imports find the old names. It comes first: the folder of a moved package has its modules under new names."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
