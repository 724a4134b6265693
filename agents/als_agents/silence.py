"""Why nobody answers: as the error that a search or a connection raises, and as the reason that a session carries."""

from als.protocol import Refusal
from als_agents.errors import ClientError, KeyChanged, NoAnswer, NotTrusted, Refused

BAD_SETTINGS = "bad_settings"  # in place of a server's code: what was given cannot work

_ERRORS: dict[str, type[ClientError]] = {
    "no_server": NoAnswer,
    "key_changed": KeyChanged,
    "not_trusted": NotTrusted,
    BAD_SETTINGS: ClientError,
}


def why_silent(error: ClientError | OSError) -> Refusal:
    """Say why there is no server to ask.

    A changed key is silence too: a stranger on the network must not be able to do more than unplug the cable.
    """
    if isinstance(error, KeyChanged):
        return Refusal("key_changed", str(error))
    if isinstance(error, NotTrusted):
        return Refusal("not_trusted", str(error))
    is_settings = isinstance(error, ClientError) and error.exit_code != NoAnswer.exit_code
    return Refusal(BAD_SETTINGS if is_settings else "no_server", str(error))


def error_of(why: Refusal) -> ClientError:
    """Make an error of a reason: what why_silent was given, as far as it told, or Refused for a server's own no."""
    kind = _ERRORS.get(why.code)
    return Refused(*why) if kind is None else kind(why.message)
