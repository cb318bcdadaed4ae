"""Room bootstrap: how many connections a process of ours may have open. Called by the processes of both VTNs."""

import resource

import structlog

OWN_FILES = 256
"""Kept for databases, logs and calls of our own."""

log = structlog.get_logger(__name__)


def room_for(wanted: int, *, process: str) -> int:
    """Raise this process's limit of open files as far as the system lets it; return how many connections fit in.

    Args:
        wanted: no more than these.
        process: named in the log.
    """
    soft, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    most = max(1, min(wanted, files - OWN_FILES))
    log.info("connections that are taken", process=process, at_once=most, open_files=files)
    if most < wanted:
        log.warning(
            "the limit of open files is too low for the connections that are set", process=process, at_once=most,
            wanted=wanted, open_files=files,
        )  # fmt: skip
    return most
