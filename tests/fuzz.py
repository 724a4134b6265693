"""`make fuzz`: lets atheris look for inputs that break a target's word, for as long as asked.

    python tests/fuzz.py [--seconds N] [TARGET ...]

Every target starts from tests/corpus/TARGET/; what it learns is kept in .fuzz/TARGET/, and what breaks it is written
to .fuzz/ as TARGET-crash-..., to be put into the corpus with its mend: test_fuzz.py replays it from then on.
"""

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOUND = ROOT / ".fuzz"
SECONDS_DEFAULT = 60
INPUT_BYTES_MAX = 65_537  # one more than a request may have
ONE_INPUT_S_MAX = 10  # what takes longer is a finding, too
MISSING = "atheris is not installed: pip install atheris (wheels for Linux; elsewhere it needs clang's libFuzzer)"


def main() -> int:
    """Fuzz the targets one after the other, each in a process of its own; give the number of those that broke."""
    sys.path.insert(0, str(ROOT / "tests"))
    from fuzz_targets import TARGETS

    parser = argparse.ArgumentParser(description="Fuzz what reads foreign bytes.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; default all")
    parser.add_argument("--seconds", type=int, default=SECONDS_DEFAULT, help="for each target (default %(default)s)")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        fuzz_here(arguments.one, arguments.seconds)
    unknown = set(arguments.targets) - TARGETS.keys()
    if unknown:
        parser.error(f"no such target: {', '.join(unknown)}")
    try:
        import atheris  # noqa: F401
    except ImportError:
        print(MISSING, file=sys.stderr)  # noqa: T201
        return 1
    broken = [name for name in arguments.targets or TARGETS if not fuzz(name, arguments.seconds)]
    print(f"broken: {', '.join(broken)}; see {FOUND}" if broken else "nothing was found")  # noqa: T201
    return len(broken)


def fuzz(name: str, seconds: int) -> bool:
    """Fuzz one target in a new process; False when something was found."""
    print(f"== {name}", flush=True)  # noqa: T201
    command = [sys.executable, __file__, "--one", name, "--seconds", str(seconds)]
    return subprocess.run(command, check=False).returncode == 0


def fuzz_here(name: str, seconds: int) -> None:
    """Hand this process to libFuzzer, which ends it."""
    import atheris

    for module in [module for module in sys.modules if module.split(".")[0] in ("als", "fuzz_targets")]:
        del sys.modules[module]  # to be read again with libFuzzer's counters in them
    with atheris.instrument_imports(include=["als"]):
        from fuzz_targets import CORPUS, TARGETS
    learned = FOUND / name
    learned.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={INPUT_BYTES_MAX}",
        f"-timeout={ONE_INPUT_S_MAX}",
        f"-artifact_prefix={FOUND}/{name}-",
        "-print_final_stats=0",
    ]
    atheris.Setup([sys.argv[0], *options, str(learned), str(CORPUS / name)], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
