"""`vpp demo`: one day of a real fleet, from the utility's message to the owner's cent, over real wires.

Called by the command line only. Everything it starts is the product itself in processes of its own;
what it adds is a world to act in (`vpp.simulation`) and the score at the end.
"""

from vpp.demo.outcome import Outcome
from vpp.demo.play import Demo, play
from vpp.demo.script import DemoScript

__all__ = ["Demo", "DemoScript", "Outcome", "play"]
