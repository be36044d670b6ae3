"""Demonstrations of uproxy, and the manifests they serve."""
