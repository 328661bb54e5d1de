"""The page of the service: its paths, made from the OpenAPI document, without scripts and without other hosts."""

import html
from collections.abc import Iterator, Mapping
from typing import Any

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'",
    "Referrer-Policy": "no-referrer",
}
_STYLE = """
body {font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 2rem auto; padding: 0 1rem}
code, pre {font-family: ui-monospace, monospace; background: #8882; border-radius: 4px; padding: .1em .3em}
pre {padding: .6em; overflow-x: auto}
h2 {margin-top: 2rem; font-size: 1.1rem}
td {vertical-align: top; padding: .1rem .8rem .1rem 0}
:root {color-scheme: light dark}
"""
_FORM = """
<form action="predict" method="post" enctype="multipart/form-data">
<p><input type="file" name="photo" accept="image/*" multiple required aria-label="photos"> <button>Predict</button></p>
</form>
"""
_USE = """
curl --data-binary @photo.jpg http://HOST/predict
curl -F photo=@one.jpg -F photo=@two.jpg http://HOST/predict
"""


def page(openapi: Mapping[str, Any], *, with_form: bool) -> str:
    """Return the page as HTML. A form cannot send a token: `with_form` only where none is asked for."""
    info = openapi["info"]
    title = html.escape(info["title"])
    paths = "".join(
        part for path, methods in openapi["paths"].items() for method, entry in methods.items()
        for part in _operation(f"{method.upper()} {path}", entry)
    )  # fmt: skip
    token = "" if with_form else "<p>Requests need the header <code>Authorization: Bearer TOKEN</code>.</p>"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style>'
        f"<h1>{title}</h1><p>{html.escape(info['description'])}</p>{_FORM if with_form else token}"
        f"<pre>{html.escape(_USE.strip())}</pre>{paths}"
        '<p>All of it as a document for machines: <a href="openapi.json">openapi.json</a></p></html>\n'
    )


def _operation(title: str, entry: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h2><code>{html.escape(title)}</code></h2><p>{html.escape(entry.get('description', ''))}</p><table>"
    for status, response in entry["responses"].items():
        yield f"<tr><td>{html.escape(status)}</td><td>{html.escape(response['description'])}</td></tr>"
    yield "</table>"
