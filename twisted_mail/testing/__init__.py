"""For tests, yours and ours: a server to talk to, and a simulated `World`. See ``docs/testing.md``."""

from .client import Client
from .process import ServerProcess, running_server
from .server import MailServer
from .world import SimulatedReactor, SimulatedThreads, SimulatedWorld, simulated_world

__all__ = [
    "Client",
    "MailServer",
    "ServerProcess",
    "SimulatedReactor",
    "SimulatedThreads",
    "SimulatedWorld",
    "running_server",
    "simulated_world",
]
