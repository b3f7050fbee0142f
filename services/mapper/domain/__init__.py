"""The rules of mappings."""
