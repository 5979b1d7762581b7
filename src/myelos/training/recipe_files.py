"""Recipes as TOML files: found by name, filled into frozen settings, with unknown settings refused by name."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from myelos.errors import UsageError

RECIPES = Path(__file__).parent / "recipes"


def recipe_content(name: str | Path) -> tuple[dict[str, Any], Path]:
    """The tables of a recipe, by the name of a shipped one or the path of a TOML file, and where it lies."""
    path = Path(name) if Path(name).suffix == ".toml" else RECIPES / f"{name}.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")), path
    except FileNotFoundError:
        names = ", ".join(sorted(recipe.stem for recipe in RECIPES.glob("*.toml")))
        raise UsageError(f"there is no recipe {str(name)!r}", why=f"shipped are: {names}") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is no valid TOML", why=str(error)) from error


def filled(kind: Any, values: Mapping[str, Any], path: Path) -> Any:
    """An instance of a settings class; raises UsageError for settings that it does not know."""
    known = {f.name for f in fields(kind)}
    if unknown := sorted(set(values) - known):
        raise UsageError(
            f"{path} has no meaning for {', '.join(unknown)}",
            remedy=f"{kind.__name__} knows: {', '.join(sorted(known))}",
        )
    return kind(**{key: _tuples(value) for key, value in values.items()})


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
