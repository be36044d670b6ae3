"""Tests: the core in tables and against naive models, everything else with real sockets, processes and packets."""
