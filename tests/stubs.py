"""Write the stubs that tell editors the class behind every name: ``python -m tests.stubs``."""

from pathlib import Path

import kdlib
from kdlib.models.registry import ARCHITECTURES, find_family
from kdlib.weights.catalogue import catalogue
from kdlib.weights.header import read_header

PACKAGE = Path(kdlib.__file__).parent


def stubs():
    """Each stub's content by its path."""
    shipped = {name: read_header(entry.path).architecture for name, entry in catalogue().items()}
    return {
        PACKAGE / "models" / "named.pyi": _stub("create_model", "name", "str", ARCHITECTURES),
        PACKAGE / "weights" / "named.pyi": _stub("load_model", "name_or_path", "str | Path", shipped),
    }


def _stub(function, argument, general, architectures):
    names = {}
    for name, architecture in architectures.items():
        names.setdefault(find_family(architecture).builder, []).append(name)
    lines = ["# Written by `python -m tests.stubs` from the records of the families.", "# ruff: noqa", "# fmt: off"]
    lines += ["from pathlib import Path"] if "Path" in general else []
    lines += ["from typing import Any, Literal, overload", ""]
    imported = {builder.replace(":", " import ") for builder in names} | {"kdlib.models.network import Network"}
    lines += [f"from {line}" for line in sorted(imported)]
    for builder, of_class in names.items():
        lines += _overload(function, argument, f"Literal{_quoted(of_class)}", builder.partition(":")[2])
    return "\n".join([*lines, *_overload(function, argument, general, "Network"), ""])


def _overload(function, argument, annotation, returned):
    return ["@overload", f"def {function}({argument}: {annotation}, **overrides: Any) -> {returned}: ..."]


def _quoted(names):
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"


if __name__ == "__main__":
    for path, content in stubs().items():
        path.write_text(content, encoding="utf-8")
