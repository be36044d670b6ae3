"""The bridge plugin, in namespaces that play host and pods."""
