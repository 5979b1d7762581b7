"""Published sets from a public hub: `myelos datasets get`. Resumable, checked, and no half file under a final name.

The hub says at run time which files a set has, with size and hash: SHA-256 of large files, of small ones the Git blob's
SHA-1. A file grows as `NAME.part`, goes on where it was cut, and gets its name when size and hash are right.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from typing import Any

from myelos.datasets.records import Fault
from myelos.errors import InputError, UsageError

HUB = "https://huggingface.co"
_PIECE = 1 << 20  # bytes
_REASONS = (OSError, HTTPException, ValueError)


@dataclass(frozen=True, slots=True)
class HubSet:
    """repository: on the hub. folder: which of its files are the set. rows: first part of a file's name → images."""

    repository: str
    folder: str
    rows: Mapping[str, int]
    licence: str
    cite: str


@dataclass(frozen=True, slots=True)
class GetSettings:
    """hub: the address before `/api` and `/datasets`. tries: without a new byte. pause, timeout: seconds."""

    hub: str = HUB
    tries: int = 5
    pause: float = 1.0
    timeout: float = 30.0


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file of a set. sha256: empty where only blob, the SHA-1 of its Git object, is known; both may be empty."""

    path: str
    size: int
    sha256: str = ""
    blob: str = ""


HUB_SETS: dict[str, HubSet] = {
    "mll-bone-marrow": HubSet(
        repository="ekim15/bone_marrow_cell_dataset",
        folder="data",
        rows={"train": 137_093, "validation": 17_146, "test": 17_135},
        licence="CC BY 4.0",
        cite="Matek et al. 2021, doi:10.7937/TCIA.AXH3-T579 and doi:10.1182/blood.2020010568",
    ),
}

Progress = Callable[[int, int], None]  # bytes there, bytes in all


def get(name: str, out: Path, *, settings: GetSettings | None = None, progress: Progress | None = None) -> list[Path]:
    """Download a set of `HUB_SETS` into a folder; what is there already is kept, what is half there goes on.

    Raises UsageError for an unknown name or a full disk, InputError where the hub cannot be reached or a file stays
    wrong after it was fetched anew.
    """
    if name not in HUB_SETS:
        raise UsageError(f"there is no set {name!r} to download", remedy=f"Choose one of {', '.join(HUB_SETS)}")
    settings, chosen = settings or GetSettings(), HUB_SETS[name]
    with _explained(settings, chosen):
        files = list_files(chosen, settings)
    missing = [file for file in files if not _there(out / file.path, file)]
    _check_room(out, sum(file.size for file in missing))
    total = sum(file.size for file in files)
    done = total - sum(file.size for file in missing)
    for file in missing:
        report = _offset(progress, done, total)
        with _explained(settings, chosen):
            download(_address(chosen, file, settings), out / file.path, file, settings=settings, progress=report)
        done += file.size
    return [out / file.path for file in files]


def check_rows(name: str, out: Path) -> list[Fault]:
    """Where the tables of a downloaded set hold another number of images than its publisher says."""
    import pyarrow.parquet as pq

    faults = []
    for part, expected in HUB_SETS[name].rows.items():
        tables = sorted((out / HUB_SETS[name].folder).glob(f"{part}-*.parquet"))
        found = sum(pq.read_metadata(table).num_rows for table in tables)
        if found != expected:
            faults.append(Fault(out, None, "other number of images", f"{part}: {expected} expected, {found} there"))
    return faults


def list_files(chosen: HubSet, settings: GetSettings) -> list[HubFile]:
    """The set's files as the hub lists them now, sorted by path; InputError where the listing is none."""
    url = f"{settings.hub.rstrip('/')}/api/datasets/{chosen.repository}/tree/main?recursive=true"
    entries: list[Any] = []
    while url:
        with _open(url, settings) as answer:
            entries += json.loads(answer.read())
            url = _next(answer.headers.get("Link", ""))
    files = [_file(entry) for entry in entries if isinstance(entry, dict) and entry.get("type") == "file"]
    wanted = sorted((file for file in files if file.path.startswith(f"{chosen.folder}/")), key=lambda file: file.path)
    if not wanted:
        raise InputError(f"the hub lists no file of {chosen.repository}/{chosen.folder}", remedy="Has it moved?")
    return wanted


def _file(entry: Mapping[str, Any]) -> HubFile:
    path = PurePosixPath(str(entry["path"]))
    if path.is_absolute() or ".." in path.parts or "\\" in str(path) or ":" in str(path):
        raise InputError(f"the hub lists a file outside of its folder: {path}")
    large = entry.get("lfs") or {}
    sha256 = str(large.get("oid", "")).removeprefix("sha256:")
    return HubFile(str(path), int(large.get("size", entry["size"])), sha256, "" if large else str(entry.get("oid", "")))


def _next(link: str) -> str:
    """The address of the listing's next page in a Link header, empty where this was the last."""
    pages = (part.partition(";") for part in link.split(","))
    return next((address.strip(" <>") for address, _, kind in pages if 'rel="next"' in kind), "")


def download(url: str, path: Path, file: HubFile, *, settings: GetSettings, progress: Progress | None = None) -> None:
    """One file, from where it was cut, checked, under its name at the end.

    Raises InputError where it is wrong twice; what broke the connection where no try brings another byte.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    for last in (False, True):
        _fetch(url, part, file.size, settings, progress)
        wrong = _wrong(part, file)
        if not wrong:
            part.replace(path)
            return
        part.unlink()
        if last:
            raise InputError(f"{file.path} is wrong twice", why=wrong, remedy="Try later, or another --hub")


def _fetch(url: str, part: Path, size: int, settings: GetSettings, progress: Progress | None) -> None:
    """Make `part` as long as the file; a try that brings a byte gives all tries back."""
    left = settings.tries
    while (before := _length(part)) < size:
        try:
            _append(url, part, size, settings, progress)
        except _REASONS as error:
            if isinstance(error, urllib.error.HTTPError) and error.code in {401, 403, 404, 410}:
                raise
            left = settings.tries if _length(part) > before else left - 1
            if left <= 0:
                raise
            time.sleep(settings.pause * 2 ** (settings.tries - left))


def _append(url: str, part: Path, size: int, settings: GetSettings, progress: Progress | None) -> None:
    """Ask for what is missing and write it; the whole, where the server does not know parts."""
    start = _length(part)
    with _open(url, settings, start) as answer, part.open("ab") as out:
        if start and answer.status != 206:
            out.truncate(start := 0)
        while piece := answer.read(min(_PIECE, size - start + 1)):
            out.write(piece)
            start += len(piece)
            if progress:
                progress(min(start, size), size)
    if start < size:
        raise ConnectionError(f"the connection ended after {start} of {size} bytes")


def _open(url: str, settings: GetSettings, start: int = 0) -> HTTPResponse:
    if urllib.parse.urlsplit(url).scheme not in {"http", "https"}:
        raise UsageError(f"{url} is no web address", remedy="--hub starts with https://")
    headers = {"User-Agent": "myelos", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    answer: HTTPResponse = urllib.request.urlopen(
        urllib.request.Request(url, headers=headers), timeout=settings.timeout
    )
    return answer


def _wrong(path: Path, file: HubFile) -> str:
    """What is wrong with a fetched file, in words; empty where nothing is."""
    if (length := _length(path)) != file.size:
        return f"{file.size} bytes expected, {length} found"
    kind = "sha256" if file.sha256 else "sha1"
    digest = hashlib.new(kind, b"" if file.sha256 else f"blob {file.size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as content:
        while piece := content.read(_PIECE):
            digest.update(piece)
    expected = file.sha256 or file.blob
    return f"{kind} {expected} expected, {digest.hexdigest()} found" if expected not in {"", digest.hexdigest()} else ""


def _there(path: Path, file: HubFile) -> bool:
    """Whether the file is there under its name, which it gets only when it has been checked."""
    return path.is_file() and path.stat().st_size == file.size


def _length(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _address(chosen: HubSet, file: HubFile, settings: GetSettings) -> str:
    place = urllib.parse.quote(file.path)
    return f"{settings.hub.rstrip('/')}/datasets/{chosen.repository}/resolve/main/{place}"


def _offset(progress: Progress | None, before: int, total: int) -> Progress | None:
    return (lambda done, _size: progress(before + done, total)) if progress else None


def _check_room(out: Path, needed: int) -> None:
    place = next(path for path in (out, *out.resolve().parents) if path.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise UsageError(
            f"{out} has no room for the set", why=f"{needed / 1e9:.1f} GB are missing, {free / 1e9:.1f} GB are free"
        )


@contextmanager
def _explained(settings: GetSettings, chosen: HubSet) -> Iterator[None]:
    """Errors of the network as one sentence: what was asked for, why it failed, what to do."""
    try:
        yield
    except _REASONS as error:
        raise InputError(
            f"{chosen.repository} cannot be fetched from {settings.hub}",
            why=str(getattr(error, "reason", "") or error),
            remedy="Run the same command again where there is a network: it goes on where it stopped. "
            "Or name another --hub, or put the set's Parquet files into the folder by hand",
        ) from error
