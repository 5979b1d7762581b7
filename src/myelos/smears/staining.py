"""The second opinion of one smear: its cells brought to the stain that the classifier was taught, before it is asked.

The stain is told from the smear's own cells, so the first ones wait until enough of them were seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from myelos.classification.evaluate import taught
from myelos.errors import UsageError
from myelos.imaging.matching import Look, apart, goal_of, look_of, matched
from myelos.models.types import Classifier
from myelos.smears.rows import Image, Reading, StainSettings
from myelos.smears.second_opinion import Cut, Row, with_second_opinion

Windows = Mapping[str, Image]  # cell_id → what the classifier sees of the cell


@dataclass(frozen=True)
class Stain:
    """The look of a smear's cells, its distance from the nearest of the training cells', and the one that it is brought
    to: none where that is near enough."""

    own: Look
    apart: float
    goal: Look | None

    @classmethod
    def of(cls, windows: Sequence[Image], looks: Sequence[Look], settings: StainSettings) -> Stain | None:
        """None where nothing is to be matched, or too few cells tell the smear's stain."""
        if not looks or not settings.match or len(windows) < settings.fewest:
            return None
        try:
            own = look_of(windows)
        except UsageError:  # no cell shows its background
            return None
        return cls(own, min(apart(own, look) for look in looks), goal_of(own, looks))

    def brought(self, cut: Cut) -> Cut:
        """The windows of `cut` in the stain of the training cells."""
        goal = self.goal
        if goal is None:
            return cut

        def restained(row: Row) -> Image | None:
            image = cut(row)
            return None if image is None else matched(image, self.own, goal, background=False)

        return restained


def stain_of_slide(cells: Sequence[Row], cut: Cut, classifier: Classifier, settings: StainSettings) -> Stain | None:
    """Told from some of its cells, taken evenly; these are read once more for it."""
    looks = taught(classifier) if settings.match else ()
    if not looks:
        return None
    few = cells[:: max(1, len(cells) // settings.cells)]
    return Stain.of([image for row in few if (image := cut(row)) is not None], looks, settings)


class SmearOpinion:
    """Asks the classifier about the fields of one smear; the first ones wait for its stain to be known."""

    def __init__(self, classifier: Classifier, settings: StainSettings) -> None:
        self._classifier, self._settings = classifier, settings
        self._looks = taught(classifier) if settings.match else ()
        self._known = not self._looks
        self._stain: Stain | None = None
        self._waiting: list[tuple[Reading, Windows]] = []

    def add(self, reading: Reading, windows: Windows) -> list[Reading]:
        """The readings that are ready, in the order they came, with both opinions."""
        self._waiting.append((reading, windows))
        enough = sum(len(own) for _, own in self._waiting) >= self._settings.cells
        return self.rest() if self._known or enough else []

    def rest(self) -> list[Reading]:
        """Everything that still waits."""
        if not self._known:
            seen = [image for _, windows in self._waiting for image in windows.values()]
            self._stain, self._known = Stain.of(seen, self._looks, self._settings), True
        ready = [self._asked(*pair) for pair in self._waiting]
        self._waiting.clear()
        return ready

    def _asked(self, reading: Reading, windows: Windows) -> Reading:
        distance = self._stain.apart if self._stain else None
        if not windows:
            return replace(reading, stain_apart=distance)

        def cut(row: Row) -> Image | None:
            return windows.get(row["cell_id"])

        shown = self._stain.brought(cut) if self._stain else cut
        cells, opinions = with_second_opinion(reading.cells, reading.opinions, shown, self._classifier)
        return replace(reading, cells=cells, opinions=opinions, stain_apart=distance)
