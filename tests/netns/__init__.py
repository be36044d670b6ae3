"""End-to-end tests in network namespaces: real packets, real nftables, a real uproxy process."""
