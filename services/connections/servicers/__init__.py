"""The service's methods, and their messages."""
