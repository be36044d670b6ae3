"""Where objects come from: each source turns what it sees into events (uproxy.core.state)."""
