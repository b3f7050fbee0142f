"""The columns of a load, as its plan has them."""

from dataclasses import dataclass

from kernel.databases.messages import data_type
from kernel.databases.types import DataType
from portolan.mapper.v1 import plan_pb2


@dataclass(frozen=True)
class StageColumn:
    """A column of the stage; part of the business key or not."""

    name: str
    type: DataType
    key: bool


def stage_columns(plan: plan_pb2.LoadPlan) -> list[StageColumn]:
    """The columns of a plan's stage."""
    return [StageColumn(column.name, data_type(column.type), column.key) for column in plan.stage_columns]
