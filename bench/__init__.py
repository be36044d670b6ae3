"""Measurements of uproxy: next to its peers (compare) and with many Services (scale)."""
