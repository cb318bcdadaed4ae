"""The command line: `vpp --help`. Each command is a few lines over a room's public functions.

Errors are one clear line and a non-zero exit; `--debug` shows the trace. `vpp.cli.app` knows every command by name,
and loads the one that is run.
"""

import gc
import sys

from vpp.cli.app import load_commands, run

__all__ = ["load_commands", "main", "run"]


COLLECT_EVERY = 50_000
"""New objects before the collector looks for cycles: with its own 700, a tenth of a start is looking at modules."""


def main() -> None:
    """The entry point of the `vpp` script."""
    gc.set_threshold(COLLECT_EVERY)
    sys.exit(run(sys.argv[1:]))
