"""How a program of ours ends: whatever stops a command is one line on stderr and the exit code that goes with it."""

import sys
from collections.abc import Sequence

import typer

from als import streams
from als_agents.errors import ClientError
from als_tools import formats
from als_tools.failures import Exit, Failure
from als_tools.output import ClosedPipe, say

_OF_RICH = 1  # how rich's own console ends a program whose reader has gone, as while it prints help


def run(application: typer.Typer, words: Sequence[str], program: str) -> int:
    """Run the command that `words` name and give the program's exit code."""
    try:
        code = application(args=list(words), prog_name=program, standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else Exit.DONE
    except Failure as error:
        say(f"{program}: {formats.clean(str(error))}")
        return error.code
    except ClientError as error:
        say(f"{program}: {formats.clean(str(error))}")
        return error.exit_code
    except typer.TyperException as error:
        say(f"{program}: {formats.clean(_sentence(error))}")
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return Exit.INTERRUPTED
    except (ClosedPipe, BrokenPipeError):
        streams.let_go()  # whoever read our output has seen enough: that is no failure
        return Exit.DONE
    except SystemExit as end:
        if end.code != _OF_RICH:
            raise
        return Exit.DONE


def _sentence(error: typer.TyperException) -> str:
    """Say what is wrong with the words that were typed, and where to read how they should be."""
    context = getattr(error, "ctx", None)
    hint = f"; see {context.command_path} --help" if context is not None else ""
    return " ".join(error.format_message().rstrip(".").split()) + _variable(error) + hint


def _variable(error: typer.TyperException) -> str:
    """Name the environment variable that a wrong value came from: whoever typed no such option looks for it in vain."""
    context, option = getattr(error, "ctx", None), getattr(error, "param", None)
    if context is None or option is None or context.auto_envvar_prefix is None:
        return ""
    source = context.get_parameter_source(option.name)
    if source is None or source.name != "ENVIRONMENT" or option.envvar:  # a variable of its own is named already
        return ""
    return f" (from {context.auto_envvar_prefix}_{option.name.upper()})"
