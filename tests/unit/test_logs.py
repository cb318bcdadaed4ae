"""Loggers that were used once go on writing to whatever standard error is, and are heard by tests."""

import pytest
import structlog
from structlog.testing import capture_logs

from vpp.observability import configure_logs

log = structlog.get_logger("vpp.test")


@pytest.fixture(autouse=True)
def configured() -> None:
    configure_logs()


@pytest.mark.parametrize("line", ["first", "again, after standard error was another"])
def test_a_line_goes_to_standard_error_as_it_is_now(capsys: pytest.CaptureFixture[str], line: str) -> None:
    log.info(line)
    assert line in capsys.readouterr().err


def test_a_logger_in_use_is_heard_after_logs_were_configured_again() -> None:
    log.info("used")
    configure_logs()
    with capture_logs() as heard:
        log.info("heard")
    assert [entry["event"] for entry in heard] == ["heard"]
