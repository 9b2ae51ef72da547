"""The SDK's server for dynamic resources, with a way out when the engine is killed."""
