"""The script behind `GET /api/health`, which asks each service for its health."""

import json
from pathlib import Path

from gateway.api import Api

SOURCE = Path(__file__).with_name("health.lua")


def script(api: Api) -> str:
    """The script for the services of an API, whole."""
    names = ", ".join(json.dumps(name) for name in api.services)
    return f"local services = {{{names}}}\n{SOURCE.read_text()}"
