"""Everything that is asked of Ray. The rest of the driver works with what this gives it."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import tempfile
import warnings
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from .... import leaving
from ....errors import MachineError
from ....text import first_line
from ..restorer import OpenOptions
from .address import ClusterOptions
from .messages import Connect, Connected

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_PROMPT_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
}
"""What keeps Ray from reporting its use, and from printing. The user's own settings come first."""
_STORE_BYTES = 256 << 20
"""The object store of a cluster that is started for a run. It holds a part of a piece per device."""
_LONGEST_FOLDER = 30
"""Ray's sockets lie in its folder, and their names have at most 107 bytes."""
_FETCH_S = 120.0
_REACH_S = 5.0
_CLOSE_S = 5.0
"""How long all actors together may take to clean up."""


class Connection:
    """A cluster of Ray that this process uses.

    options: how its actors run bundles. lost: the errors of `answer` when an actor or its node is gone or failed.
    """

    def __init__(self, connect: Connect, ray: Any, folder: Path | None) -> None:
        """folder: of the cluster, if it was started for this run."""
        self._ray, self._gpu, self._folder = ray, connect.gpu, folder
        self._local = connect.cluster.address == "local"
        self.lost: type[Exception] = ray.exceptions.RayError
        counts = [int(node["Resources"].get("CPU", 0)) for node in self._alive()]
        self._cpus = connect.options.threads or min((count for count in counts if count), default=1)
        self.options: OpenOptions = connect.options if self._gpu else replace(connect.options, threads=self._cpus)

    @classmethod
    def open(cls, connect: Connect) -> Connection:
        """Connect, or start a cluster. Raises `ImportError` without Ray, `MachineError` if the cluster has no device,
        and whatever Ray raises."""
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        warnings.simplefilter("ignore")
        import ray

        address, folder = connect.cluster.address, None
        check_reachable(connect.cluster)
        settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
        if address == "local":
            folder = _new_folder()
            settings |= {"include_dashboard": False, "object_store_memory": _STORE_BYTES}
            settings |= {} if folder is None else {"_temp_dir": str(folder)}
        try:
            ray.init(address, **settings)
        except ConnectionError as error:
            if address != "auto":
                raise
            raise MachineError(
                "no cluster of Ray was found from this machine: start one (ray start --head), name one "
                "(--cluster ray://HOST:10001), or use --cluster local"
            ) from error
        connection = cls(connect, ray, folder)
        if not connection.capacity():
            lack = "no GPU" if connect.gpu else f"no node with {connection._cpus} CPUs"
            advice = "start its nodes with GPUs, or use a bundle for the CPU" if connect.gpu else "give fewer --threads"
            connection.close()
            raise MachineError(f"the cluster ({address}) has {lack}: {advice}")
        return connection

    @property
    def described(self) -> Connected:
        """Its nodes and devices."""
        nodes = [node for node in self._alive() if self._devices_of(node)]
        gpus = 0 if self._gpu else sum(int(node["Resources"].get("GPU", 0)) for node in self._alive())
        return Connected(tuple(str(node["NodeManagerHostname"]) for node in nodes), self.capacity(), gpus)

    def capacity(self) -> int:
        """How many devices it has."""
        return sum(map(self._devices_of, self._alive()))

    def start(self, kind: type) -> Any:
        """An actor for one device. Ray places it, as soon as a device is free."""
        needs = {"num_gpus": 1, "num_cpus": 0} if self._gpu else {"num_cpus": self._cpus}
        return self._ray.remote(kind).options(max_restarts=0, max_task_retries=0, **needs).remote()

    def put(self, value: object) -> Any:
        """A reference to an object that many actors need."""
        return self._ray.put(value)

    def ready(self, references: list[Any], timeout_s: float) -> list[Any]:
        """The answers that are there, without fetching them. Waits so long for the first one."""
        if not references:
            return []
        there, others = self._ray.wait(references, num_returns=1, timeout=timeout_s, fetch_local=False)
        if there and others:
            more, _ = self._ray.wait(others, num_returns=len(others), timeout=0, fetch_local=False)
            there = [*there, *more]
        return list(there)

    def answer(self, reference: Any) -> Any:
        """Fetch an answer. Raises one of `lost`."""
        return self._ray.get(reference, timeout=_FETCH_S)

    def why(self, error: Exception) -> str:
        """What is the matter with an actor, in one line."""
        cause = getattr(error, "cause", None)
        if isinstance(error, self._ray.exceptions.RayTaskError) and isinstance(cause, BaseException):
            return f"{type(cause).__name__}: {first_line(cause)}"
        text = str(error)
        if "ModuleNotFoundError" in text:
            return "swiftvr-trt is not installed there, or in another version: install it on every node"
        if "node" in text and ("died" in text or "dead" in text):
            return "its node is gone"
        return "its process ended unexpectedly"

    def kill(self, actor: Any) -> None:
        """End an actor at once."""
        self._ray.kill(actor, no_restart=True)

    def dismiss(self, actors: list[Any]) -> None:
        """Let actors clean up, all at the same time, and end them."""
        with suppress(self.lost):
            closing = [actor.close.remote() for actor in actors]
            if closing:
                self._ray.wait(closing, num_returns=len(closing), timeout=_CLOSE_S, fetch_local=False)
        for actor in actors:
            self.kill(actor)

    def close(self) -> None:
        """Leave the cluster, and end it if it was started for this run."""
        self._ray.shutdown()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def abandon(self) -> None:
        """Leave the cluster in no time. It ends the actors of a driver that is gone."""
        if self._local:
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.NoSuchProcess):  # it has ended since
                    process.kill()
        else:
            self._ray.shutdown()

    def _alive(self) -> list[dict[str, Any]]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def _devices_of(self, node: dict[str, Any]) -> int:
        resources = node["Resources"]
        return int(resources.get("GPU", 0)) if self._gpu else int(resources.get("CPU", 0)) // self._cpus


def check_reachable(cluster: ClusterOptions) -> None:
    """Raise `MachineError` if nobody listens at the address. Ray would try for minutes."""
    if cluster.place is None:
        return
    try:
        socket.create_connection(cluster.place, timeout=_REACH_S).close()
    except OSError as error:
        host, port = cluster.place
        raise MachineError(
            f"nothing answers at {host}:{port} ({error.strerror or error}): start Ray there (ray start --head), or "
            "check the address; the port is 10001 for ray://, and 6379 without"
        ) from error


def _new_folder() -> Path | None:
    """A folder for a cluster; None if its name would be too long, and then Ray uses its own."""
    if len(tempfile.gettempdir()) > _LONGEST_FOLDER:
        return None
    folder = Path(tempfile.mkdtemp(prefix="swiftvr-ray-"))
    leaving.hold_path(folder)
    return folder
