"""The native client: speaks HTTP with a server, and nothing else.

from drivetrain.client import Client

client = Client()                                # finds the server: see `find`
client.push("./model.gguf", name="mine")
client.deployments.deploy("mine", "mine", wait=True)
for piece in client.chat("mine", "Say hello."):
    print(piece, end="")
"""

from __future__ import annotations

from drivetrain.client.client import Client
from drivetrain.client.discovery import find
from drivetrain.client.http import Unreachable

__all__ = ["Client", "Unreachable", "find"]
