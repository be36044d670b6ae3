"""Redirect back ends: how the kernel is told to deliver service addresses to this process."""
