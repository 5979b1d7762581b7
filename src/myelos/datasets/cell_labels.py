"""What a set of single cells says of its images, in its own words, and which label scheme these words belong to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from myelos import taxonomy
from myelos.errors import LabelError

_MOST_UNKNOWN = 0.5  # of a set's labels, for a scheme still to be taken for its own


@dataclass(frozen=True, slots=True)
class SeenCell:
    """An image as its layout shows it. labels: what says its class (manifest column, folder, …) → the word.

    The finest comes first. group: the patient. second: the words of further annotations of the same image.
    """

    path: Path
    labels: dict[str, str]
    group: str | None = None
    second: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Naming:
    """key: which of the labels is read. scheme: whose codes they are, None for names and aliases of the taxonomy."""

    key: str
    scheme: str | None


def find_naming(cells: Sequence[SeenCell], scheme: str | None) -> Naming:
    """The labels and the scheme that explain most images; the finest labels where two explain as many.

    scheme: taken where stated. Raises LabelError where schemes give the same words different meanings and none is
    stated, or where no word has a meaning.
    """
    if scheme is not None and scheme not in taxonomy.SCHEMES:
        raise LabelError(f"there is no label scheme {scheme!r}", remedy=f"Choose one of {', '.join(taxonomy.SCHEMES)}")
    keys = list(dict.fromkeys(key for cell in cells for key in cell.labels))
    best: tuple[float, Naming] | None = None
    for key in keys:
        words = Counter(cell.labels[key] for cell in cells if key in cell.labels)
        found = scheme if scheme is not None else _scheme_of(words)
        share = sum(count for word, count in words.items() if meaning(word, found) is not None) / len(cells)
        if share > 0 and (best is None or share > best[0] + 1e-9):
            best = (share, Naming(key, found))
    if best is None:
        words = Counter(word for cell in cells for word in cell.labels.values())
        raise LabelError(
            "no image of a cell whose class is known",
            why=f"the classes are {', '.join(list(words)[:12])}" if words else "there is no image",
            remedy=f"Name the --scheme of its codes: {', '.join(taxonomy.SCHEMES)}",
        )
    return best[1]


def meaning(word: str, scheme: str | None) -> str | None:
    """The type that a label means, None where it means none."""
    try:
        return taxonomy.resolve(word, scheme)
    except LabelError:
        return None


def _scheme_of(words: Counter[str]) -> str | None:
    """The scheme whose codes these words are; None where plain names do as well."""
    known = {
        name: {word: scheme.codes[word] for word in words if word in scheme.codes}
        for name, scheme in taxonomy.SCHEMES.items()
    }
    most = max((len(codes) for codes in known.values()), default=0)
    if most == 0 or most < _MOST_UNKNOWN * len(words):
        return None
    fitting = {name: codes for name, codes in known.items() if len(codes) == most}
    if len({tuple(sorted(codes.items())) for codes in fitting.values()}) > 1:
        raise LabelError(
            f"the classes {', '.join(sorted(words))} mean different things in {' and '.join(fitting)}",
            remedy="Name the --scheme",
        )
    return min(fitting, key=lambda name: len(taxonomy.SCHEMES[name].codes))
