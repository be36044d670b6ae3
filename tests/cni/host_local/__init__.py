"""host-local: decisions, the store, and both beside the reference implementation."""
