"""What a wrong command line is answered with: one line that says what is meant, and where to read more."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

COMMAND = "COMMAND"
"""How the place of a command is named in usages."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are a sentence with a suggestion instead of the whole usage; without a command, the help."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong on standard error and exit with code 2."""
        if message.endswith(f"arguments are required: {COMMAND}"):
            self.print_help(sys.stderr)
            self.exit(2)
        self.exit(2, f"error: {message}. See: {self.prog} --help\n")

    def unknown(self, words: Iterable[str]) -> NoReturn:
        """Refuse words that this command does not know, each with the option that was perhaps meant."""
        known = [o for action in self._actions if action.help != argparse.SUPPRESS for o in action.option_strings]
        said = [f"{word}{_perhaps(word.partition('=')[0], known)}" for word in words]
        self.error(f"{self.prog} does not know: {', '.join(said)}")

    def _match_arguments_partial(self, actions: Sequence[argparse.Action], arg_strings_pattern: str) -> list[int]:
        counts = super()._match_arguments_partial(actions, arg_strings_pattern)
        # What may be left out is filled by the word that comes behind the options, if one does.
        while counts and counts[-1] == 0 and "O" in arg_strings_pattern[sum(counts) :]:
            counts.pop()
        return counts

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.metavar == COMMAND and action.choices is not None and value not in action.choices:
            names = sorted(action.choices)
            listed = "" if len(names) > 12 else f"; there are {', '.join(names)}"
            self.error(f"there is no command {value!r}{_perhaps(value, names) or listed}")
        super()._check_value(action, value)


def _perhaps(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=2)
    return f" (did you mean {' or '.join(close)}?)" if close else ""
