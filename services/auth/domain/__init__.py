"""The rules of signing in, of sessions and of their tokens."""
