"""Model files: what is read, what is refused, and the card that travels in the header.

A safetensors file starts with eight bytes (length of the header, little endian) and a JSON header whose
`__metadata__` holds text. Ours has one entry, `myelos`, that is JSON: `ModelCard`. The graph `NAME.onnx` lies beside
it; the card knows its SHA-256, so that a graph of other weights is never run under this card.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from myelos.errors import ModelError

WEIGHTS = Path(__file__).parent / "weights"
PICKLED = {".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".joblib"}
BESIDE = "beside."  # what begins so in a model file is no weight of its network
HEADER_LIMIT = 10_000_000  # bytes; a header that claims more is hostile or damaged


@dataclass(frozen=True, slots=True)
class ModelCard:
    """Everything about a model that is no weight.

    types: taxonomy names in the order of the outputs. mpp: µm per pixel of its input. tile: side of the input in
    pixels. threshold: of a detector the working threshold of the score, of a classifier the probability below which a
    cell is unidentified. normalisation: what is done to an image before (`imaging.appearance` settings). data: training
    sources with licence and number of images. metrics: held-out figures with what they were measured on. text: the card
    for people. temperature, views: of a classifier, what its logits are divided by, and the poses it averages over.
    question: what a model of that kind answers with yes or no, a name of `classification.questions`; its threshold is
    the probability from which it says yes. looks: of a classifier, training source → `imaging.matching.Look` of its
    cells as a dictionary. int8: of a classifier, what was measured of `eight_bit` beside it (see `training.eight_bit`),
    with its `sha256`, and in `default` whether it runs unless the precise way is asked for. unlike: of a classifier
    that is not asked about cells unlike its training cells (`classification.gate`), what was measured of that.
    """

    name: str
    kind: str  # detector, classifier or question
    specimen: str  # marrow or blood
    architecture: Mapping[str, Any]
    types: tuple[str, ...]
    scheme: str
    mpp: float
    tile: int
    threshold: float
    normalisation: Mapping[str, Any]
    data: tuple[Mapping[str, Any], ...]
    training: Mapping[str, Any]
    metrics: Mapping[str, Any]
    text: str
    synthetic_only: bool = False
    version: str = ""
    onnx_sha256: str = ""
    temperature: float = 1.0
    views: int = 1
    question: str = ""
    looks: Mapping[str, Any] = field(default_factory=dict)
    int8: Mapping[str, Any] = field(default_factory=dict)
    unlike: Mapping[str, Any] = field(default_factory=dict)
    path: Path = field(default=Path(), compare=False)

    @property
    def graph(self) -> Path:
        """The ONNX file beside the weights."""
        return self.path.with_suffix(".onnx")

    @property
    def eight_bit(self) -> Path:
        """The same graph in eight-bit whole numbers, where there is one."""
        return self.path.with_suffix(".int8.onnx")

    @property
    def runs_in(self) -> str:
        """What runs on CPUs unless the precise way is asked for: int8 or f32."""
        return "int8" if self.int8.get("default") and self.eight_bit.is_file() else "f32"

    def to_json(self) -> str:
        content = asdict(self)
        del content["path"]
        return json.dumps(content, ensure_ascii=False, sort_keys=True)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def available() -> list[ModelCard]:
    """The cards of all shipped models, by name."""
    return [read_card(path) for path in sorted(WEIGHTS.glob("*.safetensors"))]


def find(model: str | Path) -> Path:
    """The file of a shipped model's name, or the path itself; raises ModelError with what there is."""
    path = Path(model)
    refuse_pickles(path)
    if path.suffix == ".onnx":
        path = path.with_suffix(".safetensors")
    if path.suffix == ".safetensors":
        if path.is_file():
            return path
        raise ModelError(f"{path} does not exist", remedy="Pass a .safetensors file or the name of a shipped model")
    shipped = WEIGHTS / f"{path.name}.safetensors"
    if str(model) == path.name and shipped.is_file():
        return shipped
    names = ", ".join(card.stem for card in sorted(WEIGHTS.glob("*.safetensors"))) or "none"
    raise ModelError(
        f"there is no model {str(model)!r}", why=f"shipped are: {names}", remedy="`myelos models` lists them"
    )


def refuse_pickles(path: Path) -> None:
    """Raise ModelError for files that can run code when they are opened."""
    if path.suffix.lower() in PICKLED:
        raise ModelError(
            f"{path.name} is not opened",
            why="pickled weights can run code when they are read",
            remedy="Convert it where you trust it: safetensors.torch.save_file(state_dict, 'NAME.safetensors')",
        )


def read_card(path: Path) -> ModelCard:
    """The card of a model file; reads the header only. Raises ModelError where it is none of ours or damaged."""
    metadata = _header(path).get("__metadata__", {})
    try:
        content = json.loads(metadata["myelos"])
        content["types"], content["data"] = tuple(content["types"]), tuple(content["data"])
        return ModelCard(**content, path=path)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{path.name} is no model of Myelos",
            why=f"its header has no readable card ({type(error).__name__})",
            remedy="Train one with `myelos train detector`; plain weights go to --pretrained",
        ) from error


def _header(path: Path) -> dict[str, Any]:
    refuse_pickles(path)
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(HEADER_LIMIT, path.stat().st_size):
                raise ValueError(f"its header claims {length} bytes")
            return json.loads(file.read(length))
    except FileNotFoundError:
        raise ModelError(f"{path} does not exist") from None
    except (struct.error, ValueError) as error:
        raise ModelError(f"{path.name} is damaged or no safetensors file", why=str(error)) from error


def rewrite_card(path: Path, card: ModelCard) -> None:
    """Replace the card of a model file, every byte of its weights as it was; appears whole or not at all."""
    from myelos.tables import write_bytes

    header, content = _header(path), path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header["__metadata__"] = {**header.get("__metadata__", {}), "myelos": card.to_json()}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format wants its tensors aligned
    write_bytes(path, struct.pack("<Q", len(text)) + text + content[8 + length :])


def tensors(path: Path) -> dict[str, NDArray[Any]]:
    """All weights of the network as numpy arrays, in float32."""
    return {name: _float(value) for name, value in _arrays(path).items() if not name.startswith(BESIDE)}


def beside(path: Path) -> dict[str, NDArray[Any]]:
    """What a model file holds beside the weights, in float32: of classifiers an `OutlierModel`. Empty of most."""
    return {name[len(BESIDE) :]: _float(value) for name, value in _arrays(path).items() if name.startswith(BESIDE)}


def store_beside(path: Path, arrays: Mapping[str, NDArray[Any]], card: ModelCard) -> None:
    """Replace what a model file holds beside its weights, and its card; the weights stay as they are."""
    weights = {name: value for name, value in _arrays(path).items() if not name.startswith(BESIDE)}
    save(path, weights | {f"{BESIDE}{name}": value for name, value in arrays.items()}, card)


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    from safetensors.numpy import load_file

    refuse_pickles(path)
    return load_file(path)


def _float(value: NDArray[Any]) -> NDArray[Any]:
    return value.astype(np.float32)


def save(path: Path, weights: Mapping[str, NDArray[Any]], card: ModelCard) -> None:
    """Write weights in half precision with the card in the header; appears whole or not at all."""
    from safetensors.numpy import save as serialise

    from myelos.tables import write_bytes

    halves = {
        name: np.ascontiguousarray(value.astype(np.float16) if value.dtype == np.float32 else value)
        for name, value in sorted(weights.items())
    }
    write_bytes(path, serialise(halves, metadata={"myelos": card.to_json()}))
