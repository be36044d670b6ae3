"""Objects from a Kubernetes API server: connection and credentials, lists and watches, Events."""
