"""Tests of the packet capture."""
