"""Raw netlink, as far as a bridge plugin needs it: a codec, one connection class, requests as values.

Knows nothing of CNI. Every request is made as bytes by a pure function and tested against what iproute2 and nft send.
"""
