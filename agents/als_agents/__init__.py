"""The agents' side of ALS: what a program needs to be licensed. Everything is loaded when it is first used."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from als_agents.component import InvalidLicense, LicensedComponent
    from als_agents.deployment import DeploymentServer

__all__ = ["DeploymentServer", "InvalidLicense", "LicensedComponent"]

_MODULES = {
    "DeploymentServer": "als_agents.deployment",
    "InvalidLicense": "als_agents.component",
    "LicensedComponent": "als_agents.component",
}


def __getattr__(name: str) -> Any:
    """Load a public name's module."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *__all__})
