"""`python -m vpp` is `vpp`."""

from vpp.cli import main

main()
