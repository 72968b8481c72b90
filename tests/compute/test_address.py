"""Addresses of processes: what was written is read back, and nothing else is an address."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivetrain.compute.address import Address
from drivetrain.errors import Invalid

hosts = st.from_regex(r"[a-z][a-z0-9-]{0,20}(\.[a-z][a-z0-9]{0,5}){0,2}", fullmatch=True) | st.ip_addresses().map(str)
paths = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=1).map(lambda text: Path("/") / text.lstrip("/"))


@given(st.builds(Address.unix, paths) | st.builds(lambda host, port: Address("", host, port), hosts, st.integers(1, 65535)))
def test_what_is_written_is_read_back(address: Address) -> None:
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    "text", ["", "/tmp/x.sock", "unix:x.sock", "http://", "http://host", "http://host:x", "https://host:1", "http://h:1/a"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="no address"):
        Address.parse(text)
