"""Namespaces as pods on our plugins: what they reach, and whom the other side sees."""
