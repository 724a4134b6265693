"""The first step of `als`, `LicenseServerCmdLine` and `als-vendor`: says so when their libraries are not installed."""

from als import streams
from als.extras import needing
from als_tools.failures import Exit


def als() -> None:
    """Run `als`."""
    with streams.told("als"):
        with needing("als", "tools", Exit.WRONG_USAGE):
            from als_tools.main import main
        main()


def manual() -> None:
    """Run `LicenseServerCmdLine`, the same under the manual's name."""
    with streams.told("LicenseServerCmdLine"):
        with needing("LicenseServerCmdLine", "tools", Exit.WRONG_USAGE):
            from als_tools.main import manual_main
        manual_main()


def vendor() -> None:
    """Run `als-vendor`."""
    with streams.told("als-vendor"):
        with needing("als-vendor", "tools", Exit.WRONG_USAGE):
            from als_tools.vendor import main
        main()
