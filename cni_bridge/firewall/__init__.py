"""The firewall plugin: containers' forwarded packets accepted where the host drops what it forwards."""
