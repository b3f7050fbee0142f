"""Stand-ins of the services that know who uses a connection."""

from dataclasses import dataclass, field
from typing import Any

from portolan.jobs.v1 import jobs_pb2, jobs_pb2_grpc
from portolan.mapper.v1 import mappings_pb2, mappings_pb2_grpc


@dataclass
class Mapper(mappings_pb2_grpc.MappingServiceServicer):
    """Mappings that use a connection, by its name."""

    users: dict[str, list[str]] = field(default_factory=dict)

    def ListMappings(
        self, request: mappings_pb2.ListMappingsRequest, context: Any
    ) -> mappings_pb2.ListMappingsResponse:
        found = self.users.get(request.connection, [])[: request.page_size]
        listed = [mappings_pb2.Mapping(reference=reference) for reference in found]
        return mappings_pb2.ListMappingsResponse(mappings=listed)


@dataclass
class Jobs(jobs_pb2_grpc.JobServiceServicer):
    """Jobs that use a connection, by its name."""

    users: dict[str, list[str]] = field(default_factory=dict)

    def ListJobs(self, request: jobs_pb2.ListJobsRequest, context: Any) -> jobs_pb2.ListJobsResponse:
        found = self.users.get(request.connection, [])[: request.page_size]
        return jobs_pb2.ListJobsResponse(jobs=[jobs_pb2.Job(reference=reference) for reference in found])
