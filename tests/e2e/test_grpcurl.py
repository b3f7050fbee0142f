"""What operators do with the real grpcurl."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from tests.running import Running

GRPCURL = shutil.which("grpcurl", path=str(Path(sys.executable).parent)) or "grpcurl"


def grpcurl(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [GRPCURL, "-plaintext", *arguments], capture_output=True, text=True, timeout=20, check=False
    )


def test_every_service_describes_itself(suite: Running) -> None:
    for name, address in suite.suite.addresses().items():
        listed = grpcurl(address, "list")
        assert f"portolan.{name}.v1." in listed.stdout, listed.stderr
        assert "grpc.health.v1.Health" in listed.stdout


def test_a_service_is_described_with_its_options(suite: Running) -> None:
    address = suite.suite.addresses()["jobs"]
    described = grpcurl(address, "describe", "portolan.jobs.v1.JobService")
    assert "/api/v1/jobs/{reference}:run" in described.stdout, described.stderr


def test_health_is_open(suite: Running) -> None:
    for address in suite.suite.addresses().values():
        assert json.loads(grpcurl(address, "grpc.health.v1.Health/Check").stdout) == {"status": "SERVING"}


def test_a_call_with_a_token_is_answered(suite: Running) -> None:
    token = f"authorization: Bearer {suite.token}"
    answer = grpcurl("-H", token, suite.suite.addresses()["auth"], "portolan.auth.v1.AuthService/GetMe")
    assert json.loads(answer.stdout)["user_name"] == "ada", answer.stdout


def test_a_refusal_shows_its_reason(suite: Running) -> None:
    answer = grpcurl(suite.suite.addresses()["jobs"], "portolan.jobs.v1.JobService/ListJobs")
    assert answer.returncode != 0
    assert "Unauthenticated" in answer.stderr
    assert "TOKEN_MISSING" in answer.stderr
