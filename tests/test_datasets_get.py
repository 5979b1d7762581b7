"""Downloads from a stand-in of the hub: resumed, checked, retried, and explained where they fail."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import myelos.cli
from cell_sets import parquet
from myelos.datasets.cells import read_cells
from myelos.datasets.get import HUB_SETS, GetSettings, check_rows, get
from myelos.errors import InputError, UsageError

NAME = "mll-bone-marrow"


class Hub:
    """Serves files as the hub does. cut: bytes after which a connection breaks, once for each file of that name.

    ranges: whether parts can be asked for. lie: files that are listed with another hash.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.cut, self.lie, self.ranges = files, {}, set(), True
        self.asked: list[tuple[str, str | None]] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def settings(self) -> GetSettings:
        return GetSettings(hub=f"http://127.0.0.1:{self.server.server_port}", pause=0.0, timeout=5)

    def listing(self) -> list[dict]:
        entries: list[dict] = [{"type": "directory", "path": "data", "size": 0, "oid": "x"}]
        for path, content in self.files.items():
            sha256 = hashlib.sha256(content + (b"!" if path in self.lie else b"")).hexdigest()
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            entry = {"type": "file", "path": path, "size": len(content), "oid": blob}
            large = {"lfs": {"oid": sha256, "size": len(content)}} if path.endswith(".parquet") else {}
            entries.append({**entry, **large})
        return entries

    def handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                hub.asked.append((self.path, self.headers.get("Range")))
                if self.path.startswith("/api/"):
                    return self.listed()
                path = self.path.split("/resolve/main/")[-1]
                if path not in hub.files:
                    return self.send_error(404)
                return self.content(path, hub.files[path])

            def listed(self) -> None:
                half, last = len(hub.listing()) // 2, "page=2" in self.path
                body = json.dumps(hub.listing()[half:] if last else hub.listing()[:half]).encode()
                self.send_response(200)
                if not last:
                    self.send_header("Link", f'<http://{self.headers["Host"]}{self.path}&page=2>; rel="next"')
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def content(self, path: str, body: bytes) -> None:
                asked = self.headers.get("Range")
                start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and hub.ranges else 0
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(body) - start))
                self.end_headers()
                self.wfile.write(body[start : hub.cut.pop(path, None)])
                self.close_connection = True

        return Handler


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    folder = parquet(tmp_path / "source")
    files = {f"data/{path.name}": path.read_bytes() for path in sorted(folder.iterdir())}
    stand_in = Hub({**files, "data/notes.txt": b"some words", "README.md": b"not of the set"})
    yield stand_in
    stand_in.server.shutdown()
    stand_in.server.server_close()


def test_a_set_is_downloaded_and_read(hub: Hub, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    paths = get(NAME, tmp_path / "out", settings=hub.settings, progress=lambda *now: seen.append(now))
    assert {path.relative_to(tmp_path / "out").as_posix() for path in paths} == set(hub.files) - {"README.md"}
    assert all(path.read_bytes() == hub.files[f"data/{path.name}"] for path in paths)
    total = sum(len(content) for path, content in hub.files.items() if path != "README.md")
    assert seen[-1] == (total, total)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert len(read_cells(tmp_path / "out")[0]) == 6
    assert [fault.detail for fault in check_rows(NAME, tmp_path / "out")] == [
        "train: 137093 expected, 3 there",
        "validation: 17146 expected, 0 there",
        "test: 17135 expected, 3 there",
    ]
    hub.asked.clear()
    get(NAME, tmp_path / "out", settings=hub.settings)
    assert all(path.startswith("/api/") for path, _ in hub.asked)  # nothing is fetched twice


def test_a_cut_connection_goes_on_where_it_was(hub: Hub, tmp_path: Path) -> None:
    path = next(path for path in hub.files if path.startswith("data/train"))
    hub.cut = {path: 1000}
    get(NAME, tmp_path, settings=hub.settings)
    assert (tmp_path / path).read_bytes() == hub.files[path]
    assert "bytes=1000-" in [asked for _, asked in hub.asked]
    assert not list(tmp_path.rglob("*.part"))


def test_what_an_earlier_run_left_is_used(hub: Hub, tmp_path: Path) -> None:
    path = next(path for path in hub.files if path.startswith("data/test"))
    part = tmp_path / f"{path}.part"
    part.parent.mkdir()
    part.write_bytes(hub.files[path][:777])
    get(NAME, tmp_path, settings=hub.settings)
    assert (tmp_path / path).read_bytes() == hub.files[path]
    assert "bytes=777-" in [asked for _, asked in hub.asked]


def test_a_server_without_parts_sends_the_whole(hub: Hub, tmp_path: Path) -> None:
    hub.ranges = False
    path = next(path for path in hub.files if path.startswith("data/train"))
    hub.cut = {path: 1000}
    get(NAME, tmp_path, settings=hub.settings)
    assert (tmp_path / path).read_bytes() == hub.files[path]


def test_a_damaged_beginning_is_fetched_anew(hub: Hub, tmp_path: Path) -> None:
    path = next(path for path in hub.files if path.startswith("data/train"))
    part = tmp_path / f"{path}.part"
    part.parent.mkdir()
    part.write_bytes(bytes(500))
    get(NAME, tmp_path, settings=hub.settings)
    assert (tmp_path / path).read_bytes() == hub.files[path]


@pytest.mark.parametrize("kind", ["parquet", "txt"])
def test_a_wrong_checksum_is_never_kept(hub: Hub, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = next(path for path in hub.files if path.endswith(kind))
    good = hub.listing()
    hub.files[path] = hub.files[path][:-1] + b"?"  # as long, but another
    monkeypatch.setattr(hub, "listing", lambda: good)
    with pytest.raises(InputError, match=f"{path} is wrong twice.*expected"):
        get(NAME, tmp_path, settings=hub.settings)
    assert not (tmp_path / path).exists()
    assert not (tmp_path / f"{path}.part").exists()


def test_a_file_that_is_gone(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = hub.listing()
    monkeypatch.setattr(hub, "listing", lambda: good)
    del hub.files["data/notes.txt"]
    with pytest.raises(InputError, match="Not Found"):
        get(NAME, tmp_path, settings=hub.settings)


def test_names_that_leave_the_folder(hub: Hub, tmp_path: Path) -> None:
    hub.files["data/../../outside.txt"] = b"no"
    with pytest.raises(InputError, match="outside of its folder"):
        get(NAME, tmp_path / "out", settings=hub.settings)
    assert not (tmp_path / "outside.txt").exists()


def test_no_network_is_explained(tmp_path: Path) -> None:
    settings = GetSettings(hub="http://127.0.0.1:9", tries=1, pause=0.0, timeout=2)
    with pytest.raises(InputError, match="cannot be fetched") as error:
        get(NAME, tmp_path, settings=settings)
    assert error.value.why
    assert "goes on where it stopped" in error.value.remedy


def test_command(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["myelos", "datasets", "get", NAME, "-o", str(tmp_path / "out"), "--tries", "1"]
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.setenv("MYELOS_HUB", hub.settings.hub)
    assert myelos.cli.main() == 3  # the stand-in has fewer images than the published set
    out, err = capsys.readouterr()
    assert "3 files in" in out
    assert "CC BY 4.0" in out
    assert "train: 137093 expected, 3 there" in err
    monkeypatch.setattr(sys, "argv", [*words, "--hub", "http://127.0.0.1:9"])
    assert myelos.cli.main() == 1
    assert "cannot be fetched from http://127.0.0.1:9" in capsys.readouterr().err


def test_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no set 'nothing'.*mll-bone-marrow"):
        get("nothing", tmp_path)
    with pytest.raises(UsageError, match="no web address"):
        get(NAME, tmp_path, settings=GetSettings(hub="file:///etc"))
    assert sum(HUB_SETS[NAME].rows.values()) == 171_374
