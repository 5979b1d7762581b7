"""What all smears of one call share: the model, the settings, and who is told how far it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from myelos.metrics.confusion import Confusion
from myelos.models.types import Classifier, Detector
from myelos.smears.rows import ReadSettings

Progress = Callable[[str, int, int], None]  # stage, done, total


def silent(stage: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True)
class Job:
    """What all smears of one call share."""

    specimen: str | None
    detector: Detector
    settings: ReadSettings
    threads: int
    progress: Progress
    synthetic: bool = False
    classifier: Classifier | None = None  # gives the second opinion
    confusion: Confusion | None = None  # of the classifier on held-out cells

    @property
    def models(self) -> tuple[Detector | Classifier, ...]:
        """The detector and, where there is one, the classifier."""
        return (self.detector,) if self.classifier is None else (self.detector, self.classifier)

    def steps(self, stage: str, total: int) -> Callable[[], None]:
        """A function to be called once per image."""
        done = 0

        def step() -> None:
            nonlocal done
            done += 1
            self.progress(stage, done, total)

        return step
