"""What a domain is made from: an image, an xl.cfg file, or settings as a mapping, each with further ones behind it.

Specification: xl(1), `xl create [FILE] [KEY=VALUE…]`; xl.cfg(5).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hv.errors import ConfigError
from hv.machine import images, xl_domain

Image = str | Path | bytes


@dataclass(slots=True)
class Description:
    """An image's content and name, and arguments of `Machine.create` that nobody overrides."""

    data: bytes
    source: str
    options: dict[str, Any]
    warnings: list[str] = field(default_factory=list)


def resolve(image: Image | Mapping[str, Any], settings: Iterable[str]) -> Description:
    """Read what is named; ConfigError or ImageError with one sentence where that is not possible."""
    lines = list(settings)
    if isinstance(image, Mapping):
        return _of(xl_domain.from_mapping(image, lines), "settings", {})
    data, source = (image, "image") if isinstance(image, bytes) else images.read(image)
    if xl_domain.looks_like_one(data):
        return _of(xl_domain.read(data, source, lines), source, {"name": source.removesuffix(".cfg")})
    asked = xl_domain.read(b"", source, lines)
    if asked.kernel:
        raise ConfigError(f"kernel is set twice: {source} is an image already")
    return Description(data, source, images.made_for(image) | asked.options, asked.warnings)


def _of(asked: xl_domain.Settings, source: str, defaults: Mapping[str, Any]) -> Description:
    if not asked.kernel:
        raise ConfigError(f'{source}: kernel is missing: name the image that hv boots, kernel = "FILE"')
    data, name = images.read(asked.kernel)
    return Description(data, name, {**images.made_for(asked.kernel), **defaults, **asked.options}, asked.warnings)
