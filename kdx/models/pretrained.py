"""Pretrained weights: files in torch.hub's folder, downloaded where there is a network, named plainly where
there is none.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from urllib.parse import urlparse

import torch
from torch import nn

from kdx.core import shortage
from kdx.core.errors import UserError, nearest
from kdx.models.misfits import check_weights_finite
from kdx.models.weights import read_weights

PATIENCE = 20
"""Seconds without an answer after which a download is given up."""

_READ: ContextVar[bool] = ContextVar("read_weights", default=True)


@contextmanager
def reading(weights: bool) -> Iterator[None]:
    """Inside `reading(False)` a pretrained network is built with its shape and its normalisation but random
    numbers: for a network whose own state dict is loaded next, so that nobody needs the first file again.
    """
    token = _READ.set(weights)
    try:
        yield
    finally:
        _READ.reset(token)


def wanted() -> bool:
    """Whether weights are to be read now."""
    return _READ.get()


def named(model: str, options: list[str], weights: str) -> str:
    """One of `options` for what the user wrote: `DEFAULT`, `IMAGENET1K_V2` or
    `ResNet50_Weights.IMAGENET1K_V2`.
    """
    name = str(weights).rpartition(".")[2]
    if name not in options:
        raise UserError(f"{model} has no weights '{weights}'{nearest(name, options)}")
    return name


def load_pretrained(net: nn.Module, url: str) -> None:
    """Fills `net` with the state dict that lies at `url`, or in torch.hub's folder under its name; every key
    must fit.
    """
    if not wanted():
        return
    path = fetch(url)
    weights = read_weights(path)
    check_weights_finite(f"'{path}'", weights)
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(
            f"the weights in '{path}' do not fit this model: remove the file, so that it is downloaded again"
        ) from error


def fetch(url: str) -> Path:
    """The file of `url` in torch.hub's folder (TORCH_HOME moves it). A file that lies there is taken as it
    is.
    """
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / Path(urlparse(url).path).name
    if path.exists():
        return path
    prefix = re.search(r"-([0-9a-f]{8,})\.", path.name)
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=prefix and prefix[1], progress=False)
    except Exception as error:  # urllib and http.client raise many kinds; each means that there is no file
        if shortage.kind_of_shortage(error):
            raise
        raise UserError(
            f"the weights {path.name} are missing: looked in {folder}, and {url} could not be downloaded "
            f"({_short(error)}); put the file there, or set weights=null"
        ) from error
    finally:
        socket.setdefaulttimeout(patience)
    return path


def _short(error: Exception) -> str:
    """The first line of an error's text, or its kind."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(" :.")[:120] if lines else type(error).__name__
