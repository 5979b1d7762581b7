"""Weights of others: read from a local safetensors file, used as their makers used them, and named in the card."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import cv2
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.data import resolve_model_data_config
from torchvision.models import resnext50_32x4d

from myelos.cli import main
from myelos.errors import ModelError, UsageError
from myelos.models import load_classifier
from myelos.models.classify import ModuleClassifier
from myelos.models.files import read_card
from myelos.networks.cells import GREY, CellNetwork, CellNetworkSettings
from myelos.training.checkpoints import beginning
from tiny_classifier import TYPES, cells, pixels

BACKBONE = "test_efficientnet"  # a small one of timm, with a head of its own


@pytest.fixture(scope="module")
def donor(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, Path]:
    """A network of timm whose weights and normalisations are not those of a fresh one, and its file."""
    torch.manual_seed(3)
    network = timm.create_model(BACKBONE, pretrained=False, num_classes=7)
    network.train()(torch.rand(8, 3, 64, 64))
    path = tmp_path_factory.mktemp("donor") / "donor.safetensors"
    save_file(network.state_dict(), path)
    return network.eval(), path


def begun(settings: CellNetworkSettings, path: Path) -> CellNetwork:
    first = beginning(settings, None, path)
    network = CellNetwork(3, first.network)
    assert first.weights is not None
    network.load_state_dict(network.state_dict() | first.weights)
    return network.eval()


def test_a_backbone_of_timm_sees_what_it_saw_before(donor: tuple[torch.nn.Module, Path]) -> None:
    """Its features of raw pixels are those that timm gives for pixels prepared as its own settings say."""
    whole, path = donor
    network = begun(CellNetworkSettings(backbone=f"timm:{BACKBONE}"), path)
    config = resolve_model_data_config(whole)
    raw = pixels(cells(4, 0)[0])
    mean, spread = (torch.tensor(config[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    with torch.inference_mode():
        expected = whole.forward_head(whole.forward_features((raw / 255 - mean) / spread), pre_logits=True)
        torch.testing.assert_close(network.features(raw), expected, rtol=1e-4, atol=1e-5)
    assert network.settings.centre != GREY


def test_resnext_takes_the_file_of_torchvision(tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = resnext50_32x4d(weights=None).eval()
    save_file(whole.state_dict(), tmp_path / "resnext.safetensors")
    network = begun(CellNetworkSettings(backbone="resnext50"), tmp_path / "resnext.safetensors")
    raw = pixels(cells(2, 0)[0])
    mean, spread = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))
    prepared = (raw / 255 - mean.view(1, 3, 1, 1)) / spread.view(1, 3, 1, 1)
    with torch.inference_mode():
        expected = whole.fc(network.features(raw))
        torch.testing.assert_close(expected, whole(prepared), rtol=1e-3, atol=1e-4)


class Hub(BaseHTTPRequestHandler):
    """The Hugging Face hub as far as one file goes: a head with its hash, and the file."""

    body = b""

    def _begin(self) -> bool:
        if not self.path.endswith("/timm/test_efficientnet.r160_in1k/resolve/main/model.safetensors"):
            self.send_error(404)
            return False
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha256(self.body).hexdigest()}"')
        self.send_header("X-Repo-Commit", "a" * 40)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        return True

    def do_HEAD(self) -> None:
        self._begin()

    def do_GET(self) -> None:
        if self._begin():
            self.wfile.write(self.body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_the_hub_is_asked_where_that_is_wanted(donor: tuple[torch.nn.Module, Path], tmp_path: Path) -> None:
    """Against a server of our own: fetched once, then taken from the cache, also when the server is gone."""
    handler = type("Filled", (Hub,), {"body": donor[1].read_bytes()})
    script = (
        "from myelos.networks.cells import CellNetworkSettings as Settings\n"
        "from myelos.training.checkpoints import beginning\n"
        f"first = beginning(Settings(backbone='timm:{BACKBONE}'), None, 'hub')\n"
        "print(first.said['file'], first.said['sha256'], len(first.weights))"
    )
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        environment = {
            "NO_PROXY": "127.0.0.1",
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "HF_HOME": str(tmp_path),
        }
        online = asked_of(script, environment)
        server.shutdown()
    hashed = hashlib.sha256(donor[1].read_bytes()).hexdigest()
    assert online.split()[:4] == [f"timm:{BACKBONE}", "from", "the", "hub"]
    assert hashed in online
    assert asked_of(script, environment | {"HF_HUB_OFFLINE": "1"}) == online


def asked_of(script: str, environment: dict[str, str]) -> str:
    """What a script prints in a process of its own: the hub's address and cache are read when its library is loaded."""
    command = [sys.executable, "-c", script]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True).stdout


def test_a_hub_that_cannot_be_reached_is_an_error_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=r"timm/resnet18\S* cannot be fetched") as caught:
        beginning(CellNetworkSettings(backbone="timm:resnet18"), None, "hub")
    assert "pass the file" in caught.value.remedy


def test_the_hub_s_resnext_has_the_names_of_torchvision() -> None:
    with torch.device("meta"):
        ours, theirs = resnext50_32x4d(weights=None), timm.create_model("resnext50_32x4d")
    assert {name: value.shape for name, value in ours.state_dict().items()} == {
        name: value.shape for name, value in theirs.state_dict().items()
    }


def test_what_does_not_fit_is_refused_before_anything_is_read(
    donor: tuple[torch.nn.Module, Path], tmp_path: Path
) -> None:
    path, own = donor[1], CellNetworkSettings(backbone=f"timm:{BACKBONE}")
    with pytest.raises(UsageError, match="our own network"):
        beginning(CellNetworkSettings(), None, path)
    with pytest.raises(UsageError, match="--start or with --pretrained"):
        beginning(own, "cells-blood", path)
    with pytest.raises(ModelError, match="no backbone 'no_such_net'"):
        beginning(CellNetworkSettings(backbone="timm:no_such_net"), None, path)
    with pytest.raises(ModelError, match="tensors are missing"):
        beginning(CellNetworkSettings(backbone="resnext50"), None, path)
    with pytest.raises(ModelError, match="not opened"):
        beginning(own, None, tmp_path / "weights.pth")
    (tmp_path / "torn.safetensors").write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ModelError, match="torn"):
        beginning(own, None, tmp_path / "torn.safetensors")
    wide = {name: torch.cat([value, value]) for name, value in load_file(path).items() if value.ndim}
    save_file(wide, tmp_path / "wide.safetensors")
    with pytest.raises(ModelError, match="size mismatch"):
        beginning(own, None, tmp_path / "wide.safetensors")


def test_the_command_begins_with_them_and_says_so(
    donor: tuple[torch.nn.Module, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hardly trained, the last layers are still the donor's; the graph and the module agree."""
    images, kinds = cells(48, 5)
    for index, (image, kind) in enumerate(zip(images, kinds, strict=True)):
        folder = tmp_path / "cells" / TYPES[kind]
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{index}.png"), image[..., ::-1])
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'name = "taken"\nmpp = 0.3\nside = 48\n[training]\nepochs = 0.2\nrate = 1e-7\nwarmup = 1\nearly = 0\n'
        f'decay = 0\nbatch = 16\n[training.network]\nbackbone = "timm:{BACKBONE}"\n'
    )
    command = ["train", "classifier", "--data", str(tmp_path / "cells"), "--recipe", str(recipe), "--mpp", "0.3"]
    given = ["--pretrained", str(donor[1]), "-o", str(tmp_path / "run"), "--no-check-images"]
    monkeypatch.setattr(sys, "argv", ["myelos", *command, *given])
    assert main() == 0
    card = read_card(tmp_path / "run" / "taken.safetensors")
    assert card.training["begun_with"]["file"] == "donor.safetensors"
    assert "Begun with the weights of donor.safetensors" in card.text
    kept, first = load_file(card.path)["trunk.network.conv_stem.weight"], donor[0].state_dict()["conv_stem.weight"]
    torch.testing.assert_close(kept.float(), first, rtol=2e-3, atol=1e-4)
    graph, module = load_classifier(card.path)(images[:6]), ModuleClassifier(card)(images[:6])
    assert np.abs(graph - module).max() < 2e-3
    further = beginning(CellNetworkSettings(backbone=f"timm:{BACKBONE}"), card.path, None)
    assert further.network.centre == pytest.approx(card.architecture["centre"])
    assert further.network.centre != GREY
    assert beginning(CellNetworkSettings(), card.path, None).network.centre == GREY
