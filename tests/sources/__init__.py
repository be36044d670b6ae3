"""Sources: manifests from text to events, and a real folder that is followed."""
