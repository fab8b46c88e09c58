"""What hatchling asks while it builds kdx: the long description, of README.md."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface


class LongDescription(MetadataHookInterface):
    def update(self, metadata: dict) -> None:
        """A package index shows README.md alone, so its links must not be relative."""
        root = Path(self.root)
        spec = importlib.util.spec_from_file_location("links", root / "scripts/links.py")
        links = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(links)
        metadata["readme"] = {"content-type": "text/markdown", "text": links.long_description(root)}
