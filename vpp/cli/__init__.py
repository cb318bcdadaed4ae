"""The command line: `vpp --help`. Each command is a few lines over a room's public functions.

Errors are one clear line and a non-zero exit; `--debug` shows the trace. Commands are loaded by
`vpp.cli.app.load_commands` once it is known which are wanted.
"""

import sys

from vpp.cli.app import load_commands, run

__all__ = ["load_commands", "main", "run"]


def main() -> None:
    """The entry point of the `vpp` script."""
    sys.exit(run(sys.argv[1:]))
