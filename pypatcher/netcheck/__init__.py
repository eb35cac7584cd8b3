"""``pypatcher netcheck``: measures what the network lets through, and says what it means. Changes no setting."""
