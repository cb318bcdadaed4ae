"""The command line: `vpp --help`. Each command is a few lines over a room's public functions.

Errors are one clear line and a non-zero exit; `--debug` shows the trace.
"""

import sys

from vpp.cli import explain, figures, fleet, peers, peers_log, play, service
from vpp.cli.app import app, run

__all__ = ["app", "explain", "figures", "fleet", "main", "peers", "peers_log", "play", "service"]


def main() -> None:
    """The entry point of the `vpp` script."""
    sys.exit(run(sys.argv[1:]))
