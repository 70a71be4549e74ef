"""compose.yaml against the compose schema, and against the Dockerfile and the programs it names."""

import importlib.metadata
import json
import re
import subprocess

import jsonschema
import pytest
import yaml

from conftest import BIN, ROOT

COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
TARGETS = set(re.findall(r"^FROM \S+ AS (\S+)", DOCKERFILE, re.MULTILINE))


def schema():
    """The compose specification's schema, as the docker-compose package carries it."""
    for file in importlib.metadata.files("docker-compose"):
        if file.name == "compose_spec.json":
            return json.loads(file.read_text())
    raise AssertionError("docker-compose carries no schema")


def test_compose_file_follows_the_schema():
    jsonschema.Draft201909Validator(schema()).validate(COMPOSE)


def test_the_schema_check_can_fail():
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft201909Validator(schema()).validate({**COMPOSE, "services": {"x": {"imag": "typo"}}})


def test_every_service_is_built_or_shares_an_image():
    built = {row["image"]: row["build"]["target"] for row in COMPOSE["services"].values() if "build" in row}
    for name, row in COMPOSE["services"].items():
        assert row["image"] in built, name
        assert built[row["image"]] in TARGETS, name


def test_long_lived_services_have_health_checks_and_restart():
    for name, row in COMPOSE["services"].items():
        if row["restart"] == "no":
            continue
        assert row["healthcheck"]["test"][0] == "CMD" and row["stop_grace_period"], name


def test_volumes_are_declared_and_used():
    used = {volume.split(":")[0] for row in COMPOSE["services"].values() for volume in row.get("volumes", [])}
    assert used == set(COMPOSE["volumes"])


def test_only_loopback_is_published():
    for name, row in COMPOSE["services"].items():
        for port in row.get("ports", []):
            assert port.startswith("127.0.0.1:"), name


@pytest.mark.parametrize("name", [n for n, row in COMPOSE["services"].items() if "command" in row])
def test_commands_are_understood_by_the_programs(name):
    """Every command line passes the `config check` of the program that gets it."""
    target = COMPOSE["services"][name]["build"]["target"]
    command = [str(BIN / target), "config", "check", *COMPOSE["services"][name]["command"]]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr


def test_the_image_installs_what_the_setup_script_installs():
    setup = (ROOT / "scripts" / "setup").read_text()
    wanted = set(re.findall(r"lib[a-z0-9.-]+-dev", setup))
    assert wanted and wanted <= set(re.findall(r"lib[a-z0-9.-]+-dev", DOCKERFILE))
