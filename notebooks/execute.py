"""Execute notebooks, as many at once as there are cores, each in a kernel of its own.

python notebooks/execute.py notebooks/*.ipynb                  # leaves what they give in build/notebooks

Importing the library takes a kernel longer than most notebooks. So it is imported once, here, and each kernel is a fork
of this process: with modules and nothing else. Where forks are not safe (macOS, Windows) kernels are started as ever.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from importlib.metadata import EntryPoint
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import joblib
import nbformat
import pandas as pd
import torch
from ipykernel.kernelapp import IPKernelApp
from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner
from nbclient import NotebookClient

import mechaudio as ma

OUT = Path("build/notebooks")
FORKS = sys.platform == "linux"
AT_ONCE = min(8, joblib.cpu_count(), len(sys.argv[1:]) or 1)  # each takes a gigabyte or two
N_THREADS = max(1, torch.get_num_threads() // AT_ONCE)


class Kernel(ForkProcess):
    """A process that serves a kernel, with the methods that a provisioner asks of it."""

    stdin = stdout = stderr = None

    def poll(self) -> int | None:
        """The exit status, None while it runs."""
        return self.exitcode

    def wait(self) -> int | None:
        """Wait until it ends, and give the exit status."""
        self.join()
        return self.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)


class Forked(LocalProvisioner):
    """Kernels that are forks of this process."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        """Fork one, with the options of the command."""
        self.process = Kernel(target=serve, args=(cmd[cmd.index("-f") :], kwargs["cwd"]))
        self.process.start()
        self.pid = self.process.pid
        return self.connection_info


def serve(options: list[str], folder: str) -> None:
    """Be a kernel, in a loop of its own."""
    signal.set_wakeup_fd(-1)  # the loop of the process that executes would take signals to this one for its own
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    asyncio.set_event_loop(asyncio.new_event_loop())
    torch.set_num_threads(N_THREADS)
    os.chdir(folder)
    IPKernelApp.launch_instance(argv=options, parent_handle=os.getppid())


def import_library() -> None:
    """Import what notebooks import: all public names, and what opening a model does."""
    for room in (ma, ma.analyses, ma.experiments, ma.report, ma.viz):
        for name in dir(room):
            getattr(room, name)
    pd.set_option("display.max_columns", 20)  # here pandas takes itself to be in a terminal, and would cut tables
    torch.set_num_threads(1)  # threads do not survive a fork
    ma.load("tiny", prove=False)


async def execute(path: Path, free: asyncio.Semaphore) -> None:
    """Execute a notebook in its folder once there is room for it, and write it with its outputs."""
    async with free:
        sys.stdout.write(f"Executing {path}\n")
        sys.stdout.flush()
        notebook = nbformat.read(path, 4)
        client = NotebookClient(notebook, timeout=None, resources={"metadata": {"path": str(path.parent)}})
        await client.async_execute()
        nbformat.write(notebook, OUT / path.name)


async def execute_all(paths: list[str]) -> None:
    """Execute notebooks, as many at once as there are cores; the last, which takes longest, is not left to the end."""
    free = asyncio.Semaphore(AT_ONCE)
    await asyncio.gather(*(execute(Path(path), free) for path in reversed(paths)))


def main(paths: list[str]) -> int:
    """Execute each notebook in its folder, and write it with its outputs."""
    if FORKS:
        import_library()
        factory = KernelProvisionerFactory.instance()
        factory.provisioners["forked"] = EntryPoint("forked", f"{__name__}:Forked", factory.GROUP_NAME)
        factory.default_provisioner_name = "forked"
    OUT.mkdir(parents=True, exist_ok=True)
    asyncio.run(execute_all(paths))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
