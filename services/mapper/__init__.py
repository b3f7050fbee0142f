"""Mappings: how sources become tables of the warehouse, in versions, checked and compiled."""
