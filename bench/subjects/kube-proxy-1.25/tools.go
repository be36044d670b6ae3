//go:build tools

// Package proxy names the command that go.mod's requirement is for.
package proxy

import _ "k8s.io/kubernetes/cmd/kube-proxy"
