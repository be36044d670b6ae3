"""Tests of what operators and their monitoring ask."""
