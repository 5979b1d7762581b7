"""What a classifier is trained from and how: the settings of a recipe, read from TOML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from myelos.datasets.cell_splits import PARTS
from myelos.networks.cells import CellNetworkSettings
from myelos.training.cell_loop import CellTrainingSettings
from myelos.training.crops import CropSettings
from myelos.training.recipe_files import filled, recipe_content


@dataclass(frozen=True, slots=True)
class ClassifierRecipe:
    """What is trained, from what, and how. A TOML file in `recipes/` states one completely.

    types: what the classifier names, in the order of its outputs; those of the labels where empty. scheme: the scheme
    whose classes the card quotes. mpp, side: of its crops. views: poses that are averaged. risk: the share of wrong
    answers that the threshold for "unidentified" allows on `choose`. scales: source → µm/px; unstated_mpp: of sources
    that neither say it nor stand there. credits: source → licence and attribution. whole: sources of which everything
    is trained on, because their figures come from folds. thinned: source → types of which only every third cell is
    learned from. question: a name of `classification.questions`: the model then answers it with yes or no, in place of
    naming types. sensitivity: that its threshold is to reach on `choose`; of the best sum with specificity where None.
    """

    name: str = "classifier"
    specimen: str = "blood"
    scheme: str = "pbc13"
    types: tuple[str, ...] = ()
    mpp: float = 0.15
    side: int = 144
    views: int = 4
    risk: float = 0.02
    parts: Mapping[str, float] = field(default_factory=lambda: dict(PARTS))
    split_seed: int = 0
    scales: Mapping[str, float] = field(default_factory=dict)
    unstated_mpp: float | None = None
    credits: Mapping[str, str] = field(default_factory=dict)
    whole: tuple[str, ...] = ()
    thinned: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    remarks: str = ""
    synthetic: bool = False
    question: str = ""
    sensitivity: float | None = None
    training: CellTrainingSettings = field(default_factory=CellTrainingSettings)


def read_classifier_recipe(name: str | Path) -> ClassifierRecipe:
    """A recipe by the name of a shipped one or the path of a TOML file; raises UsageError for unknown settings."""
    content, path = recipe_content(name)
    training = content.pop("training", {})
    training["network"] = filled(CellNetworkSettings, training.pop("network", {}), path)
    training["augmentation"] = filled(CropSettings, training.pop("augmentation", {}), path)
    content["training"] = filled(CellTrainingSettings, training, path)
    recipe: ClassifierRecipe = filled(ClassifierRecipe, content, path)
    return recipe
