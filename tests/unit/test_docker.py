"""The compose file and the image: what must hold for them to work, read without Docker."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from lvmdb.scheduling import tries
from lvmdb.services.catalogue import GRACE, SERVICES

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    text = (ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


@pytest.fixture(scope="module")
def dockerfile() -> str:
    return (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")


def test_the_database_has_a_pgvector_that_is_new_enough(compose: dict[str, Any]) -> None:
    found = re.fullmatch(
        r"pgvector/pgvector:(\d+)\.(\d+)\.(\d+)-pg(\d+)", compose["services"]["db"]["image"]
    )
    assert found, "the image is not pinned to a version of pgvector and PostgreSQL"
    assert tuple(map(int, found.groups()[:3])) >= (0, 8, 4)
    assert int(found[4]) >= 16


def test_data_outlive_the_container(compose: dict[str, Any]) -> None:
    # PostgreSQL 18's image refuses a volume at /var/lib/postgresql/data.
    assert compose["services"]["db"]["volumes"] == ["db:/var/lib/postgresql"]
    assert set(compose["volumes"]) == {"db", "home"}


def test_the_server_is_tuned(compose: dict[str, Any]) -> None:
    db = compose["services"]["db"]
    program, *flags = db["command"]
    assert program == "postgres"
    assert set(flags[::2]) == {"-c"}
    settings = dict(flag.split("=", 1) for flag in flags[1::2])
    assert set(settings) == {"shared_buffers", "maintenance_work_mem", "max_wal_size", "jit"}
    assert settings["jit"] == "off"
    default = re.compile(r"\$\{\w+:-(\d+)(gb|GB)\}")
    memory, shared = (
        default.fullmatch(settings["maintenance_work_mem"]),
        default.fullmatch(db["shm_size"]),
    )
    assert memory
    assert shared
    assert int(shared[1]) >= int(memory[1]), "a parallel index build would run out of /dev/shm"


def test_the_password_is_required_and_only_ever_a_variable(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        environment = service["environment"]
        password = environment.get("POSTGRES_PASSWORD") or environment["PGPASSWORD"]
        assert password.startswith("${POSTGRES_PASSWORD:?")
        assert "PASSWORD" not in environment.get("LVMDB_DSN", "")


def test_the_server_is_reachable_from_this_machine_alone(compose: dict[str, Any]) -> None:
    ports = [port for s in compose["services"].values() for port in s.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize("name", ["lvmdb", "lvmdb-gpu"])
def test_lvmdb_waits_for_the_database_and_migrates(compose: dict[str, Any], name: str) -> None:
    service = compose["services"][name]
    assert compose["services"]["db"]["healthcheck"]["test"][1] == "pg_isready"
    assert service["depends_on"] == {"db": {"condition": "service_healthy"}}
    assert service["environment"]["LVMDB_DSN"] == "postgresql://lvmdb@db:5432/lvmdb"
    assert service["volumes"] == [f"home:{service['environment']['LVMDB_HOME']}"]
    assert service["command"] == ["migrate"]
    build = service["build"]
    assert (ROOT / "docker" / build["context"] / build["dockerfile"]).is_file()


def test_the_gpu_is_asked_for_in_its_profile_alone(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert [n for n, s in services.items() if "gpu" in s.get("profiles", [])] == ["lvmdb-gpu"]
    assert [n for n, s in services.items() if s.get("deploy")] == ["lvmdb-gpu"]
    (device,) = services["lvmdb-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}


def test_a_worker_may_end_in_peace(compose: dict[str, Any]) -> None:
    worker, lvmdb = compose["services"]["worker"], compose["services"]["lvmdb"]
    assert (worker["command"], worker["profiles"]) == (["worker"], ["worker"])
    assert worker["image"] == lvmdb["image"]
    assert worker["init"], "its processes would be left behind"
    # It waits for them so long before it kills them.
    assert int(worker["stop_grace_period"].removesuffix("m")) * 60 > tries.GRACE


def test_the_services_are_published_on_their_ports(compose: dict[str, Any]) -> None:
    service = compose["services"]["services"]
    assert service["command"][:4] == ["serve", "all", "--host", "0.0.0.0"]
    inside = {int(port.rpartition(":")[2]) for port in service["ports"]}
    assert inside == {known.port() for known in SERVICES.values()}
    # A variable that must be set would be asked of those who serve nothing, too.
    assert service["environment"]["LVMDB_TOKEN"] == "${LVMDB_TOKEN:-}"
    assert service["depends_on"]["lvmdb"]["condition"] == "service_completed_successfully"
    assert int(service["stop_grace_period"].removesuffix("s")) > GRACE
    assert service["init"]


def test_the_image_does_not_run_as_root(dockerfile: str) -> None:
    users = re.findall(r"^USER (\S+)$", dockerfile, re.MULTILINE)
    assert users == ["lvmdb"]
    assert dockerfile.index("USER lvmdb") < dockerfile.index("ENTRYPOINT")


def test_the_image_installs_the_constrained_torch_first(dockerfile: str) -> None:
    (pin,) = re.findall(
        r"^torch==\S+$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE
    )
    installs = re.findall(r"^RUN pip install (.*)$", dockerfile, re.MULTILINE)
    assert pin in installs[0]
    assert all("-c constraints.txt" in line for line in installs)


def test_all_that_is_copied_exists_and_is_not_ignored(dockerfile: str) -> None:
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    for line in re.findall(r"^COPY (?!--from)(.*)$", dockerfile, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in ignore
