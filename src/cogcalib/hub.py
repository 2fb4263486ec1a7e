"""The Hugging Face hub: whether it can be reached, before its client tries for a minute."""

from __future__ import annotations

import socket
import sys
from threading import Thread
from time import monotonic
from urllib.parse import urlsplit
from urllib.request import getproxies

from huggingface_hub import constants

PATIENCE = 5.0
"""Seconds that the hub has to answer."""

AGAIN = 60.0
"""Seconds after which a hub that did not answer is asked again: each file of a model asks."""

_set_here = False
_not_before = 0.0


def mind_the_network() -> None:
    """Let the hub's client look into its cache alone while the hub cannot be reached.

    Without a network it would try every file six times, half a minute each. Called before anything
    is fetched; behind a proxy nothing can be found out so simply, and nothing is done.
    """
    global _set_here, _not_before
    if (constants.HF_HUB_OFFLINE and not _set_here) or "https" in getproxies():
        return
    if _set_here and monotonic() < _not_before:
        return
    offline = not _answers()
    _not_before = monotonic() + AGAIN
    if offline == _set_here:
        return
    _set_here = offline
    constants.HF_HUB_OFFLINE = offline
    if "datasets" in sys.modules:
        sys.modules["datasets"].config.HF_HUB_OFFLINE = offline


def _answers() -> bool:
    place = urlsplit(constants.ENDPOINT)
    found: list[bool] = []

    def connect() -> None:
        port = place.port or (80 if place.scheme == "http" else 443)
        try:
            with socket.create_connection((place.hostname or "", port), timeout=PATIENCE):
                found.append(True)
        except OSError:
            pass

    # A name that cannot be looked up may take longer than any timeout of a socket.
    asked = Thread(target=connect, daemon=True)
    asked.start()
    asked.join(PATIENCE)
    return bool(found)
