"""What is left when a plugin dies, fails or meets a broken store, and what the next request makes of it."""
