"""Recorded data that lies beside the project and is never part of it."""

import os
from pathlib import Path

import pytest

SHARED_DIR = Path(os.environ.get("VPP_SHARED_DIR", Path(__file__).resolve().parents[2] / "shared"))


def shared_data(*parts: str) -> Path:
    """A file or folder of the shared data; the test skips where it is not on this machine."""
    path = SHARED_DIR.joinpath("data", *parts)
    if not path.exists():
        pytest.skip(f"{'/'.join(parts)} is not on this machine; set VPP_SHARED_DIR to the folder that holds data/")
    return path


def shared_vectors(*parts: str) -> Path:
    """Recorded messages of a protocol, a file or folder; the test skips where they are not on this machine."""
    path = SHARED_DIR.joinpath("vectors", *parts)
    if not path.exists():
        pytest.skip(f"{'/'.join(parts)} is not on this machine; set VPP_SHARED_DIR to the folder that holds vectors/")
    return path


def shared_spec(*parts: str) -> Path:
    """A published specification, a file or folder; the test skips where it is not on this machine."""
    path = SHARED_DIR.joinpath("spec", *parts)
    if not path.exists():
        pytest.skip(f"{'/'.join(parts)} is not on this machine; set VPP_SHARED_DIR to the folder that holds spec/")
    return path
