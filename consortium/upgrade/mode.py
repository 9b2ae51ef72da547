"""How the Pulumi program is told what an `up` is for."""

from __future__ import annotations

MODE = "CONSORTIUM_UPGRADE"
"""A variable of its environment. Not set: an ordinary `up`, which changes no version that was agreed."""
RUN, BACK, ANYHOW = "run", "back", "now"
"""Go over; put back what was there before; go over whatever was agreed."""
