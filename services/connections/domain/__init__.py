"""The rules of connections."""
