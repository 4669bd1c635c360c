"""For tests, yours and ours: a simulated `World`. See ``docs/testing.md``."""

from .network import Client
from .world import SimulatedReactor, SimulatedThreads, simulated_world

__all__ = ["Client", "SimulatedReactor", "SimulatedThreads", "simulated_world"]
