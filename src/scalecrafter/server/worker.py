"""A process that makes pictures: claim one from the store, make it, write its file, mark it as done, and again.

    python -m scalecrafter.server.worker < pipe

The first line of the pipe is a `WorkerArguments`. When the pipe ends, the worker ends too: it finishes its picture, or
puts it back into the queue after the grace period. The pipe of a killed server ends as well. Workers are processes of
their own for two reasons: a picture keeps torch and the interpreter busy for seconds, and a process that runs out of
memory can be replaced.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import secrets
import signal
import sys
import threading
import time
from pathlib import Path

from PIL import Image

from ..errors import ModelError, ScaleCrafterError
from .claims import Claims, FinishedPicture
from .database import Database
from .failures import public
from .folders import Folders, make_private
from .records import Claim, Failure, ModelFacts
from .uploads import PICTURE_FIELDS, with_pictures
from .worker_arguments import WRONG_SETTINGS, WorkerArguments
from .worker_lock import WorkerLock

_IDLE = 0.05
_log = logging.getLogger("scalecrafter.server.worker")


class PictureWorker:
    """One process that makes pictures."""

    def __init__(self, task: WorkerArguments, stop: threading.Event) -> None:
        from .models import Models

        self.settings = task.settings
        self.folders = Folders(task.settings.data)
        self.id = secrets.token_hex(8)
        self.lock = WorkerLock(self.folders.workers, self.id)
        self._keys = task.settings.model_keys
        served = [*self._keys, *self._keys.values()]
        self.claims = Claims(Database(self.folders.jobs), self.id, task.settings.lease, served)
        self.models = Models(task.settings, device_of(task.settings.device, task.index))
        self.stop = stop
        self._stopped_at: float | None = None
        self._ready = False
        self._published: set[str] = set()
        self._claim: Claim | None = None
        self._lost = False

    def run(self) -> None:
        """Make pictures until `stop` is set (`ModelError` for a missing model)."""
        ended = threading.Event()
        heartbeats = threading.Thread(target=self._send_heartbeats, args=(ended,), name="heartbeats", daemon=True)
        heartbeats.start()
        try:
            self._prepare()
            while not self.stop.is_set():
                claim = self.claims.claim()
                if claim is None:
                    self.stop.wait(_IDLE)
                else:
                    self._make(claim)
        finally:
            ended.set()
            heartbeats.join(10)
            self.claims.leave()
            self.lock.release()

    def _prepare(self) -> None:
        """Load the first model, publish the facts of all models, and report that this worker is ready."""
        self._check_settings()
        _keep_prompts_out_of_the_log()
        self.models.get(self.settings.default_model)
        for name in self.settings.models:
            self._publish(name, self.models.facts(name))
        self._ready = True
        self.claims.heartbeat(True)

    def _publish(self, name: str, facts: ModelFacts | None) -> None:
        """Tell the server of a model, once: some tell nothing before they are loaded."""
        if facts is not None and name not in self._published:
            self.claims.publish_facts(self._keys[name], facts)
            self._published.add(name)

    def _check_settings(self) -> None:
        """Raise `ModelError` for settings with which every picture would fail."""
        from ..vae import parse_memory_budget

        self.models.check()
        try:
            parse_memory_budget(self.settings.vae_memory)
        except ScaleCrafterError as error:
            raise ModelError(str(error)) from None

    def _make(self, claim: Claim) -> None:
        from .progress import NotWantedError, StoppingError

        self._claim, self._lost = claim, False
        try:
            self._picture(claim)
        except NotWantedError:
            _log.info("picture %s is no longer wanted", claim.picture)
        except StoppingError:
            self.claims.give_back(claim)
        except ScaleCrafterError as error:
            self.claims.fail(claim, Failure(public(error), _is_clients(error)))
        except Exception as error:
            _log.exception("picture %s failed", claim.picture)
            message = f"the server failed while it made the picture ({type(error).__name__}); its log has the details"
            self.claims.fail(claim, Failure(message, False))
            if type(error).__name__ == "AcceleratorError":  # the GPU is unusable for the rest of this process
                raise
        finally:
            self._claim = None

    def _picture(self, claim: Claim) -> None:
        target = self.folders.picture(claim.picture)
        made = _already_made(target)
        if made is None:
            made = self._generate(claim, target)
        if not self.claims.finish(claim, made) and not self.claims.is_wanted(claim):
            target.unlink(missing_ok=True)

    def _generate(self, claim: Claim, target: Path) -> FinishedPicture:
        from ..generation.generate import generate
        from ..generation.picture_files import save_picture
        from ..models.denoisers import read_model
        from ..request.enlarge_source import source_size
        from .models import facts_of
        from .progress import ProgressReporter

        pipe = self.models.get(claim.request.model)
        request = claim.request
        names = {field: getattr(request, field) for field in PICTURE_FIELDS if getattr(request, field) is not None}
        paths = {field: str(self.folders.upload(name)) for field, name in names.items()}
        own = source_size(paths["image"]) if "image" in paths else None
        facts = facts_of(read_model(pipe))
        self._publish(request.model, facts)
        settled = facts.settle(request, own)
        self.settings.limits.check(settled)
        request = request if own is not None else settled  # what its image decides is left to be decided, and told
        progress = ProgressReporter(self.claims, claim, pipe.vae, self._must_stop, lambda: self._lost)
        result = generate(pipe, with_pictures(request, paths), progress, vae_memory=self.settings.vae_memory)
        # The picture must not show where this server keeps its files.
        result = dataclasses.replace(result, request=with_pictures(result.request, names))
        make_private(save_picture(result, target))
        return FinishedPicture(result.seconds, target.stat().st_size, *result.image.size, result.notes)

    def _must_stop(self) -> bool:
        if not self.stop.is_set():
            return False
        if self._stopped_at is None:
            self._stopped_at = time.monotonic()
        return time.monotonic() - self._stopped_at >= self.settings.grace

    def _send_heartbeats(self, ended: threading.Event) -> None:
        """Renew worker and claim, even while one step takes longer than the lease."""
        while not ended.is_set():
            try:
                self._must_stop()  # starts the grace period
                self.claims.heartbeat(self._ready)
                claim = self._claim
                if claim is not None and not self.claims.renew(claim) and claim is self._claim:
                    self._lost = True
            except Exception:
                _log.exception("cannot give a heartbeat; trying again")
            ended.wait(min(self.settings.lease / 4, 2.0))


def _keep_prompts_out_of_the_log() -> None:
    """Diffusers' warnings about long prompts contain the prompts."""
    from diffusers.utils import logging as diffusers_logging

    diffusers_logging.set_verbosity_error()


def device_of(device: str, index: int) -> str:
    """The device of the worker of that index: with "auto" and several GPUs they take them in turn."""
    if device != "auto":
        return device
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return f"cuda:{index % gpus}" if gpus > 1 else "auto"


def _is_clients(error: ScaleCrafterError) -> bool:
    """Whether another request would do better; the models are the server's choice."""
    return error.users_fault and not isinstance(error, ModelError)


def _already_made(path: Path) -> FinishedPicture | None:
    """A picture whose worker died after it wrote the file; None if there is no whole file."""
    try:
        with Image.open(path) as image:
            image.load()
            return FinishedPicture(0.0, path.stat().st_size, *image.size)
    except (OSError, SyntaxError, ValueError):
        return None


def _stop_when_the_pipe_ends(stop: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    stop.set()


def _first_line() -> str:
    """Read byte by byte, so that no buffer takes more of the pipe."""
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(0, 1)
        if not piece:
            break
        line += piece
    return line.decode()


def main() -> int:
    """Run a worker until its pipe ends or SIGTERM arrives; the exit code."""
    stop = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the server decides
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s", stream=sys.stderr)
    task = WorkerArguments.model_validate_json(_first_line())
    threading.Thread(target=_stop_when_the_pipe_ends, args=(stop,), name="pipe", daemon=True).start()
    try:
        PictureWorker(task, stop).run()
    except ModelError as error:
        print(f"scalecrafter: {error}", file=sys.stderr)
        return WRONG_SETTINGS
    return 0


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    sys.stderr.flush()
    os._exit(code)  # everything is on the disk; a tidy end of torch takes seconds
