"""What works on runs, apart from any call."""
