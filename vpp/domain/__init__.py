"""The words of the field as plain values: standard library and numpy only, no input or output."""
