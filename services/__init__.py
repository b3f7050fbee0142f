"""The gRPC services, one package each; they meet only over their stubs."""
