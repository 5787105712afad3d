"""reviews: what readers say, in three versions told apart by VERSION.

v1 shows no stars and calls nobody. v2 and v3 ask ratings for the stars and show them in black and in red. When ratings
does not answer, the reviews are still there and say that the stars are not.
"""

from __future__ import annotations

from typing import Any

from common import VERSION, Request, Response, call, error_response, is_number, json_response, pod_name, serve

REVIEWS = {
    "Reviewer1": "Two pairs of twins, one town, and nobody thinks of asking. I laughed until the neighbours knocked.",
    "Reviewer2": "Short, quick and built like a clock. Not his deepest play, but surely one of his most cheerful.",
}
STAR_COLORS = {"v2": "black", "v3": "red"}
NO_RATINGS = "Ratings service is currently unavailable"


def rate(product: str, request: Request) -> dict[str, dict[str, Any]]:
    """A rating for each reviewer: stars with a colour, or an error. Empty in the version without stars."""
    color = STAR_COLORS.get(VERSION)
    if color is None:
        return {}
    answer = call("ratings", f"/ratings/{product}", request.trace_headers())
    if not answer.ok:
        return {reviewer: {"error": NO_RATINGS, "reason": answer.error} for reviewer in REVIEWS}
    stars, pod = answer.data["ratings"], answer.data["pod"]
    return {
        reviewer: {"stars": stars[reviewer], "color": color, "pod": pod} for reviewer in REVIEWS if reviewer in stars
    }


def handle(request: Request) -> Response:
    match request.method, request.parts:
        case "GET" | "HEAD", ["reviews", product] if is_number(product):
            ratings = rate(product, request)
            reviews = [
                {"reviewer": reviewer, "text": text} | ({"rating": ratings[reviewer]} if reviewer in ratings else {})
                for reviewer, text in REVIEWS.items()
            ]
            return json_response({"id": product, "pod": pod_name("reviews"), "version": VERSION, "reviews": reviews})
        case _:
            return error_response(404, "there is /reviews/PRODUCT")


if __name__ == "__main__":
    serve("reviews", handle)
