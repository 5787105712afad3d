"""productpage: the page one looks at. Asks details and reviews, and shows what it got and from whom.

A signed-in user is a name in a cookie, without a password: it only serves to show how a mesh routes by user. The name
goes to the peers as the header ``end-user``; one that a browser sends itself is dropped.
"""

from __future__ import annotations

import re
import urllib.parse
from http.cookies import CookieError, SimpleCookie
from pathlib import Path

import page
from common import Answer, Request, Response, call, error_response, json_response, pod_name, serve

PRODUCTS = [
    {
        "id": 0,
        "title": "The Comedy of Errors",
        "description": "Two pairs of twins, each parted at birth, land in the same town on the same day. A merchant is "
        "to lose his head at sunset, a goldsmith wants to be paid, a wife locks out the wrong husband and lets in the "
        "wrong guest. By evening everybody has been taken for somebody else: the shortest of Shakespeare's plays, and "
        "the best argument for strong identities.",
    }
]
USER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
STATIC_TYPES = {"style.css": "text/css; charset=utf-8", "cover.svg": "image/svg+xml", "icon.svg": "image/svg+xml"}
STATIC_FOLDER = Path(__file__).parent / "static"


def signed_in_user(request: Request) -> str:
    """The user's name from the cookie, empty if there is none that is well-formed."""
    try:
        cookie = SimpleCookie(request.headers.get("cookie", "")).get("user")
    except CookieError:
        return ""
    return cookie.value if cookie and USER_NAME.fullmatch(cookie.value) else ""


def peer_headers(request: Request) -> dict[str, str]:
    """What calls for this request carry on: the trace, and the user as the cookie has it."""
    headers = request.trace_headers()
    headers.pop("end-user", None)
    user = signed_in_user(request)
    return {**headers, "end-user": user} if user else headers


def show_page(request: Request) -> Response:
    headers = peer_headers(request)
    html = page.render(
        product=PRODUCTS[0],
        user=signed_in_user(request),
        pod=pod_name("productpage"),
        details=call("details", "/details/0", headers),
        reviews=call("reviews", "/reviews/0", headers),
    )
    return Response(200, html.encode(), "text/html; charset=utf-8", page.HEADERS)


def sign_in(request: Request) -> Response:
    form = urllib.parse.parse_qs(request.body.decode(errors="replace"))
    user = form.get("user", [""])[0].strip()
    if not USER_NAME.fullmatch(user):
        return error_response(400, "a user's name is 1 to 32 letters, digits, dots, dashes or underscores")
    return redirect(("Set-Cookie", f"user={user}; Path=/; HttpOnly; SameSite=Lax"))


def sign_out() -> Response:
    return redirect(("Set-Cookie", "user=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"))


def redirect(*headers: tuple[str, str]) -> Response:
    return Response(303, headers=(("Location", "/productpage"), *headers))


def static_file(name: str) -> Response:
    """One of the known files; a name that is not in the table never meets the file system."""
    content = (STATIC_FOLDER / name).read_bytes()
    return Response(200, content, STATIC_TYPES[name], (("Cache-Control", "max-age=60"),))


def pass_on(answer: Answer) -> Response:
    """A peer's answer as an answer of the API: the same data or the same failure."""
    return json_response(answer.data) if answer.ok else error_response(answer.status, answer.error)


def handle(request: Request) -> Response:
    method = "GET" if request.method == "HEAD" else request.method
    match method, request.parts:
        case "GET", ["productpage"]:
            return show_page(request)
        case "GET", []:
            return redirect()
        case "POST", ["login"]:
            return sign_in(request)
        case "POST", ["logout"]:
            return sign_out()
        case "GET", ["static", name] if name in STATIC_TYPES:
            return static_file(name)
        case "GET", ["api", "v1", "products"]:
            return json_response(PRODUCTS)
        case "GET", ["api", "v1", "products", "0"]:
            return pass_on(call("details", "/details/0", peer_headers(request)))
        case "GET", ["api", "v1", "products", "0", "reviews" | "ratings" as service]:
            return pass_on(call(service, f"/{service}/0", peer_headers(request)))
        case _:
            return error_response(404, "there is /productpage and /api/v1/products")


if __name__ == "__main__":
    serve("productpage", handle)
