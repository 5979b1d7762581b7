"""What a detector is trained from and how: the settings of a recipe, read from TOML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from myelos import taxonomy
from myelos.errors import UsageError
from myelos.imaging.appearance import AppearanceSettings
from myelos.networks.cascade import CascadeSettings
from myelos.training.canvases import CanvasSettings
from myelos.training.loop import TrainingSettings
from myelos.training.recipe_files import filled, recipe_content


@dataclass(frozen=True, slots=True)
class DetectorRecipe:
    """What is trained, from what, and how. A TOML file in `recipes/` states one completely.

    scheme: label scheme whose trained types the detector names. mpp: common scale, µm/px. parts: shares of the split.
    split: by which rule of `datasets.splits`; `filled` in recipes whose quoted figures were measured with it.
    weights: source → how often it is drawn, relative to its natural share. scales: source → stated µm/px.
    credits: source → licence and attribution, for the card. whole: sources of which everything is trained on, because
    their figures come from folds. synthetic: every field is rendered.
    """

    name: str = "detector"
    specimen: str = "blood"
    scheme: str = "wbc5"
    mpp: float = 0.25
    tile: int = 640
    parts: Mapping[str, float] = field(default_factory=lambda: {"train": 0.7, "choose": 0.1, "test": 0.2})
    split: str = "hashed"
    weights: Mapping[str, float] = field(default_factory=dict)
    scales: Mapping[str, float] = field(default_factory=dict)
    credits: Mapping[str, str] = field(default_factory=dict)
    remarks: str = ""
    synthetic: bool = False
    whole: tuple[str, ...] = ()
    split_seed: int = 0
    appearance: AppearanceSettings = field(default_factory=AppearanceSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)

    @property
    def types(self) -> tuple[str, ...]:
        return known_scheme(self.scheme).types


def known_scheme(name: str) -> taxonomy.Scheme:
    """The label scheme of a name; raises UsageError where there is none."""
    if name not in taxonomy.SCHEMES:
        raise UsageError(f"there is no label scheme {name!r}", remedy=f"Choose one of {', '.join(taxonomy.SCHEMES)}")
    return taxonomy.SCHEMES[name]


def read_recipe(name: str | Path) -> DetectorRecipe:
    """A recipe by the name of a shipped one or the path of a TOML file; raises UsageError for unknown settings."""
    content, path = recipe_content(name)
    training = content.pop("training", {})
    training["architecture"] = filled(CascadeSettings, training.pop("architecture", {}), path)
    training["augmentation"] = filled(CanvasSettings, training.pop("augmentation", {}), path)
    content["training"] = filled(TrainingSettings, training, path)
    content["appearance"] = filled(AppearanceSettings, content.pop("appearance", {}), path)
    recipe: DetectorRecipe = filled(DetectorRecipe, content, path)
    return recipe
