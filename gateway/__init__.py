"""The REST gateway: the configuration of Envoy, made from the descriptor set, and the OpenAPI document."""
