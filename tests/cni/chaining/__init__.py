"""Our bridge at the head of chains of other plugins."""
