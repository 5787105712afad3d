"""details: the facts about a book. Calls nobody."""

from __future__ import annotations

from common import VERSION, Request, Response, error_response, is_number, json_response, pod_name, serve

BOOK = {
    "author": "William Shakespeare",
    "written": 1594,
    "type": "paperback",
    "pages": 200,
    "language": "English",
    "publisher": "Lee Shore Press",
}


def handle(request: Request) -> Response:
    match request.method, request.parts:
        case "GET" | "HEAD", ["details", product] if is_number(product):
            return json_response({"id": product, "pod": pod_name("details"), "version": VERSION, **BOOK})
        case _:
            return error_response(404, "there is /details/PRODUCT")


if __name__ == "__main__":
    serve("details", handle)
