"""Stand-ins for the Pulumi toolchain on machines that cannot download the official one.

Nothing here is imported by the infrastructure program: where the official CLI, Python language
host and docker plugin are installed, this package is not used. See ``docs/airgap.md``.
"""
