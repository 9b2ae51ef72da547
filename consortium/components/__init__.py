"""What one institution's stack is made of."""

from consortium.components.institution import Institution

__all__ = ["Institution"]
