"""``pypatcher netcheck``: probe the network, and say what it means."""
