"""What can be said on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from arbiter.cli import parser_agenda, parser_board, parser_capabilities, parser_peers, parser_runs, words
from arbiter.cli.mistakes import COMMAND, Parser
from arbiter.cli.words import Listing

DESCRIPTION = """\
Plan a request, fabricate the capabilities it lacks, run it, answer.
How a command is used, with examples: arbiter COMMAND --help"""

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
    arguments, unknown = build().parse_known_args(argv)
    if unknown:
        meant: Parser = arguments.parser
        meant.unknown(unknown)
    return arguments


def build() -> Parser:
    """The parser of the whole command line."""
    parser = Parser(
        prog="arbiter",
        usage="arbiter COMMAND ... [-h] [--version]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = Listing(parser.add_subparsers(metavar=COMMAND, required=True, prog="arbiter", help=argparse.SUPPRESS))
    commands.group("begin here")
    parser_runs.demo(commands)
    parser_board.doctor(commands)
    commands.group("ask for something")
    parser_runs.run(commands)
    parser_runs.submit(commands)
    parser_runs.call(commands)
    parser_runs.rerun(commands)
    parser_board.schedules(commands)
    parser_agenda.standing(commands)
    commands.group("serve")
    parser_runs.serve(commands)
    parser_peers.serve_mcp(commands)
    words.command(commands, "openapi", "arbiter.cli.openapi:show", "print the HTTP API as an OpenAPI document")
    down = words.command(commands, "down", "arbiter.cli.daemon:down", "stop the local server of a data folder")
    down.add_argument("--data-dir", metavar="DIR", help="folder of the local server (default ~/.arbiter)")
    commands.group("look at what happened")
    parser_runs.look(commands)
    parser_board.audit(commands)
    parser_board.subscriptions(commands)
    parser_board.webhooks(commands)
    commands.group("stop, and go on")
    parser_runs.stop(commands)
    parser_runs.dead(commands)
    commands.group("what can be done, and who vouches for it")
    parser_capabilities.capabilities(commands)
    parser_peers.peers(commands)
    parser_capabilities.approvals(commands)
    parser_capabilities.permits(commands)
    parser_capabilities.callback(commands)
    parser_capabilities.keys(commands)
    parser_capabilities.eval(commands)
    commands.group("how much, and who may")
    parser_board.budgets(commands)
    parser_board.quotas(commands)
    parser_board.tokens(commands)
    commands.group("the blackboard")
    parser_board.entries(commands)
    parser_agenda.ask(commands)
    parser_agenda.agenda(commands)
    commands.group("keep, and remove")
    parser_runs.keep(commands)
    parser_runs.archive(commands)
    parser.description = f"{DESCRIPTION}\n\n{commands}"
    parser.epilog = EPILOG
    return parser


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"arbiter {version('arbiter')}")
        parser.exit()
