"""The console: a page for people over the same API. It has no rights of its own: whoever looks types a token in.

The page is a handful of files that never change while a process runs. Nothing that a board holds is in them, so they are
served to whoever may reach the server. What they show they ask of the API with the token of whoever looks, which is kept by
the browser's tab and sent as a header; a page of another site cannot send it, and there are no cookies that a browser would
send by itself.

Content comes from models, from generated code and from strangers. It enters the page as text; beyond that the policy
below lets no script run but those of the files, and lets no script make elements out of text (Trusted Types), so that a
slip in the page's own code shows as an error and not as somebody else's script.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.resources import files

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

PATH = "/console"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}
"""Beside those of every answer: ``nosniff`` and ``no-store``."""
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_START = "index.html"


def routes() -> list[Route]:
    """The page at :data:`PATH`, and its files below."""
    folder = files("arbiter.http").joinpath("page")
    found = {each.name: each.read_bytes() for each in folder.iterdir() if _suffix(each.name) in _TYPES}
    start = found.pop(_START)

    def answering(name: str, content: bytes) -> Callable[[Request], Awaitable[Response]]:
        async def answer(_: Request) -> Response:
            return Response(content, headers=HEADERS, media_type=_TYPES[_suffix(name)])

        return answer

    async def file(request: Request) -> Response:
        name = request.path_params["file"]
        if name not in found:
            raise HTTPException(404, "The console has no such file.")
        return await answering(name, found[name])(request)

    return [Route(PATH, answering(_START, start)), Route(PATH + "/{file}", file)]


def _suffix(name: str) -> str:
    return "." + name.rpartition(".")[2]
