"""The data path: listeners, connections and flows, moved by one edge-triggered epoll inside the asyncio loop."""
