"""ratings: how many stars each reviewer gave. Calls nobody."""

from __future__ import annotations

from common import VERSION, Request, Response, error_response, is_number, json_response, pod_name, serve

STARS = {"Reviewer1": 5, "Reviewer2": 4}


def handle(request: Request) -> Response:
    match request.method, request.parts:
        case "GET" | "HEAD", ["ratings", product] if is_number(product):
            return json_response({"id": product, "pod": pod_name("ratings"), "version": VERSION, "ratings": STARS})
        case _:
            return error_response(404, "there is /ratings/PRODUCT")


if __name__ == "__main__":
    serve("ratings", handle)
