"""The `portolan` command."""
