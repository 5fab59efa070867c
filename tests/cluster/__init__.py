"""Granary on a real Kubernetes cluster: a node that starts on this machine, and the tests that need one."""
