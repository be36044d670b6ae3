"""Tests of the data path, with real sockets on loopback."""
