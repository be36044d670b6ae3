"""Measurements of uproxy: next to its peers (compare), with many Services (scale), and fed by an API server (cluster)."""
