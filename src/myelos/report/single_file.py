"""Pages that are one file: style, script, data and images inside, nothing fetched, nothing else allowed to run."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def asset(name: str) -> str:
    """The text of a file beside this one."""
    return files("myelos.report").joinpath(name).read_text(encoding="utf-8")


def policy(style: str, script: str = "") -> str:
    """A content security policy: this style and this script, images from data URIs, and nothing else."""
    allowed = f"script-src 'sha256-{_digest(script)}'; " if script else ""
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{_digest(style)}'; {allowed}"
        "base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def embedded_json(content: Any) -> str:
    """JSON that cannot end the element it stands in."""
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def data_uri(content: bytes, kind: str) -> str:
    """Bytes of an image (`kind`: jpeg or png) as an address."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def render(
    template: str,
    *,
    style: str,
    script: str = "",
    filters: Mapping[str, Callable[..., Any]] | None = None,
    **content: Any,
) -> str:
    """A template of this package as a page; `style` and `script` are the texts it embeds, `filters` what it calls."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= filters or {}
    page = environment.from_string(asset(template))
    return page.render(style=style, script=script, policy=policy(style, script), **content)
