"""Checks of any OpenADR 2.0b VTN, as a black-box client. Others import from `market.openadr2.conformance`."""

from market.openadr2.conformance.checks import CHECKS
from market.openadr2.conformance.session import Session2, opened

__all__ = ["CHECKS", "Session2", "opened"]
