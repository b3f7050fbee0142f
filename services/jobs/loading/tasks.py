"""What a load is told: all that it needs, credentials included, as one text for its pipe."""

import base64
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from kernel.databases.endpoints import DatabaseKind, Endpoint, SslMode
from portolan.mapper.v1 import plan_pb2


@dataclass(frozen=True, kw_only=True)
class Task:
    """One attempt at a run. `fence` is higher than that of each earlier attempt of the same mapping."""

    run_id: str
    fence: int
    plan: plan_pb2.LoadPlan
    source: Endpoint
    target: Endpoint
    parameters: Mapping[str, str] = field(default_factory=dict)
    confirm_seconds: float = 15.0
    """How long a load that is ready waits for its confirmation before it gives up."""

    def to_json(self) -> bytes:
        """The task as text."""
        values = {name.name: getattr(self, name.name) for name in dataclasses.fields(self)}
        values["plan"] = base64.b64encode(self.plan.SerializeToString()).decode()
        values["source"], values["target"] = dataclasses.asdict(self.source), dataclasses.asdict(self.target)
        values["parameters"] = dict(self.parameters)
        return json.dumps(values).encode()

    @classmethod
    def from_json(cls, text: bytes) -> "Task":
        """The task of a text."""
        values = json.loads(text)
        values["plan"] = plan_pb2.LoadPlan.FromString(base64.b64decode(values["plan"]))
        values["source"], values["target"] = _endpoint(values["source"]), _endpoint(values["target"])
        return cls(**values)


def _endpoint(values: dict[str, str]) -> Endpoint:
    kind, ssl_mode = DatabaseKind(values.pop("kind")), SslMode(values.pop("ssl_mode"))
    return Endpoint(kind=kind, ssl_mode=ssl_mode, port=int(values.pop("port")), **values)
