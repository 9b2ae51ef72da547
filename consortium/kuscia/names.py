"""What the secrets of a Kuscia node are called in the stack's settings, without `consortium:`."""

KEY = "kusciaKey"
"""The node's RSA key, which is its CA too."""
CLIENT_KEY = "kusciaClientKey"
"""With which the coordinator speaks to the node's KusciaAPI."""
CLIENT_CERTIFICATE = "kusciaClientCertificate"
"""That goes with it; public."""
DATABASE_PASSWORD = "kusciaDatabasePassword"  # noqa: S105 a name
"""Of the node's database; only where it is not SQLite."""
REGISTRY_PASSWORD = "kusciaRegistryPassword"  # noqa: S105 a name
"""Of the registry of images; only where it asks for one."""


def node_name(party: str) -> str:
    """The node's host name: on the engine's network and among a cluster's services."""
    return f"{party}-kuscia"


def database_name(party: str) -> str:
    """The host name of its database's container."""
    return f"{node_name(party)}-db"


SECRETS = (KEY, CLIENT_KEY, DATABASE_PASSWORD, REGISTRY_PASSWORD)
