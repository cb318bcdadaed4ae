"""One line a log entry on standard error: for people on a terminal, JSON elsewhere."""

import logging
import sys
from typing import TextIO, cast

import structlog

_processors: list[structlog.types.Processor] = []
"""One list for the life of the process: loggers are kept once used, and hold on to the list they were made with."""


class _PresentStderr:
    """Standard error as it is when a line is written, for a logger lives longer than a redirection of it."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def configure_logs(*, level: str = "INFO") -> None:
    """Set up logging for this process; libraries speak from WARNING on only."""
    number = logging.getLevelNamesMapping()[level.upper()]
    human = sys.stderr.isatty()
    renderer: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer(
            exception_formatter=structlog.dev.plain_traceback  # never with local variables: they hold secrets
        )
        if human
        else structlog.processors.JSONRenderer()
    )
    _processors[:] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        renderer,
    ]
    structlog.configure(
        processors=_processors,
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _PresentStderr())),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(
        level=max(number, logging.WARNING), stream=sys.stderr, format="%(levelname)s %(name)s %(message)s"
    )
