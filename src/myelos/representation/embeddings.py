"""Single cells → what a frozen network makes of them, as a table that other programs read."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from myelos import tables
from myelos.classification.evaluate import crop_of, scales_of
from myelos.datasets.cells import CellRecord
from myelos.datasets.images import content_hash
from myelos.errors import InputError, ResultError
from myelos.imaging.crops import Image, views

THUMBNAIL = 64  # px, the side of a cell's picture in a map
_QUALITY = 82
_BATCH = 32  # cells
NAMES = "names.csv"  # cell_id, file: stays on this computer, as everywhere


class Encoder(Protocol):
    """Crops (S, S, 3) uint8 → ((N, C) features, (N, T) logits), float32; `networks.encoder.FrozenEncoder` is one."""

    def __call__(self, crops: Sequence[Image]) -> tuple[NDArray[np.float32], NDArray[np.float32]]: ...


@dataclass(frozen=True, slots=True)
class Scale:
    """How crops are cut: µm per pixel, and their side in pixels."""

    mpp: float
    side: int


@dataclass(frozen=True, slots=True)
class EmbeddedCells:
    """N cells and their features.

    ids: opaque, from the content of the images. features: (N, C) float32. predicted: the network's types, empty where
    it names none. files: where the images lie. thumbnails: JPEG, `THUMBNAIL` px wide.
    """

    ids: tuple[str, ...]
    files: tuple[Path, ...]
    types: tuple[str, ...]
    sources: tuple[str, ...]
    groups: tuple[str | None, ...]
    predicted: tuple[str, ...]
    features: NDArray[np.float32]
    thumbnails: tuple[bytes, ...]

    def __len__(self) -> int:
        return len(self.ids)


def embeddings(encoder: Encoder, crops: Sequence[Image], *, poses: int = 1) -> NDArray[np.float32]:
    """(N, C) features of N crops, averaged over up to eight poses of each: a cell has no upright."""
    return encoded(encoder, crops, poses=poses)[0]


def encoded(
    encoder: Encoder, crops: Sequence[Image], *, poses: int = 1
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(N, C) features and (N, T) probabilities, both averaged over poses."""
    features, logits = encoder([pose for crop in crops for pose in views(crop, poses)])
    powers = np.exp(logits - logits.max(axis=1, keepdims=True)) if logits.size else logits
    shares = powers / np.maximum(powers.sum(axis=1, keepdims=True), 1e-12)
    return _mean(features, poses), _mean(shares, poses)


def _mean(rows: NDArray[np.float32], poses: int) -> NDArray[np.float32]:
    return rows.reshape(len(rows) // poses, poses, rows.shape[1]).mean(axis=1).astype(np.float32)


def embed_records(
    records: Sequence[CellRecord],
    encoder: Encoder,
    scale: Scale,
    *,
    types: Sequence[str] = (),
    mpp: float | None = None,
    poses: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[EmbeddedCells, list[dict[str, str]]]:
    """All cells whose images can be read, and the others with their reasons.

    types: the encoder's own, in the order of its logits; without them nothing is predicted. mpp: µm/px of records that
    do not say it; where that is unknown too, it is taken from their red cells (see `classification.evaluate`).
    Raises InputError where no image can be read.
    """
    aside: list[dict[str, str]] = []
    kept: list[CellRecord] = []
    pictures: list[bytes] = []
    parts: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
    readable = _readable(records, scales_of(records, mpp), scale, aside, progress)
    while batch := list(islice(readable, _BATCH)):
        kept += [record for record, _ in batch]
        pictures += [thumbnail(crop) for _, crop in batch]
        parts.append(encoded(encoder, [crop for _, crop in batch], poses=poses))
    if not kept:
        raise InputError("no image of a cell could be read", why=aside[0]["reason"] if aside else "there is none")
    features, shares = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    predicted = [types[best] for best in shares.argmax(axis=1)] if types else [""] * len(kept)
    return _gathered(kept, features, predicted, pictures), aside


def _readable(
    records: Sequence[CellRecord],
    scales: Mapping[str, float],
    scale: Scale,
    aside: list[dict[str, str]],
    progress: Callable[[int, int], None] | None,
) -> Iterator[tuple[CellRecord, Image]]:
    """Records with their crops; what cannot be read goes to `aside`."""
    for done, record in enumerate(records, 1):
        try:
            own = record.mpp or scales[record.source]
            yield record, crop_of(record, mpp=own, to_mpp=scale.mpp, side=scale.side)
        except (InputError, cv2.error) as error:
            aside.append({"file": record.path.name, "reason": str(error)})
        if progress:
            progress(done, len(records))


def _gathered(
    records: Sequence[CellRecord], features: NDArray[np.float32], predicted: Sequence[str], pictures: Sequence[bytes]
) -> EmbeddedCells:
    return EmbeddedCells(
        ids=tuple(identifiers(records)),
        files=tuple(record.path for record in records),
        types=tuple(record.cell_type for record in records),
        sources=tuple(record.source for record in records),
        groups=tuple(record.group for record in records),
        predicted=tuple(predicted),
        features=features,
        thumbnails=tuple(pictures),
    )


def identifiers(records: Sequence[CellRecord]) -> list[str]:
    """ "<12 hex digits of the image's content>-<number>": nothing of a file's name, which may be a person's."""
    seen: Counter[str] = Counter()
    hashes: dict[Path, str] = {}
    names = []
    for record in records:
        mark = hashes.setdefault(record.path, content_hash(record.path)[:12])
        seen[mark] += 1
        names.append(f"{mark}-{seen[mark]}")
    return names


def thumbnail(crop: Image, side: int = THUMBNAIL) -> bytes:
    """JPEG of a crop, re-encoded from its pixels, so that it carries nothing else."""
    small = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)
    return bytes(cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1])


def write_embeddings(
    out: Path,
    cells: EmbeddedCells,
    *,
    parts: Sequence[str | None] | None = None,
    places: NDArray[np.float32] | None = None,
) -> Path:
    """Write `embeddings.parquet` and `names.csv`; parts: train, choose or test; places: (N, 2) on the map."""
    columns: Mapping[str, object] = {
        "cell_id": cells.ids,
        "cell_type": cells.types,
        "source": cells.sources,
        "patient": cells.groups,
        "part": parts or [None] * len(cells),
        "predicted": [name or None for name in cells.predicted],
        "picture": cells.thumbnails,
        "embedding": list(cells.features),
        "x": [None] * len(cells) if places is None else places[:, 0].tolist(),
        "y": [None] * len(cells) if places is None else places[:, 1].tolist(),
    }
    schema = tables.SCHEMAS["embeddings"]
    arrays = [pa.array(columns[name], schema.field(name).type) for name in schema.names]
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(["cell_id", "file"])
    writer.writerows(zip(cells.ids, map(str, cells.files), strict=True))
    tables.write_bytes(out / NAMES, sink.getvalue().encode())
    return tables.write_table(out, "embeddings", pa.Table.from_arrays(arrays, schema=schema))


def read_embeddings(folder: Path) -> EmbeddedCells:
    """What `myelos embed` wrote; raises ResultError where it is unfinished."""
    found = tables.read_table(folder, "embeddings")
    try:
        with (folder / NAMES).open(newline="", encoding="utf-8") as file:
            names = {row["cell_id"]: Path(row["file"]) for row in csv.DictReader(file)}
        files = tuple(names[cell] for cell in found["cell_id"].to_pylist())
    except (FileNotFoundError, KeyError) as error:
        raise ResultError(f"{folder / NAMES} does not fit its embeddings", why=str(error)) from error
    text = {name: tuple(value or "" for value in found[name].to_pylist()) for name in ("cell_type", "predicted")}
    return EmbeddedCells(
        ids=tuple(found["cell_id"].to_pylist()),
        files=files,
        types=text["cell_type"],
        sources=tuple(found["source"].to_pylist()),
        groups=tuple(found["patient"].to_pylist()),
        predicted=text["predicted"],
        features=np.stack(found["embedding"].to_numpy()).astype(np.float32),
        thumbnails=tuple(found["picture"].to_pylist()),
    )
