"""What breaks clients is found before they find it."""

from tests import breaking

JOBS = "portolan/jobs/v1/jobs.proto"


def test_the_same_protos_break_nothing() -> None:
    assert breaking.breaks(breaking.protos_here()) == ""


def test_a_field_that_is_gone_breaks() -> None:
    before = breaking.protos_here()
    message = b"message GetJobRequest {\n"
    assert message in before[JOBS]
    before[JOBS] = before[JOBS].replace(message, message + b"  string gone = 99;\n")
    assert 'field "99" with name "gone" on message "GetJobRequest" was deleted' in breaking.breaks(before)


def test_a_method_that_is_gone_breaks() -> None:
    before = breaking.protos_here()
    service = b"service JobService {\n"
    assert service in before[JOBS]
    gone = b"  rpc Gone(GetJobRequest) returns (Job);\n"
    before[JOBS] = before[JOBS].replace(service, service + gone)
    assert "Gone" in breaking.breaks(before)


def test_a_commit_without_protos_is_told() -> None:
    assert breaking.protos_of("no-such-branch") is None
