"""Cell types, lineages, what the differential counts, label schemes, tolerated confusions: `taxonomy.toml` in code.

The file is read when the first of `TYPES`, `SCHEMES`, `LINEAGES`, `TOLERATED` or a function is asked for, not when this
module is imported. Names of types are snake_case and the same everywhere: in tables, models, options and reports.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from myelos.errors import LabelError

TYPES: dict[str, CellType]  # every type by name, in the order of a report
SCHEMES: dict[str, Scheme]
LINEAGES: dict[str, Lineage]  # in the order of a report
PATIENT_SCHEMES: dict[str, PatientScheme]
TOLERATED: frozenset[frozenset[str]]  # inferred pairs, see taxonomy.toml

_PUBLIC = ("TYPES", "SCHEMES", "LINEAGES", "PATIENT_SCHEMES", "TOLERATED")


@dataclass(frozen=True, slots=True)
class CellType:
    """One type of the list.

    maturation: rises within a lineage, None where the type is no stage. parent: the next coarser type. cl_id:
    Cell Ontology. concept: coding scheme and code, such as ("SCT", "43446009"), None where no code is known.
    counted: specimen (marrow, blood) → whether its differential has this type in the denominator.
    """

    name: str
    label: str
    short: str
    lineage: str
    maturation: int | None
    parent: str | None
    cl_id: str
    concept: tuple[str, str] | None
    colour: str
    counted: Mapping[str, bool]
    white: bool

    @property
    def snomed(self) -> str:
        """The SNOMED CT code, empty where none is known."""
        return self.concept[1] if self.concept and self.concept[0] == "SCT" else ""


@dataclass(frozen=True, slots=True)
class Lineage:
    """A sum that reports print. ratio: its part in the M:E ratio (myeloid, erythroid, optional by a setting, none)."""

    name: str
    label: str
    ratio: str


@dataclass(frozen=True, slots=True)
class Scheme:
    """The labels of one published set.

    codes: the set's own code → name of a type. trained: codes that its authors trained a model on, in their order.
    technical: codes that are no opinion on a cell. coarse: codes that leave open which of several finer ones is meant.
    provisional: what is not known of the scheme, empty where all is.
    """

    name: str
    codes: Mapping[str, str]
    source: str
    trained: tuple[str, ...]
    technical: tuple[str, ...]
    coarse: tuple[str, ...]
    provisional: str

    @property
    def types(self) -> tuple[str, ...]:
        """The types of the trained codes, in their order, each once."""
        return tuple(dict.fromkeys(self.codes[code] for code in self.trained))


@dataclass(frozen=True, slots=True)
class PatientScheme:
    """Labels that a set gives to patients, not to cells: the set's own code → what it means."""

    name: str
    labels: Mapping[str, str]
    source: str


@dataclass(frozen=True, slots=True)
class _Taxonomy:
    types: dict[str, CellType]
    schemes: dict[str, Scheme]
    patient_schemes: dict[str, PatientScheme]
    lineages: dict[str, Lineage]
    tolerated: frozenset[frozenset[str]]
    spellings: dict[str, str]  # normalised name, label or alias → type
    codes: dict[str, frozenset[str]]  # normalised code of any scheme → types


def cell_type(name: str) -> CellType:
    """The type of that name; raises LabelError, with the names that come near, where there is none."""
    try:
        return _load().types[name]
    except KeyError:
        raise _unknown(name, f"there is no cell type {name!r}", _load().types) from None


def resolve(label: str, scheme: str | None = None) -> str:
    """The type that a label means: a name, label, alias or scheme code, whatever its case, spacing or plural.

    With a scheme its codes come first, and names are accepted only for types that it has. Raises LabelError where the
    label means nothing, or different things in different schemes.
    """
    taxonomy = _load()
    if scheme is not None:
        return _resolve_in(label, _scheme(scheme))
    for spelling in _spellings(label):
        if spelling in taxonomy.spellings:
            return taxonomy.spellings[spelling]
    meanings = taxonomy.codes.get(_normal(label), frozenset())
    if len(meanings) > 1:
        raise LabelError(
            f"the label {label!r} is ambiguous",
            why=f"schemes use it for {', '.join(sorted(meanings))}",
            remedy="Name the scheme",
        )
    if not meanings:
        raise _unknown(label, f"the label {label!r} is unknown", taxonomy.spellings)
    return next(iter(meanings))


@cache
def narrower(name: str) -> frozenset[str]:
    """The type itself and all finer types below it."""
    cell_type(name)
    return frozenset(other for other in _load().types if name in ancestors(other))


@cache
def ancestors(name: str) -> tuple[str, ...]:
    """The type itself, its parent, and so on to the coarsest."""
    parent = cell_type(name).parent
    return (name,) if parent is None else (name, *ancestors(parent))


def akin(one: str, other: str) -> bool:
    """Whether two types do not contradict each other: equal, or one a coarser word for the other."""
    return one in ancestors(other) or other in ancestors(one)


def coarsen(name: str, targets: Collection[str]) -> str | None:
    """The finest of the target types that covers this one, None where none does: how one scheme maps to another."""
    return next((other for other in ancestors(name) if other in targets), None)


def is_white(name: str) -> bool:
    """Whether this is a white blood cell: `leukocyte` or a type below it."""
    return cell_type(name).white


def of_lineage(lineage: str) -> tuple[str, ...]:
    """Names of the types of a lineage, in the order of a report; LabelError where there is no such lineage."""
    if lineage not in _load().lineages:
        raise _unknown(lineage, f"there is no lineage {lineage!r}", _load().lineages)
    return tuple(name for name, kind in _load().types.items() if kind.lineage == lineage)


def ratio_types(part: str) -> frozenset[str]:
    """Types that play a part in the M:E ratio: "myeloid", "erythroid", or "optional" (monocytes and blasts).

    Only types that the marrow's differential counts: red cells are erythroid and no part of the ratio.
    """
    lineages = {name for name, lineage in _load().lineages.items() if lineage.ratio == part}
    return frozenset(
        name for name, kind in _load().types.items() if kind.lineage in lineages and kind.counted["marrow"]
    )


def tolerated(truth: str, prediction: str) -> bool:
    """Whether a tolerant evaluation accepts the prediction: equal, or a pair of `TOLERATED`."""
    return truth == prediction or frozenset((truth, prediction)) in _load().tolerated


def __getattr__(name: str) -> Any:
    """The five dictionaries and sets of the file, read when first asked for and plain attributes from then on."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    taxonomy = _load()
    globals().update({public: getattr(taxonomy, public.lower()) for public in _PUBLIC})
    return globals()[name]


@cache
def _load() -> _Taxonomy:
    import tomllib
    from importlib.resources import files

    content = tomllib.loads(files("myelos").joinpath("taxonomy.toml").read_text(encoding="utf-8"))
    types = _read_types(content["types"])
    schemes = {name: _read_scheme(name, content["schemes"]) for name in content["schemes"]}
    patients = content["patient_schemes"].items()
    return _Taxonomy(
        types=types,
        schemes=schemes,
        patient_schemes={name: PatientScheme(name, entry["labels"], entry["source"]) for name, entry in patients},
        lineages={name: Lineage(name, entry["label"], entry["ratio"]) for name, entry in content["lineages"].items()},
        tolerated=frozenset(frozenset(pair) for pair in content["tolerated"]["pairs"]),
        spellings=_read_spellings(types, content["aliases"]),
        codes=_read_codes(schemes),
    )


def _read_types(entries: dict[str, dict[str, Any]]) -> dict[str, CellType]:
    def white(name: str) -> bool:
        parent = entries[name].get("parent")
        return name == "leukocyte" or (parent is not None and white(parent))

    def read(name: str, entry: dict[str, Any]) -> CellType:
        system, _, code = entry.get("concept", "").partition(" ")
        return CellType(
            name=name,
            label=entry["label"],
            short=entry["short"],
            lineage=entry["lineage"],
            maturation=entry.get("maturation"),
            parent=entry.get("parent"),
            cl_id=entry.get("cl", ""),
            concept=(system, code) if code else None,
            colour=entry["colour"],
            counted={specimen: specimen in entry["counted"] for specimen in ("marrow", "blood")},
            white=white(name),
        )

    return {name: read(name, entry) for name, entry in entries.items()}


def _read_scheme(name: str, entries: dict[str, dict[str, Any]]) -> Scheme:
    entry = entries[name]
    technical = tuple(entry.get("technical", ()))
    codes = entry["codes"] if "codes" in entry else _labels_of(entries[entry["same_labels_as"]])
    trained = tuple(entry.get("trained") or (code for code in codes if code not in technical))
    coarse = tuple(entry.get("coarse", ()))
    return Scheme(name, codes, entry["source"], trained, technical, coarse, entry.get("provisional", ""))


def _labels_of(entry: dict[str, Any]) -> dict[str, str]:
    """The codes of a scheme without its technical ones."""
    return {code: name for code, name in entry["codes"].items() if code not in entry["technical"]}


def _read_spellings(types: dict[str, CellType], aliases: dict[str, str]) -> dict[str, str]:
    labels = {_normal(kind.label): name for name, kind in types.items()}
    return {**labels, **aliases, **{name: name for name in types}}


def _read_codes(schemes: dict[str, Scheme]) -> dict[str, frozenset[str]]:
    meanings: dict[str, set[str]] = {}
    for scheme in schemes.values():
        for code, name in scheme.codes.items():
            meanings.setdefault(_normal(code), set()).add(name)
    return {code: frozenset(names) for code, names in meanings.items()}


def _scheme(name: str) -> Scheme:
    try:
        return _load().schemes[name]
    except KeyError:
        raise _unknown(name, f"there is no label scheme {name!r}", _load().schemes) from None


def _resolve_in(label: str, scheme: Scheme) -> str:
    if label in scheme.codes:
        return scheme.codes[label]
    codes = {_normal(code): name for code, name in scheme.codes.items()}
    spellings = _spellings(label)
    for spelling in spellings:
        if spelling in codes:
            return codes[spelling]
        name = _load().spellings.get(spelling)
        if name in scheme.codes.values():
            return str(name)
    raise _unknown(label, f"the label {label!r} is not one of the scheme {scheme.name}", codes)


def _spellings(label: str) -> tuple[str, ...]:
    """The normalised label and, for a plural, its singular."""
    normal = _normal(label)
    return (normal, normal[:-1]) if normal.endswith("s") else (normal,)


def _normal(label: str) -> str:
    letters = (letter if letter.isalnum() else " " for letter in label.casefold())
    return "_".join("".join(letters).split())


def _unknown(name: str, what: str, known: Collection[str]) -> LabelError:
    from difflib import get_close_matches

    near = get_close_matches(_normal(name), list(known), n=3, cutoff=0.6)
    remedy = f"Did you mean {' or '.join(near)}?" if near else f"Known names: {', '.join(list(known)[:25])}, …"
    return LabelError(what, remedy=remedy)
