"""The `portolan` command."""

import os

# gRPC's own lines about broken connections say nothing that the command does not say better.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # noqa: TID251  # not configuration of ours
