"""The process of whoever calls kdx from Python. A command that a shell calls has its process to itself, and
changes threads, generators, logging and more: here all of it is put back.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import os
import random
import sys
import sysconfig
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kdx.core.errors import UserError

_turn = threading.Lock()
_whose: int | None = None
"""The thread that has it."""


@contextlib.contextmanager
def borrowed(own: Sequence[str], *, composes: bool, computes: bool) -> Iterator[None]:
    """Inside, the process is as one that a shell has made, and afterwards as it was before. What stays: that
    modules are imported, and that glibc keeps large blocks of memory.

    own: packages that are allowed, which are imported anew. composes, computes: whether Hydra is called, and
    torch.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_in_turn())
        stack.enter_context(_interpreter())
        stack.enter_context(_logging())
        stack.enter_context(_generators(computes))
        if composes:
            from kdx.config.compose.process import hydra_apart

            stack.enter_context(hydra_apart())
        if computes or "torch" in sys.modules:
            stack.enter_context(_torch())
        stack.enter_context(_own_code(own))
        yield


@contextlib.contextmanager
def _in_turn() -> Iterator[None]:
    """What a command changes is the whole process's, so one call waits for another."""
    global _whose
    if _whose == threading.get_ident():
        raise UserError("kdx is at work in this thread already: what a run calls cannot call kdx")
    if not _turn.acquire(blocking=False):
        print("kdx is at work in another thread of this process: waiting for it", file=sys.stderr)
        _turn.acquire()
    _whose = threading.get_ident()
    try:
        yield
    finally:
        _whose = None
        _turn.release()


@contextlib.contextmanager
def _interpreter() -> Iterator[None]:
    argv, place, environment = sys.argv, os.getcwd(), dict(os.environ)
    hook, loud = threading.excepthook, logging.raiseExceptions
    try:
        with warnings.catch_warnings():
            yield
    finally:
        sys.argv, threading.excepthook, logging.raiseExceptions = argv, hook, loud
        for name in [name for name in os.environ if name not in environment]:
            del os.environ[name]
        for name in [name for name, value in environment.items() if os.environ.get(name) != value]:
            os.environ[name] = environment[name]
        if os.getcwd() != place:
            os.chdir(place)


@contextlib.contextmanager
def _logging() -> Iterator[None]:
    """The root logger is the run's log inside."""
    root, manager = logging.getLogger(), logging.root.manager
    found = [root, *(each for each in manager.loggerDict.values() if isinstance(each, logging.Logger))]
    before = [(each, each.handlers[:], each.level, each.propagate, each.disabled) for each in found]
    disabled = manager.disable
    # logging.config closes every handler that is in these two: the caller's are to go on
    registered: tuple[Any, ...] = (logging._handlerList, logging._handlers)
    kept = registered[0][:], dict(registered[1])
    registered[0].clear()
    registered[1].clear()
    try:
        yield
    finally:
        for handler in [each for each in root.handlers if each not in before[0][1]]:
            handler.close()
        for each, handlers, level, propagate, silent in before:
            each.handlers[:], each.propagate, each.disabled = handlers, propagate, silent
            each.setLevel(level)
        logging.disable(disabled)
        registered[0][:] = [*kept[0], *registered[0]]
        registered[1].update(kept[1])


@contextlib.contextmanager
def _generators(computes: bool) -> Iterator[None]:
    state = random.getstate()
    numbers = importlib.import_module("numpy.random") if computes or "numpy" in sys.modules else None
    drawn = numbers.get_state() if numbers else None
    try:
        yield
    finally:
        random.setstate(state)
        if numbers:
            numbers.set_state(drawn)


@contextlib.contextmanager
def _torch() -> Iterator[None]:
    """Inside, gradients are on, numbers are float32 and new tensors on the CPU, as torch begins."""
    import torch

    threads, drawn, numbers = torch.get_num_threads(), torch.get_rng_state(), torch.get_default_dtype()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    strict, warns = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    cudnn, matmul = torch.backends.cudnn, torch.get_float32_matmul_precision()
    flags = cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32
    elsewhere = torch.get_default_device().type != "cpu"
    torch.set_default_dtype(torch.float32)
    try:
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.device("cpu") if elsewhere else contextlib.nullcontext(),  # slows every call a little
        ):
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(numbers)
        torch.use_deterministic_algorithms(strict, warn_only=warns)
        torch.set_float32_matmul_precision(matmul)
        cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32 = flags
        torch.set_rng_state(drawn)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        elif torch.cuda.is_available():  # nothing was drawn there, so they stood at the seed of the CPU's
            torch.cuda.manual_seed_all(torch.initial_seed())
        if mps is not None:
            torch.mps.set_rng_state(mps)


@contextlib.contextmanager
def _own_code(packages: Sequence[str]) -> Iterator[None]:
    """Inside, packages of the user's own are as their files are now, as in a process of its own: what was
    imported of them before, and may have been edited since, is put back afterwards.
    """
    tops = {package.partition(".")[0] for package in packages if not _is_installed(package)}

    def taken() -> dict[str, Any]:
        return {name: sys.modules.pop(name) for name in [*sys.modules] if name.partition(".")[0] in tops}

    before = taken()
    importlib.invalidate_caches()
    _forget_files()
    _forget_words()
    try:
        yield
    finally:
        taken()
        sys.modules.update(before)
        _forget_words()


def _is_installed(package: str) -> bool:
    """Whether it is in site-packages, or is Python's own: what nobody edits between two calls."""
    top = package.partition(".")[0]
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return False
    places = [sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib")]
    files = [] if spec is None else [spec.origin or "", *(spec.submodule_search_locations or ())]
    return any(Path(file).is_relative_to(place) for file in files if file for place in places)


def _forget_files() -> None:
    """What kdx has read of the user's own code and options; only of modules that are imported already."""
    if "kdx.store.digest" in sys.modules:
        sys.modules["kdx.store.digest"].forget_code()
    if "kdx.store.declared" in sys.modules:
        sys.modules["kdx.store.declared"].forget_declared()
    if "kdx.config.compose.base" in sys.modules:
        sys.modules["kdx.config.compose.base"].forget_options()


def _forget_words() -> None:
    """What the words of this command said, and no other command's."""
    if "kdx.store.resolve" in sys.modules:
        sys.modules["kdx.store.resolve"].allow(())
    if "kdx.config.options" in sys.modules:
        sys.modules["kdx.config.options"].use_own(())
    if "kdx.config.filed" in sys.modules:
        sys.modules["kdx.config.filed"].use_file(())
