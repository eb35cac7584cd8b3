"""pypatcher."""
