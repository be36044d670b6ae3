"""The portmap plugin: ports of the host that lead to a container."""
