"""How two devices behind routers reach each other: hole punching, port mapping, our own addresses."""
