"""A Python language host on the SDK's own stubs: runs the program and tells the engine about it."""
