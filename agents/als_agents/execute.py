"""`als-agent exec`: runs a program only while it is licensed, and ends as the program does."""

import argparse
import logging
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from als_agents import flags
from als_agents.commands import complain
from als_agents.component import InvalidLicense, LicensedComponent
from als_agents.license_log import LOGGER_NAME

EXIT_NOT_LICENSED = 125  # as `timeout` and `nice` say that they themselves failed
EXIT_CANNOT_RUN = 126
EXIT_NOT_FOUND = 127
EXIT_SIGNAL_BASE = 128

_PASSED_ON = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGCONT", "SIGWINCH")
_FROM_TERMINAL = ("SIGINT", "SIGQUIT", "SIGWINCH")  # these a terminal sends to the program itself


def execute(settings: argparse.Namespace) -> int:
    """Take a license, run the program, and end as it does."""
    product, component = flags.required(settings, "product", "component")
    program = settings.program[1:] if settings.program[:1] == ["--"] else settings.program
    if not program:
        raise flags.BadSettings("name the program to run behind --")
    missing = _why_not_runnable(program[0])
    if missing is not None:  # before a seat is taken for it
        return missing
    logging.getLogger(LOGGER_NAME).setLevel(logging.ERROR)  # a loss is told in words of our own
    lost: queue.SimpleQueue[InvalidLicense | None] = queue.SimpleQueue()
    license_ = LicensedComponent(
        product,
        component,
        version=settings.version_of_product,
        server=settings.server,
        server_key=settings.server_key,
        works_offline=settings.works_offline,
        client_dir=settings.client_dir,
        identity=flags.pair(settings),
        computer=flags.given_computer(settings),
        on_lost=lost.put,
        release_on_close=settings.release_at_end,
    )
    try:
        license_.open()
    except InvalidLicense as error:
        complain(str(error))
        return EXIT_NOT_LICENSED
    try:
        return Run(program, settings.on_lost, settings.grace).to_end(lost)
    except OSError as error:
        complain(f"als-agent: {program[0]}: {error.strerror}")
        return EXIT_CANNOT_RUN
    finally:
        license_.close()


def _why_not_runnable(name: str) -> int | None:
    """Give the exit code for a program that cannot be run, as the shell does; None when it can."""
    if shutil.which(name) is not None:
        return None
    if Path(name).name != name and Path(name).exists():
        complain(f"als-agent: {name}: cannot be run")
        return EXIT_CANNOT_RUN
    complain(f"als-agent: {name}: not found")
    return EXIT_NOT_FOUND


class Run:
    """One program while it runs: signals go on to it, and it is ended when its license is lost."""

    def __init__(self, program: list[str], on_lost: str, grace_s: float) -> None:
        self._program = program
        self._on_lost = on_lost
        self._grace_s = grace_s
        self._process: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []  # signals that came before the program had started
        self._ended_by_us = False

    def to_end(self, lost: "queue.SimpleQueue[InvalidLicense | None]") -> int:
        """Start the program and give the exit code to end with. Raises OSError when it cannot be started."""
        with self._signals():
            process = self._process = subprocess.Popen(self._program)
            for number in self._early:
                process.send_signal(number)
            watcher = threading.Thread(target=self._watch, args=(process, lost), daemon=True)
            watcher.start()
            code = process.wait()
            lost.put(None)
            watcher.join()
        if self._ended_by_us:
            return EXIT_NOT_LICENSED
        return EXIT_SIGNAL_BASE - code if code < 0 else code

    def _watch(self, process: "subprocess.Popen[bytes]", lost: "queue.SimpleQueue[InvalidLicense | None]") -> None:
        """Wait for the license to be lost; do then what was chosen."""
        while (error := lost.get()) is not None:
            complain(str(error))
            if self._on_lost == "ignore":
                continue
            self._ended_by_us = process.poll() is None
            if self._on_lost == "term":
                process.terminate()
                try:
                    process.wait(self._grace_s)
                except subprocess.TimeoutExpired:
                    complain(f"als-agent: {self._program[0]} did not end within {self._grace_s:g} s and is killed")
            process.kill()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Hand signals on to the program while it runs."""
        from_terminal = _FROM_TERMINAL if _owns_terminal() else ()
        before = {}
        for name in _PASSED_ON:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, _leave_to_terminal if name in from_terminal else self._pass_on)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        if self._process is None:
            self._early.append(number)
        else:
            self._process.send_signal(number)


def _leave_to_terminal(number: int, frame: FrameType | None) -> None:
    """Do nothing: the terminal has sent the signal to the program as well."""


def _owns_terminal() -> bool:
    """Say whether ctrl-C in a terminal reaches this process and its children."""
    if sys.platform == "win32":
        return sys.stdin.isatty()
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError):
        return False
