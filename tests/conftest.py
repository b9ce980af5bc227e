"""Fixtures that several rooms share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tlpot_data() -> Path:
    """Folder of real reference data, named by TLPOT_DATA."""
    folder = os.environ.get("TLPOT_DATA", "")
    if not Path(folder, "README.md").is_file():
        pytest.skip("TLPOT_DATA does not name the folder of reference data")
    return Path(folder)
