"""Column types as the contract's messages have them."""

from kernel.databases.types import DataType, Kind
from portolan.common.v1 import datatypes_pb2 as pb

PREFIX = "KIND_"


def type_message(of: DataType) -> pb.DataType:
    """A type as a message."""
    kind = pb.DataType.Kind.Value(f"{PREFIX}{of.kind}")
    return pb.DataType(kind=kind, length=of.length, precision=of.precision, scale=of.scale)


def data_type(message: pb.DataType) -> DataType:
    """The type of a message; OTHER when its kind is not given."""
    name = pb.DataType.Kind.Name(message.kind).removeprefix(PREFIX) if message.kind else Kind.OTHER
    return DataType(Kind(name), message.length, message.precision, message.scale)
