"""What each command looks like when it is used; its help ends with it."""

from __future__ import annotations

EXAMPLES = {
    "arbiter demo": ["arbiter demo orders"],
    "arbiter run": [
        'arbiter run "What do 12 boxes cost?" --capabilities shop.py --model bedrock',
        "arbiter run @order.json --limit-tokens 200000 --json",
    ],
    "arbiter submit": ['arbiter submit "Check the invoices of today." --key invoices-2026-11-26'],
    "arbiter call": ['arbiter call price \'{"item": "box", "quantity": 12}\' --wait'],
    "arbiter rerun": ["arbiter rerun r1a21", "arbiter rerun r1a21 --limit-seconds 3600"],
    "arbiter serve": [
        "arbiter serve --capabilities shop.py --model bedrock:us.amazon.nova-lite-v1:0",
        "arbiter serve --model anthropic:claude-sonnet-4-5 --http 127.0.0.1:8300   (with the console)",
        "arbiter serve --roles wrapper --url redis://10.0.0.7:6379                 (on another machine)",
    ],
    "arbiter webhooks set": [
        "arbiter webhooks set crm https://crm.example.com/hooks --secret hook",
        "arbiter webhooks set told eventbridge:ours --kinds run.completed",
    ],
    "arbiter worker": ["arbiter worker --capabilities shop.py --url redis://10.0.0.7:6379"],
    "arbiter runs": ["arbiter runs", 'arbiter runs --where "status=failed,timed_out since=1d"'],
    "arbiter show": ["arbiter show r1a21", "arbiter show r1a21 --json"],
    "arbiter why": ["arbiter why r1a21"],
    "arbiter events": ["arbiter events r1a21", "arbiter events --follow"],
    "arbiter cancel": ["arbiter cancel r1a21 --wait", 'arbiter cancel --where "tenant=acme since=1h" --dry-run'],
    "arbiter pause": ["arbiter pause r1a21 --for 2h"],
    "arbiter dead": ["arbiter dead list"],
    "arbiter dead list": ['arbiter dead list --where "type=handler_error since=1d"'],
    "arbiter dead redrive": ["arbiter dead redrive r1a21/1.count", 'arbiter dead redrive --where "capability=count"'],
    "arbiter capabilities": ["arbiter capabilities", "arbiter capabilities show price"],
    "arbiter capabilities search": ['arbiter capabilities search "what does a box cost"'],
    "arbiter capabilities illustrate": [
        "arbiter capabilities illustrate --all --model bedrock:us.amazon.nova-lite-v1:0"
    ],
    "arbiter schedule": [
        'arbiter schedule add report "Write the report of {{local}}." --cron "0 9 * * MON-FRI" --timezone Europe/Berlin',
        "arbiter schedule list",
    ],
    "arbiter schedule add": [
        'arbiter schedule add report "Write the report of {{local}}." --cron "0 9 * * MON-FRI" --timezone Europe/Berlin',
        'arbiter schedule add poll "Check the stock." --rate "15 minutes"',
    ],
    "arbiter budgets": ["arbiter budgets", "arbiter budgets set tenant:acme/day --tokens 2000000"],
    "arbiter budgets set": ["arbiter budgets set tenant:acme/day --tokens 2000000"],
    "arbiter quotas": ["arbiter quotas"],
    "arbiter entries": ["arbiter entries post notes.stock '{\"boxes\": 12}'", "arbiter entries query 'notes.*'"],
    "arbiter tokens": ["arbiter tokens create --name ann --scope runs:read --scope runs:write"],
    "arbiter audit": ['arbiter audit --where "since=1d"'],
    "arbiter callback": ['arbiter callback complete arbcb.cjFhMg.... --output \'{"url": "https://example.com/1"}\''],
    "arbiter peers": ["arbiter peers check peers.toml"],
    "arbiter serve-mcp": ["arbiter serve-mcp"],
    "arbiter openapi": ["arbiter openapi"],
    "arbiter export": ["arbiter export r1a21 run.json"],
    "arbiter doctor": ["arbiter doctor --model bedrock --call"],
}
"""Command to command lines, as they are typed; what stands in brackets behind one is a remark."""


def epilog(command: str) -> str | None:
    """The examples of a command for the end of its help; None where there are none."""
    lines = EXAMPLES.get(command)
    return None if lines is None else "\n".join(["examples:", *(f"  {line}" for line in lines)])
