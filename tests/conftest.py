"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real images; tests that need it are skipped, with the reason, where it is absent."""
    named = os.environ.get("MYELOS_TEST_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not (folder / "bccd_fields").is_dir():
        pytest.skip(f"real images are not at {folder} (set MYELOS_TEST_DATA)")
    return folder
