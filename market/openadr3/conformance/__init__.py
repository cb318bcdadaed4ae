"""Checks of any OpenADR 3 VTN, as a black-box client. Others import from `market.openadr3.conformance`."""

from market.openadr3.conformance.checks import checks_of
from market.openadr3.conformance.session import Session3, opened

__all__ = ["Session3", "checks_of", "opened"]
