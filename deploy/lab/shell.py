"""Commands that the lab runs: an error shows the command and what it printed."""

import subprocess


class CommandError(Exception):
    """A command that had to succeed did not."""


# What ends a part of the checks, beside an assertion: a command that failed or hung, an answer that
# isn't what it should be.
ENDED_EARLY = (CommandError, OSError, ValueError, LookupError, StopIteration, subprocess.SubprocessError)


def run(*command, stdin=None, check=True, timeout=30):
    """Runs a command to its end; returns what it printed on stdout.

    Raises CommandError with the command and its stderr when it fails or takes
    more than `timeout` seconds.
    """
    command = [str(word) for word in command]
    try:
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=timeout
        )
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"{' '.join(command)}: no end after {timeout} s") from error
    if check and done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise CommandError(f"{' '.join(command)}: exit {done.returncode}: {said}")
    return done.stdout
