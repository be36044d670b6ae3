"""uproxy: a userspace service proxy for Kubernetes nodes."""

__version__ = "0.1.0"
