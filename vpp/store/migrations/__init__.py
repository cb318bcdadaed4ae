"""Revisions of the schema, run by `vpp.store.migrate`."""
