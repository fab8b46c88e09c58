"""Permissions that mean something for root too: without the capabilities that pass over them, root may do to
its files what their modes allow.
"""

from __future__ import annotations

import ctypes
import os
import sys

VERSION = 0x20080522
PASSES_OVER = 1 << 1 | 1 << 2
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, see capabilities(7)."""


class Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class Data(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def obey_modes() -> None:
    """For this process, from now on, and those that it forks. Nothing where it is not root's."""
    if os.getuid() or sys.platform != "linux":
        return
    libc, header, data = ctypes.CDLL(None, use_errno=True), Header(VERSION, 0), (Data * 2)()
    if libc.capget(ctypes.byref(header), data):
        raise OSError(ctypes.get_errno(), "capget")
    data[0].effective &= ~PASSES_OVER
    data[0].permitted &= ~PASSES_OVER
    if libc.capset(ctypes.byref(header), data):
        raise OSError(ctypes.get_errno(), "capset")
