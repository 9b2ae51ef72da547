"""The certificate authorities of the public, for a client that may be pointed at an address outside."""

from __future__ import annotations

import functools
import ssl

import httpx


@functools.cache
def authorities() -> ssl.SSLContext:
    """Read once: reading takes tens of milliseconds, and each client would read them anew."""
    return httpx.create_ssl_context(trust_env=False)
