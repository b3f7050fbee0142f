"""`python -m bench [NAME …]`: runs all benchmarks, or those named, and prints their figures."""

import importlib
import sys

NAMES = ("gateway", "gateway_guard", "start", "load", "merge")


def main() -> None:
    """Prints each figure as soon as it is known."""
    for name in sys.argv[1:] or NAMES:
        module = importlib.import_module(f"bench.{name}")
        print(f"\n{name}: {str(module.__doc__).splitlines()[0]}", flush=True)
        for figure in module.measure():
            print(f"  {figure}", flush=True)


if __name__ == "__main__":
    main()
