"""The netlink codec and its sockets."""
