"""Going over to other versions: agreed by all, in a window, with the queue held, and taken back if it does not work."""
