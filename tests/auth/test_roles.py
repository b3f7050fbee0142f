"""The built-in roles."""

import pytest

from kernel import contract
from portolan.auth.v1 import auth_pb2 as pb
from tests.auth.running import Running
from tests.servers import bearer, refusal


async def test_roles_grant_by_verb_and_each_more_than_the_one_before(auth: Running) -> None:
    metadata = bearer((await auth.bootstrap()).access_token)
    response = await auth.stub.ListRoles(pb.ListRolesRequest(), metadata=metadata)
    granted = {role.name: set(role.permissions) for role in response.roles}
    assert list(granted) == ["viewer", "operator", "developer", "admin"]
    assert granted["viewer"] < granted["operator"] < granted["developer"] < granted["admin"]
    assert granted["admin"] == set(contract.permissions())
    assert {name.rpartition(".")[2] for name in granted["viewer"]} == {"read"}
    assert all(list(role.permissions) == sorted(role.permissions) for role in response.roles)
    assert all(role.description for role in response.roles)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 1000])
async def test_roles_come_in_pages(auth: Running, size: int) -> None:
    metadata = bearer((await auth.bootstrap()).access_token)
    names, token, calls = [], "", 0
    while calls == 0 or token:
        request = pb.ListRolesRequest(page_size=size, page_token=token)
        page = await auth.stub.ListRoles(request, metadata=metadata)
        names += [role.name for role in page.roles]
        token, calls = page.next_page_token, calls + 1
    assert names == ["viewer", "operator", "developer", "admin"]
    assert calls == -(-4 // size)


async def test_a_foreign_page_token_is_refused(auth: Running) -> None:
    metadata = bearer((await auth.bootstrap()).access_token)
    call = auth.stub.ListRoles(pb.ListRolesRequest(page_token="Zm9v"), metadata=metadata)
    assert (await refusal(call)).reason == "PAGE_TOKEN_INVALID"
