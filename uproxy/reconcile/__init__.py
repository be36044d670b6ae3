"""The one loop that makes listeners and the kernel agree with the Services: decide first, then act."""
