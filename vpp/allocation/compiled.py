"""The decorator of every kernel, and where its compiled code is kept.  Called by each file of kernels.

Compiled code is kept in a directory named after the kernels' sources, because the compiler looks at one
file's time stamp only and would go on using a kernel whose callee in another file has changed.
"""

import hashlib
import os
import tempfile
from pathlib import Path

import numba
from numba import njit


def _directory() -> Path:
    texts = {source.name: source.read_bytes() for source in sorted(Path(__file__).parent.rglob("*.py"))}
    used = [text for name, text in texts.items() if b"@kernel" in text or name == "tables.py"]
    digest = hashlib.sha256(b"".join(used)).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    wanted = cache / "vpp" / f"kernels-{digest}"
    try:
        wanted.mkdir(parents=True, exist_ok=True)
    except OSError:  # no home, or a read-only one
        wanted = Path(tempfile.gettempdir()) / f"vpp-kernels-{os.getuid()}-{digest}"
        wanted.mkdir(mode=0o700, parents=True, exist_ok=True)
        if wanted.stat().st_uid != os.getuid():  # compiled code of somebody else's is not run
            wanted = Path(tempfile.mkdtemp(prefix="vpp-kernels-"))
    return wanted


if "NUMBA_CACHE_DIR" not in os.environ:
    numba.config.CACHE_DIR = str(_directory())  # type: ignore[attr-defined]

kernel = njit(cache=True, nogil=True, error_model="numpy")
