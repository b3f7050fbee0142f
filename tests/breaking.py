"""`python -m tests.breaking`: whether clients of main's last commit get along with the protos here."""

import io
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from protos import generate

ROOT = generate.PROTOS.parent
BRANCH = "main"
NOW = generate.GEN / "portolan.binpb"


def main() -> None:
    """Says what it found, and ends with 1 when something breaks."""
    before = protos_of(BRANCH)
    if before is None:
        verdict = f"none, for {BRANCH} has no protos yet"
    elif before == protos_here():
        verdict = f"none, for the protos are those of {BRANCH}"
    elif found := breaks(before):
        sys.exit(f"breaking changes against {BRANCH}:\n{found}")
    else:
        verdict = f"none against {BRANCH}"
    sys.stdout.write(f"breaking changes: {verdict}\n")


def protos_of(commit: str) -> dict[str, bytes] | None:
    """The protos of a commit by their paths below `protos`; None without such a commit, or protos in it."""
    archived = subprocess.run(
        ["git", "archive", commit, "protos"],  # noqa: S607 - whichever git this tree was cloned with
        cwd=ROOT,
        check=False,
        capture_output=True,
    )
    if archived.returncode:
        return None
    with tarfile.open(fileobj=io.BytesIO(archived.stdout)) as tar:
        return {
            member.name.removeprefix("protos/"): file.read()
            for member in tar
            if member.name.endswith(".proto") and (file := tar.extractfile(member))
        } or None


def protos_here() -> dict[str, bytes]:
    """The protos of the working tree by their paths below `protos`."""
    return {
        path.relative_to(generate.PROTOS).as_posix(): path.read_bytes()
        for path in generate.PROTOS.rglob("*.proto")
    }


def breaks(before: dict[str, bytes]) -> str:
    """What buf says against the generated descriptor set, compared with what the protos were before."""
    with tempfile.TemporaryDirectory() as folder:
        compared = subprocess.run(
            [
                *(str(Path(sys.executable).with_name("buf")), "breaking", str(NOW)),
                *("--against", str(_descriptor_set(before, Path(folder)))),
                *("--config", "buf.yaml", "--path", "portolan"),
            ],
            cwd=ROOT,
            check=False,
            capture_output=True,
            text=True,
        )
    said = compared.stdout + compared.stderr
    return said or f"buf ended with {compared.returncode}" if compared.returncode else ""


def _descriptor_set(protos: dict[str, bytes], folder: Path) -> Path:
    """A file in a folder with the descriptor set of some protos."""
    for name, content in protos.items():
        path = folder / "protos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    imports, made = folder / "imports.binpb", folder / "protos.binpb"
    imports.write_bytes(generate.imported_descriptors())
    generate.run(
        f"--descriptor_set_in={imports}",
        f"-I{folder / 'protos'}",
        f"--descriptor_set_out={made}",
        "--include_imports",
        "--include_source_info",
        *protos,
    )
    return made


if __name__ == "__main__":
    main()
