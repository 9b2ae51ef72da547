"""The one error of the installer."""


class InstallError(Exception):
    """Something that the reader can act on; shown without a traceback."""
