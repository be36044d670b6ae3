"""What is installed: image, manifests, unit."""
