"""The CNI plugins: pure parts in process, verbs as processes beside the reference implementation, faults."""
