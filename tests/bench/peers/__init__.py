"""Peers that solve our problems, each run by `bench_peers.py` as a script in an environment of its own."""
