"""A hub out of reach: found out at once, and only then taken for offline."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from huggingface_hub import constants

from cogcalib import hub


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A port of this machine that is the hub's."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "_set_here", False)
    monkeypatch.setattr(hub, "_not_before", 0.0)
    monkeypatch.setattr(hub, "getproxies", dict)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        place = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", place)
        yield server


def test_the_client_looks_into_its_cache_while_the_hub_is_away(
    port: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "AGAIN", 0.0)
    hub.mind_the_network()  # nobody listens
    assert constants.HF_HUB_OFFLINE
    port.listen()
    hub.mind_the_network()
    assert not constants.HF_HUB_OFFLINE


def test_a_hub_that_is_away_is_not_asked_for_every_file(
    port: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(hub, "_answers", lambda: bool(asked.append(True)))
    for _ in range(5):
        hub.mind_the_network()
    assert (len(asked), constants.HF_HUB_OFFLINE) == (1, True)
    monkeypatch.setattr(hub, "_not_before", 0.0)
    hub.mind_the_network()
    assert len(asked) == 2


def test_what_a_user_set_stays_and_a_proxy_is_not_judged(
    port: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "getproxies", lambda: {"https": "http://proxy"})
    hub.mind_the_network()
    assert not constants.HF_HUB_OFFLINE
    monkeypatch.setattr(hub, "getproxies", dict)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    port.listen()
    hub.mind_the_network()
    assert constants.HF_HUB_OFFLINE
