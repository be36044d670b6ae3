"""The host-local IPAM plugin: addresses from ranges, leases as files, one folder per network on this host."""
