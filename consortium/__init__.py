"""Several institutions stand up SecretFlow together, each with its own `pulumi up`."""
