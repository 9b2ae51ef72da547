"""Makes a per-user copy of the Pulumi CLI and of the plugins' wrappers; standard library only."""
