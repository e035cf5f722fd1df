"""Sentences about names that are not known."""

from __future__ import annotations

import difflib
from collections.abc import Collection


def unknown_name(kind: str, name: object, known: Collection[str], takes: str = "there are") -> str:
    """A sentence about an unknown name: the nearest known one, if any is near, and all of them."""
    return f"unknown {kind} {name!r}: {nearest(name, known)}{takes} {', '.join(known)}"


def nearest(name: object, known: Collection[str]) -> str:
    """A question that suggests the nearest known name, with a trailing space; empty if none is near."""
    near = difflib.get_close_matches(str(name), known, n=1)
    return f"did you mean {near[0]!r}? " if near else ""
