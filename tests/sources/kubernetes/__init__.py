"""Tests of the Kubernetes source."""
