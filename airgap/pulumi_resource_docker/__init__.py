"""A docker provider on docker-py that serves the resources of the official pulumi_docker SDK."""

VERSION = "5.2.0"
