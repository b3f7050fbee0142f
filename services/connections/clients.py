"""The calls that this service makes to others, as the caller that is being served."""

import grpc

from kernel import clients
from portolan.jobs.v1 import jobs_pb2 as jobs
from portolan.jobs.v1.jobs_pb2_grpc import JobServiceStub
from portolan.mapper.v1 import mappings_pb2 as mappings
from portolan.mapper.v1.mappings_pb2_grpc import MappingServiceStub


class Clients:
    """The mapper and jobs services, as this service uses them; blocking, from any thread."""

    def __init__(self, mapping_service: grpc.Channel, job_service: grpc.Channel) -> None:
        self._mappings = MappingServiceStub(mapping_service)
        self._jobs = JobServiceStub(job_service)

    def mappings(self, connection: str, limit: int) -> list[str]:
        """The references of the first mappings that read or load a connection."""
        request = mappings.ListMappingsRequest(connection=connection, page_size=limit)
        found = clients.call(self._mappings.ListMappings, request).mappings
        return [mapping.reference for mapping in found]

    def jobs(self, connection: str, limit: int) -> list[str]:
        """The references of the first jobs that read or load a connection."""
        request = jobs.ListJobsRequest(connection=connection, page_size=limit)
        return [job.reference for job in clients.call(self._jobs.ListJobs, request).jobs]
