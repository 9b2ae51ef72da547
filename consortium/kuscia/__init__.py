"""Kuscia mode: what stands at a party in place of Ray, coordinator and gateway. Not wired to `mode: kuscia` yet."""
