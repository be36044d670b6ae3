"""Tests of the measurements: what they count is what happened."""
