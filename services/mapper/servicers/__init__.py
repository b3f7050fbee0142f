"""Mappings over gRPC."""
