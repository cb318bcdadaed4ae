"""Real PostgreSQL and Valkey from wheels, for those who bring none. Called by cli, demo and tests."""

from vpp.store.embedded.servers import ServerUrls, ensure_servers, running_servers, stop_servers

__all__ = ["ServerUrls", "ensure_servers", "running_servers", "stop_servers"]
