"""The v1 exchange: one connection, both ways. Codecs so far; nothing dials or serves by it yet."""
