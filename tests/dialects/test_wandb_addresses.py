"""Addresses that wandb's clients open without a key."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from drivetrain.config import Settings
from drivetrain.dialects.wandb.call import MOUNT, Call
from drivetrain.errors import Unauthenticated
from drivetrain.identity.service import SIGNATURE
from drivetrain.platform import Platform
from drivetrain.store.home import Home
from drivetrain.store.sql import Database


@pytest.mark.parametrize("seconds", [0, 3600])
def test_an_address_is_good_as_long_as_the_setting_says(database: Database, home: Home, seconds: int) -> None:
    platform = Platform(Settings(home=home.path, signed_url_seconds=seconds), home, database, nudge=lambda _: None)
    platform.identity.bootstrap()
    path = f"{MOUNT}/storage/run/r/x"
    address = urlsplit(Call(platform, "https://here").sign(platform.identity.local_context(), "PUT", path))
    assert (address.scheme, address.netloc, address.path) == ("https", "here", path)
    signature = parse_qs(address.query)[SIGNATURE][0]
    if seconds:
        assert platform.identity.context_of_url("PUT", path, signature).user_name == platform.identity.local_context().user_name
    else:
        with pytest.raises(Unauthenticated):
            platform.identity.context_of_url("PUT", path, signature)
