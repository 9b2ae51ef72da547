"""`consortium doctor`: looks from this party outward, and names the first thing that is wrong."""
