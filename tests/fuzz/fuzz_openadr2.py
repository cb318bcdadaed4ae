"""The XML door under a coverage-guided fuzzer: `python -m tests.fuzz.fuzz_openadr2 -runs=100000 CORPUS_DIR`.

Needs `atheris` (`uv sync --group fuzz`); options are libFuzzer's. `tests/unit/test_openadr2_door.py` runs it briefly.
"""

import sys


def main() -> None:
    """Instrument the codec as it is imported, and run."""
    import atheris  # only where it is installed

    with atheris.instrument_imports(include=["market.openadr2"]):
        from tests.fuzz.door_openadr2 import try_bytes

    atheris.Setup(sys.argv, try_bytes)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
