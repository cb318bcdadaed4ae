"""An adapter to copy: it declares that it can do nothing, honestly, and passes the conformance suite."""

from adapters.blueprint.adapter import BlueprintAdapter

__all__ = ["BlueprintAdapter"]
