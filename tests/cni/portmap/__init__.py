"""The portmap plugin with real packets, beside the reference plugin, and dying."""
