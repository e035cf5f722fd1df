"""Messages about unknown names."""

import difflib
from collections.abc import Collection


def unknown_name(kind: str, name: object, known: Collection[str], takes: str = "there are") -> str:
    """Return an error message about an unknown name, which suggests the nearest known name and lists all of them."""
    return f"unknown {kind} {name!r}: {nearest(name, known)}{takes} {', '.join(known)}"


def nearest(name: object, known: Collection[str]) -> str:
    """Return "did you mean 'name'? " with the most similar known name, or an empty string if none is similar."""
    near = difflib.get_close_matches(str(name), known, n=1)
    return f"did you mean {near[0]!r}? " if near else ""
