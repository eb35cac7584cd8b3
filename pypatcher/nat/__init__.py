"""How two devices behind routers reach each other: hole punching, port mapping, our own addresses.

Not here: where addresses come from (``discovery``), and what is said once somebody answers (``transfer``).
"""
