"""The process contract: what a runtime sends, what it gets back."""
