"""Generates the stubs and the descriptor set from the protos, into `gen/`.

The descriptor set `gen/portolan.binpb` holds comments and all imports; the gateway, the OpenAPI document and
the checks read it. What the protos import is not vendored: its descriptors come out of the installed
packages.
"""

import importlib
import pathlib
import shutil
import sys

from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_tools import protoc
from protovalidate._gen.buf.validate import validate_pb

PROTOS = pathlib.Path(__file__).parent
GEN = PROTOS.parent / "gen"
VALIDATE = "buf/validate/validate.proto"
WELL_KNOWN = ("any", "descriptor", "duration", "empty", "field_mask", "struct", "timestamp")
IMPORTS = (
    *(f"google/protobuf/{name}" for name in WELL_KNOWN),
    *(f"google/api/{name}" for name in ("http", "annotations", "field_behavior", "httpbody")),
    *(f"google/rpc/{name}" for name in ("status", "error_details")),
)


def imported_descriptors() -> bytes:
    """A descriptor set of all that the protos import, each file after those that it needs."""
    files = descriptor_pb2.FileDescriptorSet()
    for name in IMPORTS:
        importlib.import_module(f"{name.replace('/', '.')}_pb2")
        descriptor_pool.Default().FindFileByName(f"{name}.proto").CopyToProto(files.file.add())
    files.file.add().ParseFromString(validate_pb.desc().proto.to_binary())
    return files.SerializeToString()


def run(*arguments: str) -> None:
    """Calls protoc, and ends with its exit code when it fails."""
    code = protoc.main(["protoc", *arguments])
    if code:
        sys.exit(code)


def main() -> None:
    """Makes everything anew, so that nothing outlives its proto."""
    shutil.rmtree(GEN, ignore_errors=True)
    GEN.mkdir()
    imports = GEN / "imports.binpb"
    imports.write_bytes(imported_descriptors())
    files = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
    tools = pathlib.Path(sys.executable).parent
    python = [
        f"--descriptor_set_in={imports}",
        f"--plugin={tools / 'protoc-gen-mypy'}",
        f"--plugin={tools / 'protoc-gen-mypy_grpc'}",
        f"--python_out={GEN}",
        f"--mypy_out=quiet:{GEN}",
    ]
    run(*python, VALIDATE)
    run(
        *python,
        f"-I{PROTOS}",
        f"--grpc_python_out={GEN}",
        f"--mypy_grpc_out=quiet:{GEN}",
        f"--descriptor_set_out={GEN / 'portolan.binpb'}",
        "--include_imports",
        "--include_source_info",
        *files,
    )
    imports.unlink()


if __name__ == "__main__":
    main()
