"""`als-agent exec`: runs a program only while it is licensed, and passes its exit code on."""

import argparse
import os
import queue
import signal
import subprocess
import threading

from als import clock
from als_agents import flags
from als_agents.commands import complain
from als_agents.component import InvalidLicense, LicensedComponent
from als_agents.errors import ClientError

EXIT_NOT_LICENSED = 125  # as `timeout` and `nice` say that they themselves failed
EXIT_CANNOT_RUN = 126
EXIT_NOT_FOUND = 127
EXIT_SIGNAL_BASE = 128
ON_LOST = ("term", "kill", "warn")
GRACE_S_DEFAULT = 10.0
PASSED_ON = [
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)
]


def execute(arguments: argparse.Namespace) -> int:
    """Take a license, run the program, and end as it does."""
    program = arguments.program[1:] if arguments.program[:1] == ["--"] else arguments.program
    if not program:
        raise flags.BadSettings("name the program to run behind --")
    lost: queue.SimpleQueue[InvalidLicense | None] = queue.SimpleQueue()
    try:
        license = LicensedComponent(
            arguments.product,
            arguments.component,
            version=arguments.version_of_product,
            server=arguments.server,
            server_key=arguments.server_key,
            client_dir=arguments.client_dir,
            computer=flags.given_computer(arguments),
            on_lost=lost.put,
            release_on_close=arguments.release_at_end,
        )
        license.open()
    except InvalidLicense as error:
        complain(str(error))
        return EXIT_NOT_LICENSED
    except ClientError as error:
        complain(f"invalid license: {error}")
        return EXIT_NOT_LICENSED
    try:
        return _run(program, arguments, lost)
    finally:
        license.close()


def _run(program: list[str], arguments: argparse.Namespace, lost: "queue.SimpleQueue[InvalidLicense | None]") -> int:
    """Start the program, hand signals on, and deal with a lost license while it runs."""
    try:
        process = subprocess.Popen(program)
    except FileNotFoundError:
        complain(f"als-agent: {program[0]}: not found")
        return EXIT_NOT_FOUND
    except OSError as error:
        complain(f"als-agent: {program[0]}: {error.strerror}")
        return EXIT_CANNOT_RUN
    handlers = {number: signal.signal(number, lambda got, _: process.send_signal(got)) for number in PASSED_ON}
    watcher = threading.Thread(target=_watch, args=(process, arguments, lost), daemon=True)
    watcher.start()
    try:
        code = process.wait()
    finally:
        lost.put(None)
        watcher.join()
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return EXIT_SIGNAL_BASE - code if code < 0 else code


def _watch(
    process: "subprocess.Popen[bytes]",
    arguments: argparse.Namespace,
    lost: "queue.SimpleQueue[InvalidLicense | None]",
) -> None:
    """Wait for the license to be lost; do then what was chosen."""
    while (error := lost.get()) is not None:
        complain(str(error))
        if arguments.on_lost == "warn":
            continue
        if arguments.on_lost == "term":
            process.terminate()
            end = clock.monotonic_s() + arguments.grace
            while process.returncode is None and clock.monotonic_s() < end:
                try:
                    if lost.get(timeout=0.1) is None:
                        return
                except queue.Empty:
                    continue
        process.kill()


def environment_note() -> str:
    """Say which variables every command heeds, for the help's end."""
    return (
        "environment: ALS_SERVER, ALS_SERVER_KEY, ALS_IDENTITY, ALS_CLIENT_DIR, ALS_MACS (addresses with commas, in "
        f"place of the adapters'), ALS_HOST{os.linesep}exit codes: 0 done, 1 refused, 2 wrong usage, 3 no server "
        "answers, 4 the server's key changed"
    )
