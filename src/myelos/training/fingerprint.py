"""What a training is made of, in a few hashes: a checkpoint goes on with the same settings and data or not at all.

Half of a training with one learning rate and half with another, or on fields that came in between, would be a model
whose card is wrong.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from myelos.wording import number_of

IRRELEVANT = frozenset({"checkpoint_every"})  # changes no weight


def fingerprint(settings: Mapping[str, Any], data: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """The settings as JSON keeps them, how many items there are, and a hash of each aspect of them.

    data: aspect, in words that follow "the" (names of the images) → one value for each item: a string, a number, an
    array, or a tuple of these. The order of the items counts, because what a step draws depends on it.
    """
    kept: dict[str, Any] = json.loads(json.dumps(settings))
    items = max((len(values) for values in data.values()), default=0)
    return {"settings": kept, "items": items, "data": {aspect: digest(values) for aspect, values in data.items()}}


def digest(value: Any) -> str:
    """SHA-256 of strings, numbers, arrays (with shape and type) and of sequences and mappings of these."""
    found = hashlib.sha256()
    _feed(found, value)
    return found.hexdigest()


def starting_weights(weights: Mapping[str, Tensor] | None) -> str | None:
    """The digest of the weights that a training begins with; None where it begins with chance."""
    return digest({name: value.numpy() for name, value in weights.items()}) if weights else None


def _feed(found: Any, value: Any) -> None:
    if isinstance(value, str | int | float | bool) or value is None:
        found.update(f"{value!r};".encode())
    elif isinstance(value, Mapping):
        _feed(found, sorted(value.items()))
    elif hasattr(value, "tobytes"):  # an array
        array: NDArray[Any] = value
        found.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    else:
        found.update(f"[{len(value)};".encode())
        for item in value:
            _feed(found, item)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between two fingerprints, in words; empty where nothing does."""
    before, now = _flat(old["settings"]), _flat(new["settings"])
    names = [name for name in sorted({*before, *now}) if name.rpartition(".")[2] not in IRRELEVANT]
    said = [
        f"{name} was {_shown(before.get(name))} and is {_shown(now.get(name))}"
        for name in names
        if before.get(name) != now.get(name)
    ]
    if old["items"] != new["items"]:
        said.append(f"it was begun with {number_of(old['items'], 'training image')}, now there are {new['items']}")
    else:
        aspects = sorted({*old["data"], *new["data"]})
        said += [f"the {name} differ" for name in aspects if old["data"].get(name) != new["data"].get(name)]
    return said


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted names."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat


def _shown(value: Any) -> str:
    text = "not stated" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
