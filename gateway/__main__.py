"""`python -m gateway`: serves until SIGTERM or SIGINT. `validate` and `openapi` show what would be served."""

import argparse
import asyncio
import json
import signal
import sys

from gateway import openapi
from gateway.api import load
from gateway.envoy import Envoy, EnvoyError, validate
from gateway.settings import GatewaySettings
from kernel.processes import die_with_parent


def main() -> None:
    """Runs a command of the gateway."""
    parser = argparse.ArgumentParser(prog="python -m gateway")
    parser.add_argument("command", nargs="?", default="serve", choices=["serve", "validate", "openapi"])
    command = parser.parse_args().command
    settings = GatewaySettings()
    try:
        match command:
            case "openapi":
                json.dump(openapi.document(load()), sys.stdout, indent=2)
            case "validate":
                asyncio.run(validate(load(), settings))
            case _:
                die_with_parent()
                sys.exit(asyncio.run(_serve(settings)))
    except EnvoyError as error:
        sys.exit(str(error))


async def _serve(settings: GatewaySettings) -> int:
    """Serves until a signal, which is exit code 0, or until Envoy ends by itself, which is Envoy's."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Envoy(load(), settings) as envoy:
        ended = asyncio.create_task(envoy.wait())
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        return ended.result() if ended.done() else 0


if __name__ == "__main__":
    main()
