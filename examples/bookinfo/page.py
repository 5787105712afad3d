"""The product page as HTML: data in, text out. Every value from outside goes through ``escape``; there is no script."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from common import Answer

HEADERS = (
    (
        "Content-Security-Policy",
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'",
    ),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
)
MAX_STARS = 5
LABELS = ("author", "written", "type", "pages", "language", "publisher")

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · Bookinfo</title>
<link rel="icon" href="/static/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/static/style.css">
</head>
<body>
<header class="bar">
<a class="brand" href="/productpage"><img src="/static/icon.svg" alt="" width="26" height="26">Bookinfo</a>
{account}
</header>
<main>
<article class="book">
<img class="cover" src="/static/cover.svg" alt="" width="200" height="286">
<div>
<h1>{title}</h1>
<p class="summary">{description}</p>
{details}
</div>
</article>
<section class="reviews">
<h2>What readers say</h2>
{reviews}
</section>
<section class="hops" aria-label="Who answered">
<h2>Who answered</h2>
<ol>
{hops}
</ol>
</section>
</main>
</body>
</html>
"""

SIGN_IN = """<form class="account" method="post" action="/login">
<label for="user">Sign in as</label>
<input id="user" name="user" placeholder="jason" required maxlength="32" autocomplete="off" autocapitalize="none">
<button>Sign in</button>
</form>"""

SIGN_OUT = """<form class="account" method="post" action="/logout">
<span>Signed in as <strong>{user}</strong></span>
<button>Sign out</button>
</form>"""


def render(product: Mapping[str, Any], user: str, pod: str, details: Answer, reviews: Answer) -> str:
    """The whole page for ``product``; a peer that failed leaves a notice in its own section only."""
    hops = [_hop("productpage", pod, "made this page"), _hop_of("details", details), _hop_of("reviews", reviews)]
    rating = next((entry["rating"] for entry in _entries(reviews) if "rating" in entry), None)
    if rating is not None:
        hops.append(_hop("ratings", rating.get("pod", ""), "asked by reviews" if "pod" in rating else "failed"))
    return PAGE.format(
        title=escape(product["title"]),
        description=escape(product["description"]),
        account=SIGN_OUT.format(user=escape(user)) if user else SIGN_IN,
        details=_details(details),
        reviews=_reviews(reviews),
        hops="\n".join(hops),
    )


def _details(details: Answer) -> str:
    if not details.ok:
        return _notice("Details are currently unavailable", details.error)
    rows = "\n".join(f"<div><dt>{label}</dt><dd>{escape(str(details.data[label]))}</dd></div>" for label in LABELS)
    return f'<dl class="facts">\n{rows}\n</dl>'


def _entries(reviews: Answer) -> list[dict[str, Any]]:
    return reviews.data["reviews"] if reviews.ok else []


def _reviews(reviews: Answer) -> str:
    if not reviews.ok:
        return _notice("Reviews are currently unavailable", reviews.error)
    return "\n".join(
        f"<blockquote>\n{_rating(entry.get('rating'))}<p>{escape(entry['text'])}</p>\n"
        f"<footer>{escape(entry['reviewer'])}</footer>\n</blockquote>"
        for entry in _entries(reviews)
    )


def _rating(rating: Mapping[str, Any] | None) -> str:
    """Stars in their colour, the reason why there are none, or nothing in the version without stars."""
    if rating is None:
        return ""
    if "error" in rating:
        return _notice(rating["error"], rating.get("reason", ""))
    stars = min(max(int(rating["stars"]), 0), MAX_STARS)
    color = "red" if rating["color"] == "red" else "black"
    glyphs = "★" * stars + "☆" * (MAX_STARS - stars)
    return f'<p class="stars {color}" role="img" aria-label="{stars} of {MAX_STARS} stars">{glyphs}</p>\n'


def _notice(headline: str, reason: str) -> str:
    detail = f" <span>{escape(reason)}</span>" if reason else ""
    return f'<p class="notice" role="status"><strong>{escape(headline)}</strong>{detail}</p>\n'


def _hop_of(service: str, answer: Answer) -> str:
    took = f"{answer.seconds * 1000:.0f} ms"
    return _hop(service, answer.data["pod"] if answer.ok else "", took if answer.ok else f"failed after {took}")


def _hop(service: str, pod: str, note: str) -> str:
    """One line of the list of who answered: service, instance, and how it went."""
    state = "ok" if pod else "failed"
    return (
        f'<li class="{state}"><span class="service">{escape(service)}</span> '
        f'<strong>{escape(pod) or "nobody"}</strong> <span class="note">{escape(note)}</span></li>'
    )
