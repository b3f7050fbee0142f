"""Commands against a server: what they print, and how they end."""

import json
import signal
import stat
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app, main
from kernel.errors import FieldInvalidError, PermissionMissingError
from portolan.jobs.v1.runs_pb2 import Run
from tests.cli.fakes import Auth, Runs, serving


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of the user's own, and a terminal of 80 columns."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr("cli.show.out._width", 80)
    monkeypatch.setattr("cli.show.notes._width", 80)
    return tmp_path


def portolan(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
    result = CliRunner().invoke(app, arguments, input=stdin)
    return result.exit_code, result.stdout, result.stderr


def sign_in(server: str) -> None:
    assert portolan("login", "ada", "--password-stdin", "--server", server, stdin="right\n")[0] == 0


def test_signing_in_keeps_the_tokens_for_their_owner_alone(home: Path) -> None:
    with serving(Auth()) as server:
        sign_in(server)
        code, out, _err = portolan("whoami", "--server", server)
    assert code == 0
    assert "ada <ada@example.org>" in out
    assert stat.S_IMODE((home / "portolan" / "tokens.json").stat().st_mode) == 0o600


def test_a_wrong_password_is_told_and_ends_with_3() -> None:
    with serving(Auth()) as server:
        code, out, err = portolan("login", "ada", "--password-stdin", "--server", server, stdin="wrong\n")
    assert (code, out) == (3, "")
    assert err == "✗ User name or password is wrong. (CREDENTIALS_REFUSED)\n"


def test_a_call_without_sign_in_ends_with_3_and_says_what_to_do() -> None:
    with serving(Auth()) as server:
        code, _out, err = portolan("whoami", "--server", server)
    assert code == 3
    assert "Sign in with `portolan login`" in err


def test_an_expired_token_is_renewed_once_and_kept() -> None:
    auth = Auth(seconds=10)  # which is less than a token must have left
    with serving(auth) as server:
        sign_in(server)
        assert auth.refreshed == 1  # by the call that shows who signed in
        auth.seconds = 300
        assert portolan("whoami", "--server", server)[0] == 0
        assert portolan("whoami", "--server", server)[0] == 0
    assert auth.refreshed == 2


def test_signing_out_of_an_ended_session_forgets_its_tokens() -> None:
    with serving(Auth()) as server:
        sign_in(server)
        assert portolan("logout", "--server", server)[0] == 0
        assert portolan("whoami", "--server", server)[0] == 3


def test_two_servers_have_their_own_sessions() -> None:
    with serving(Auth()) as one, serving(Auth()) as other:
        sign_in(one)
        assert portolan("whoami", "--server", other)[0] == 3
        sign_in(other)
        assert portolan("whoami", "--server", one)[0] == 0


def test_a_server_that_is_not_there_ends_with_4() -> None:
    code, _out, err = portolan("whoami", "--server", "http://127.0.0.1:9")
    assert code == 4
    assert "Portolan cannot be reached at http://127.0.0.1:9." in err


def test_an_address_that_is_none_ends_with_2() -> None:
    code, _out, err = portolan("whoami", "--server", "localhost")
    assert code == 2
    assert "'localhost' is no address" in err


def test_a_refusal_names_the_fields_at_fault_and_its_reason() -> None:
    auth = Auth()
    with serving(auth) as server:
        sign_in(server)
        auth.refusal = FieldInvalidError("2 fields are wrong", fields={"name": "is empty", "port": "is -1"})
        code, _out, err = portolan("whoami", "--server", server)
        coded, _out, document = portolan("whoami", "--json", "--server", server)
    assert (code, coded) == (1, 1)
    assert err.splitlines() == ["✗ 2 fields are wrong. (FIELD_INVALID)", "  name: is empty", "  port: is -1"]
    assert json.loads(document) == {
        "error": {
            "reason": "FIELD_INVALID",
            "message": "2 fields are wrong.",
            "fields": {"name": "is empty", "port": "is -1"},
        }
    }


def test_a_missing_permission_ends_with_1() -> None:
    auth = Auth()
    with serving(auth) as server:
        sign_in(server)
        auth.refusal = PermissionMissingError("your roles do not grant it", permission="jobs.run")
        code, _out, err = portolan("whoami", "--server", server)
    assert code == 1
    assert "(PERMISSION_MISSING)" in err


def test_json_is_one_document_with_the_names_of_the_contract() -> None:
    with serving(Auth()) as server:
        sign_in(server)
        _code, out, _err = portolan("whoami", "--json", "--server", server)
    assert json.loads(out)["user_name"] == "ada"


def test_a_log_that_breaks_is_followed_to_its_end_with_each_line_once() -> None:
    runs = Runs(lines=7, state=Run.STATE_SUCCEEDED)
    with serving(runs) as server:
        code, out, _err = portolan("run", "log", "r-1", "--follow", "--server", server)
    assert code == 0
    assert runs.streams == 4
    assert [line.split()[-1] for line in out.splitlines() if " line " in line] == list("1234567")
    assert "SUCCEEDED DIM_A: 3 read, 2 inserted, 1 rejected" in out
    assert "portolan run rejected r-1" in out


def test_ctrl_c_leaves_a_followed_run_running_and_says_how_to_stop_it() -> None:
    with serving(Runs(lines=1, state=Run.STATE_UNSPECIFIED)) as server:
        heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
        code = f"{heard}; from cli.main import main; main()"
        arguments = ["run", "log", "r-1", "--follow", "--server", server]
        with subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            first = process.stdout.readline()
            process.send_signal(signal.SIGINT)
            told = process.stdout.read()
    assert "line 1" in first
    assert "stop it with `portolan run stop r-1`" in told
    assert process.returncode == 130


@pytest.mark.parametrize("state", [Run.STATE_FAILED, Run.STATE_STOPPED])
def test_following_a_run_that_does_not_succeed_ends_with_5(state: Run.State.ValueType) -> None:
    with serving(Runs(lines=1, state=state)) as server:
        assert portolan("run", "log", "r-1", "--follow", "--server", server)[0] == 5


def test_following_with_json_leaves_the_run_as_the_one_document() -> None:
    with serving(Runs(lines=3, state=Run.STATE_SUCCEEDED)) as server:
        _code, out, err = portolan("run", "log", "r-1", "--follow", "--json", "--server", server)
    assert json.loads(out)["state"] == "STATE_SUCCEEDED"
    assert err.count("line") == 3


def test_lists_go_over_as_many_pages_as_are_asked_for() -> None:
    with serving(Runs(lines=0, state=Run.STATE_RUNNING)) as server:
        _code, out, _err = portolan("run", "list", "--limit", "450", "--json", "--server", server)
    assert [run["id"] for run in json.loads(out)["runs"]] == [f"run-{number}" for number in range(450)]


def test_a_wrong_state_lists_the_right_ones_and_ends_with_2() -> None:
    code, _out, err = portolan("run", "list", "--state", "ASLEEP")
    assert code == 2
    assert "SUCCEEDED" in err


def test_a_parameter_without_a_value_ends_with_2() -> None:
    assert portolan("job", "run", "DIM_A", "--param", "day")[0] == 2


@pytest.mark.parametrize(
    "kinds", [[], ["--sqlite", "a.db", "--files", "b"], ["--postgresql", "postgresql://u:secret@h/d"]]
)
def test_a_connection_is_of_one_kind_and_its_password_no_argument(kinds: list[str]) -> None:
    assert portolan("connection", "add", "a", *kinds)[0] == 2


def test_a_fault_of_its_own_is_a_sentence_and_a_file(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_arguments: object) -> None:
        raise RuntimeError("what nobody thought of")

    monkeypatch.setattr("cli.session.Client", broken)
    monkeypatch.setattr("sys.argv", ["portolan", "whoami"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 70
    assert "Traceback" not in "".join(capsys.readouterr())
    assert "what nobody thought of" in (home / "portolan" / "fault.txt").read_text()


def test_it_tells_its_version() -> None:
    assert portolan("--version") == (0, f"portolan {metadata.version('portolan')}\n", "")
