"""The OpenAPI document of the server, and a page that shows it, both made from the table of settings."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from importlib import metadata
from typing import Any

from lanpaint.serve.settings import Setting

_JOB = {
    "id": ("string", "Name of the job."),
    "state": ("string", "waiting, running, done, failed or cancelled."),
    "place": ("integer", "Place in the queue, from 1, while it waits."),
    "made": ("integer", "Evaluations of the model so far, for the present result."),
    "planned": ("integer", "Evaluations of one result; 0 while unknown."),
    "seconds_left": ("number", "Estimate of the time until the end."),
    "preview": ("integer", "Number of the latest preview; 0 for none."),
    "results": ("array", "One object for each result so far: its url and its seed."),
    "settings": ("object", "All settings of the job."),
    "error": ("string", "Why it failed, in one line."),
}


def document(settings: Mapping[str, Setting]) -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    identity = [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}]
    number = {"name": "number", "in": "path", "required": True, "schema": {"type": "integer", "minimum": 0}}
    job = _json("The job.", {"$ref": "#/components/schemas/Job"})
    picture = {"description": "A PNG file.", "content": {"image/png": {"schema": {"type": "string"}}}}
    upload = {
        "type": "object",
        "required": ["picture"],
        "properties": {
            "picture": {"type": "string", "format": "binary", "description": "PNG, JPEG, WebP, BMP or still GIF."},
            "mask": {"type": "string", "format": "binary", "description": "Of the picture's size; white is painted. "
                     "Without it the picture's transparent pixels are painted, or the frame."},
            "settings": {"type": "string", "contentMediaType": "application/json",
                         "contentSchema": {"$ref": "#/components/schemas/Settings"}, "description": "JSON object."},
        },
    }  # fmt: skip
    paths = {
        "/api/models": {"get": _operation("The models, and the table of settings.", {"200": _json("The models.")})},
        "/api/inpaint": {"post": {
            **_operation("Give a picture, a mask and settings, and get a job.", {"202": job},
                         {"413": "Too many bytes or pixels.", "415": "No picture that is read here.",
                          "422": "Something in it is wrong.", "429": "Too many jobs of yours wait.",
                          "503": "Too many jobs wait."}),
            "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": upload}}},
        }},
        "/api/jobs/{id}": {
            "get": _operation("The job as it is now. Who does not ask or watch for a while has left: the job is "
                              "cancelled.", {"200": job}, {"404": "No such job."}, identity),
            "delete": _operation("Cancel the job, within one evaluation of the model.", {"202": job},
                                 {"404": "No such job."}, identity),
        },
        "/api/jobs/{id}/events": {"get": _operation(
            "The job again after each change, as server-sent events, until it ends.",
            {"200": {"description": "Events, each with the job as JSON.",
                     "content": {"text/event-stream": {"schema": {"type": "string"}}}}}, {"404": "No such job."},
            identity)},
        "/api/jobs/{id}/preview": {"get": _operation(
            "A small picture of what the model expects now.", {"200": picture},
            {"204": "No preview now.", "404": "No such job."}, identity)},
        "/api/jobs/{id}/results/{number}": {"get": _operation(
            "A result, with its settings in the PNG file.", {"200": picture}, {"404": "No such result."},
            [*identity, number])},
        "/api/recipe": {"post": {
            **_operation("The command and the Python for some settings.", {"200": _json("command and python")},
                         {"422": "A setting is wrong."}),
            "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Settings"}}}},
        }},
    }  # fmt: skip
    properties = {name: {"type": [kind, "null"], "description": text} for name, (kind, text) in _JOB.items()}
    return {
        "openapi": "3.1.0",
        "info": {"title": "lanpaint serve", "version": metadata.version("lanpaint"),
                 "description": "Paint in the hole of a picture. A header X-Lanpaint-Client: NAME says who asks; "
                 "clients take turns. Each error is JSON: {\"error\": \"one line\"}."},
        "paths": paths,
        "components": {"schemas": {
            "Settings": {"type": "object", "additionalProperties": False,
                         "properties": {name: setting.schema() for name, setting in settings.items()}},
            "Job": {"type": "object", "properties": properties},
            "Error": {"type": "object", "properties": {"error": {"type": "string"}}},
        }},
    }  # fmt: skip


def _json(description: str, schema: Any = None) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema or {"type": "object"}}}}


def _operation(
    summary: str, good: dict[str, Any], bad: Mapping[str, str] | None = None, parameters: list[Any] | None = None
) -> dict[str, Any]:
    errors = {code: _json(text, {"$ref": "#/components/schemas/Error"}) for code, text in (bad or {}).items()}
    return {"summary": summary, "responses": {**good, **errors}} | ({"parameters": parameters} if parameters else {})


def page(made: dict[str, Any]) -> str:
    """An HTML page of the document."""
    rows = []
    for path, operations in made["paths"].items():
        for verb, operation in operations.items():
            codes = ", ".join(
                f"<b>{code}</b> {escape(answer['description'])}" for code, answer in operation["responses"].items()
            )
            rows.append(
                f"<section><h2><span class=verb>{verb.upper()}</span> <code>{escape(path)}</code></h2>"
                f"<p>{escape(operation['summary'])}</p><p class=codes>{codes}</p></section>"
            )
    settings = "".join(
        f"<tr><th scope=row><code>{escape(name)}</code></th><td>{_kind(schema)}</td>"
        f"<td>{escape(str(schema.get('default')))}</td><td>{escape(schema['description'])}</td></tr>"
        for name, schema in made["components"]["schemas"]["Settings"]["properties"].items()
    )
    example = (
        'curl -F picture=@photo.png -F mask=@mask.png -F \'settings={"model": "emoji-pixel", "seed": 1}\' '
        "http://127.0.0.1:7860/api/inpaint\ncurl -N http://127.0.0.1:7860/api/jobs/ID/events\n"
        "curl -o result.png http://127.0.0.1:7860/api/jobs/ID/results/0"
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>lanpaint: the API</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="stylesheet" href="/assets/page.css"></head><body class="reference"><main>'
        "<h1>The API</h1><p>The page paints with these requests, and so can a program. The same as a document: "
        f'<a href="/api/openapi.json">openapi.json</a>. <a href="/">Back to the page</a></p>'
        f"<pre tabindex=0>{escape(example)}</pre>{''.join(rows)}<h2>Settings</h2>"
        '<div class="scroll" tabindex="0" role="region" aria-label="Settings"><table><thead><tr><th scope=col>Name</th>'
        f"<th scope=col>Value</th><th scope=col>Default</th><th scope=col>Meaning</th></tr></thead>"
        f"<tbody>{settings}</tbody></table></div></main></body></html>"
    )


def _kind(schema: Mapping[str, Any]) -> str:
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    text = " or ".join(kind for kind in kinds if kind != "null")
    if "enum" in schema:
        return escape(", ".join(schema["enum"]))
    if "minimum" in schema:
        text += f", {schema['minimum']:g} to {schema['maximum']:,.10g}"
    return escape(text)
