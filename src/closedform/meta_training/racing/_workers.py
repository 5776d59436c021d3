"""Processes that work for a search, here or on other machines: one interface, that of `concurrent.futures`.

``4``: that many processes of this machine (loky, from joblib). ``ray`` or ``ray://host:port``: a Ray cluster, begun
here or already there. ``dask://host:port``: a Dask cluster. A worker that dies takes the one job that it ran with it,
and nothing else.
"""

from __future__ import annotations

import importlib
import math
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol, TypeAlias

import torch

from closedform._version import __version__
from closedform.errors import OptionError

Job: TypeAlias = Mapping[str, Any]
Result: TypeAlias = dict[str, Any]
Work: TypeAlias = Callable[[Any, Job], Result]
"""What a worker does: called with what all jobs share, and the job, a JSON object. It does not raise."""
CONNECT = 20
"""Seconds that a cluster has to answer."""


class Workers(Protocol):
    """Processes that jobs are handed to.

    Attributes:
        ahead: How many jobs they take before the first has ended.
    """

    ahead: float

    def submit(self, job: Job) -> Future[Result]:
        """Hand over a job. The future raises if the job's worker died."""


@contextmanager
def open_workers(spec: int | str, work: Work, shared: Any) -> Iterator[Workers]:
    """Workers, for as long as the block lasts.

    Args:
        spec: A number of processes, or the name of a cluster: see the module.
        work: What to do; a function of a module that workers can import.
        shared: What all jobs share, sent once: anything that can be pickled.

    Raises:
        OptionError: it is no such thing, its package is not installed, or the cluster does not answer.
    """
    kind, address = _parse(spec)
    with _KINDS[kind](address, work, shared) as workers:
        yield workers


def check_workers(spec: int | str) -> None:
    """Raise OptionError if it is neither a number of processes nor the name of a cluster."""
    _parse(spec)


def versions() -> dict[str, str]:
    """What must be the same wherever parts of one search run."""
    return {"closedform": __version__, "torch": torch.__version__.partition("+")[0]}


def check_versions(expected: Mapping[str, str]) -> None:
    """Raise OptionError if this process has other versions than the one that sent the job."""
    here = versions()
    differ = [f"{name} {here.get(name)}, not {version}" for name, version in expected.items() if here[name] != version]
    if differ:
        raise OptionError(f"the worker on {platform.node()} has {', '.join(differ)}: install the same on every machine")


def _parse(spec: int | str) -> tuple[str, str]:
    text = str(spec)
    if isinstance(spec, int) and not isinstance(spec, bool) and 1 <= spec <= 1024:
        return "here", text
    kind, _, address = text.partition("://")
    if isinstance(spec, str) and (text == "ray" or (address and kind in ("ray", "dask"))):
        return kind, address
    raise OptionError(
        f"workers must be a number of processes from 1 to 1024, ray, ray://HOST:PORT or dask://HOST:PORT, not {spec!r}"
    )


class _Processes:
    """Of this machine: a pool of one process for each worker, since all of a pool goes down with one of its own."""

    ahead = math.inf

    def __init__(self, count: int, work: Work, shared: Path) -> None:
        self._work, self._shared = work, str(shared)
        self._threads = ThreadPoolExecutor(count)  # each waits for a process
        self._idle: SimpleQueue[_Process] = SimpleQueue()
        self._all = [_Process() for _ in range(count)]
        for process in self._all:
            self._idle.put(process)

    def submit(self, job: Job) -> Future[Result]:
        return self._threads.submit(self._run, job)

    def _run(self, job: Job) -> Result:
        process = self._idle.get()
        try:
            return process.run(_load_and_work, self._work, self._shared, job)
        finally:
            self._idle.put(process)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in self._all:
            process.end()


class _Process:
    """One process, begun when it is needed, and again when it has died."""

    def __init__(self) -> None:
        self._pool: Any = None

    def run(self, call: Callable[..., Result], *arguments: Any) -> Result:
        from joblib.externals.loky import ProcessPoolExecutor

        if self._pool is None:
            self._pool = ProcessPoolExecutor(max_workers=1)
        try:
            result: Result = self._pool.submit(call, *arguments).result()
        except BrokenExecutor:
            self._pool = None
            raise
        return result

    def end(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, kill_workers=True)


class _Here:
    """This process; a job is done when it has been handed over."""

    ahead = 1.0

    def __init__(self, work: Work, shared: Any) -> None:
        self._work, self._shared = work, shared

    def submit(self, job: Job) -> Future[Result]:
        future: Future[Result] = Future()
        future.set_result(self._work(self._shared, job))
        return future


class _Ray:
    """A Ray cluster; a job takes one CPU, and one GPU if the search is on one."""

    ahead = math.inf

    def __init__(self, ray: Any, work: Work, shared: Any, gpus: int) -> None:
        self._shared = ray.put(shared)
        self._remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0)(work)

    def submit(self, job: Job) -> Future[Result]:
        future: Future[Result] = self._remote.remote(self._shared, dict(job)).future()
        return future


class _Dask:
    """A Dask cluster."""

    ahead = math.inf

    def __init__(self, client: Any, work: Work, shared: Any) -> None:
        self._work = work
        self._shared = client.scatter(shared, broadcast=True, hash=False)
        self._executor = client.get_executor(pure=False, retries=0)

    def submit(self, job: Job) -> Future[Result]:
        future: Future[Result] = self._executor.submit(self._work, self._shared, dict(job))
        return future


@contextmanager
def _here(address: str, work: Work, shared: Any) -> Iterator[Workers]:
    count = int(address)
    if count == 1:
        yield _Here(work, shared)
        return
    import joblib

    with tempfile.TemporaryDirectory(prefix="closedform-") as folder:
        path = Path(folder) / "shared"
        joblib.dump(joblib.wrap_non_picklable_objects(shared, keep_wrapper=False), path)
        workers = _Processes(count, work, path)
        try:
            yield workers
        finally:
            workers.close()


@contextmanager
def _ray(address: str, work: Work, shared: Any) -> Iterator[Workers]:
    ray = _imported("ray", "ray")
    try:
        ray.init(f"ray://{address}" if address else None, log_to_driver=False, logging_level="error")
        workers = _Ray(ray, work, shared, gpus=int(_on_gpu(shared)))
    except Exception as error:
        hint = "; if it asks for a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN" if address else ""
        raise _unreachable("Ray", address, error, hint) from error
    try:
        yield workers
    finally:
        ray.shutdown()


@contextmanager
def _dask(address: str, work: Work, shared: Any) -> Iterator[Workers]:
    distributed = _imported("distributed", "dask")
    try:
        client = distributed.Client(f"tcp://{address}", timeout=CONNECT)
    except Exception as error:
        raise _unreachable("Dask", address, error) from error
    with client:
        yield _Dask(client, work, shared)


_KINDS: dict[str, Callable[[str, Work, Any], AbstractContextManager[Workers]]] = {
    "here": _here,
    "ray": _ray,
    "dask": _dask,
}


def _imported(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise OptionError(
            f"workers on {extra} need the package {module}; install it with: pip install 'closedform[{extra}]'"
        ) from None


def _unreachable(engine: str, address: str, error: Exception, hint: str = "") -> OptionError:
    place = f" at {address}" if address else ""
    return OptionError(f"no {engine} cluster{place}: {str(error).splitlines()[0] if str(error) else error!r}{hint}")


def _on_gpu(shared: Any) -> bool:
    device = getattr(shared, "device", None)
    return isinstance(device, torch.device) and device.type == "cuda"


@lru_cache(maxsize=1)
def _load(path: str) -> Any:
    import joblib

    return joblib.load(path)


def _load_and_work(work: Work, path: str, job: Job) -> Result:
    return work(_load(path), job)
