"""Myelos reads bone-marrow and blood smears. For research use only. Not for use in diagnostic procedures."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Public names and where they live; imported when first asked for, so that `import myelos` costs nothing.
_PUBLIC = {
    "count": "myelos.pipeline",
    "detect": "myelos.pipeline",
    "demo": "myelos.pipeline",
    "recount": "myelos.report",
    "open_slide": "myelos.slides",
}
__all__ = ["__version__", "count", "demo", "detect", "open_slide", "recount"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'myelos' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
