"""The test lab: network namespaces with a node, pods and clients, and what is needed to talk inside them."""
