"""A consortium goes from one mode to the other: the same documents, data sources, policy and audit log; other nodes."""
