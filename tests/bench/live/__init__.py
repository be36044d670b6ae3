"""Tests of bench.live: real sockets on loopback, and servers that know what really happened."""
