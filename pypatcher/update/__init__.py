"""Which release this device takes, from whom, and when it takes over."""
