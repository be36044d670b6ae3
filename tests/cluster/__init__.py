"""A real control plane for tests: etcd, kube-apiserver, kube-controller-manager, and a relay that damages streams."""
