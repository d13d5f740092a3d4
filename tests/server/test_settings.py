"""What a server is told when it starts, and what it refuses to start with."""

from __future__ import annotations

from pathlib import Path

import pytest

from scalecrafter.request.request import Request, RequestError
from scalecrafter.server.settings import (
    LimitError,
    Limits,
    ServerSettings,
    check_exposure,
    name_models,
    read_keys,
)

KEY, OTHER = "k" * 32, "o" * 32


def test_models_are_called_what_they_are_or_what_they_are_given(tmp_path: Path) -> None:
    folder = tmp_path / "fox-v2"
    folder.mkdir()
    named = name_models(["critters", str(folder), "big=owner/model", "owner/other"])
    assert named == {"critters": "critters", "fox-v2": str(folder), "big": "owner/model", "owner/other": "owner/other"}


@pytest.mark.parametrize(
    ("given", "message"), [(["critters", "critters"], "two models"), (["=x"], "NAME=MODEL"), (["x="], "NAME=MODEL")]
)
def test_models_that_could_be_mixed_up_are_refused(given: list[str], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        name_models(given)


def test_keys_come_from_file_and_environment(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"# ours\n{KEY}\n\n")
    keys = read_keys(tmp_path / "keys", {"SCALECRAFTER_API_KEYS": f"{OTHER}, "})
    assert [key.get_secret_value() for key in keys] == [OTHER, KEY]


@pytest.mark.parametrize(("text", "message"), [("short", "shorter than 16"), ("# none\n", "holds no API key")])
def test_key_files_that_would_protect_nothing_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "keys").write_text(text)
    with pytest.raises(RequestError, match=message):
        read_keys(tmp_path / "keys", {})


def test_keys_are_in_nothing_that_is_printed_or_handed_to_a_worker() -> None:
    settings = ServerSettings(data=Path("x"), models={"a": "a"}, keys=read_keys(None, {"SCALECRAFTER_API_KEYS": KEY}))
    assert len(settings.keys) == 1
    assert KEY not in repr(settings) + settings.model_dump_json()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_listening_to_the_network_without_keys_has_to_be_asked_for(host: str) -> None:
    with pytest.raises(RequestError, match="--allow-anyone"):
        check_exposure(host, (), anyone=False)
    check_exposure(host, (), anyone=True)
    check_exposure(host, (KEY,), anyone=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.5.0.1"])
def test_listening_to_this_machine_needs_no_keys(host: str) -> None:
    check_exposure(host, (), anyone=False)


@pytest.mark.parametrize(
    ("changes", "pictures", "message"),
    [
        ({"steps": 11}, 1, "steps is 11: this server runs at most 10"),
        ({}, 4, "n is 4: this server makes 1 to 3"),
        ({}, 0, "n is 0"),
        ({"prompt": "x" * 21}, 1, "prompt has 21 characters"),
        ({"negative": "x" * 21}, 1, "negative has 21 characters"),
        ({"width": 128, "height": 136}, 1, "128x136 is 17,408 pixels: this server makes at most 16,384"),
    ],
)
def test_limits_say_what_was_asked_and_what_there_is(changes: dict[str, object], pictures: int, message: str) -> None:
    limits = Limits(pixels=128 * 128, steps=10, pictures=3, prompt=20)
    request = Request(prompt="a fox", steps=10, width=128, height=128)
    limits.check(request, 3)
    with pytest.raises(LimitError, match=message):
        limits.check(request.changed(**changes), pictures)
