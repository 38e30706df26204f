"""What can be said on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from arbiter.cli import parser_agenda, parser_board, parser_peers, parser_runs, words

EPILOG = """\
environment:
  ARBITER_REDIS_URL     board to use when --url is not given
  ARBITER_DATA_DIR      folder of the local server and of this user's signing key (default ~/.arbiter)
  ARBITER_MODEL         model to use when --model is not given
  ARBITER_ISOLATION     isolation of generated code when --isolation is not given
  ARBITER_PRICES        file with the prices of models, for budgets of money
  ARBITER_REDIS_SERVER  server program for the local server
  ARBITER_SIGNING_KEY   key that signs capabilities: PEM, base64, or a file (default: one in the data folder)
  ARBITER_TRUSTED_KEYS  ids of the only keys whose signatures count here (default: all the board trusts)
  ARBITER_DEBUG=1       show tracebacks

exit codes: 0 done, 1 the run did not succeed, 2 refused, 70 defect, 130 interrupted, 143 terminated
"""


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command's name (``module:function``) and its options; exits with code 2 when they make no sense."""
    return build().parse_args(argv)


def build() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="arbiter",
        description="Plan a request, fabricate the capabilities it lacks, run it, answer.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    parser_runs.demo(commands)
    parser_runs.run(commands)
    parser_runs.submit(commands)
    parser_runs.call(commands)
    parser_runs.serve(commands)
    parser_runs.look(commands)
    parser_runs.stop(commands)
    parser_runs.dead(commands)
    parser_runs.keep(commands)
    parser_board.doctor(commands)
    parser_runs.archive(commands)
    parser_board.capabilities(commands)
    parser_peers.peers(commands)
    parser_peers.serve_mcp(commands)
    parser_board.eval(commands)
    parser_board.permits(commands)
    parser_board.keys(commands)
    parser_board.schedules(commands)
    parser_board.budgets(commands)
    parser_board.quotas(commands)
    parser_board.tokens(commands)
    parser_board.audit(commands)
    parser_board.entries(commands)
    parser_agenda.ask(commands)
    parser_agenda.agenda(commands)
    parser_agenda.standing(commands)
    down = words.command(commands, "down", "arbiter.cli.daemon:down", "stop the local server of a data folder")
    down.add_argument("--data-dir", metavar="DIR", help="folder of the local server (default ~/.arbiter)")
    return parser


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"arbiter {version('arbiter')}")
        parser.exit()
