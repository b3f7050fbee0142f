"""The shared library of the services; it knows none of them."""
