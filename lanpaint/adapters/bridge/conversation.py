"""Two sides that take turns in one thread: a worker that asks, and a host that answers.

    conversation = Conversation(worker)         worker() calls conversation.ask(question) as often as it likes
    question = conversation.begin()             runs the worker until it asks, or to its end
    question = conversation.answer(answer)      and so on, until conversation.result is there

The worker is plain, synchronous code. It runs in a greenlet, which keeps its stack while the host works.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch


def greenlet_module() -> Any:
    """The package greenlet.

    Raises:
        ImportError: When it is missing.
    """
    try:
        import greenlet
    except ImportError as error:
        raise ImportError(
            "a sampler inside a pipeline needs greenlet; install it with: pip install greenlet"
        ) from error
    return greenlet


class Conversation:
    """A worker that waits for an answer whenever it asks.

    Args:
        worker: What to run; its result ends the conversation.

    Attributes:
        result: What the worker has returned; None until then.
    """

    def __init__(self, worker: Callable[[], Any]) -> None:
        self._worker = greenlet_module().greenlet(worker)
        self.result: Any = None

    @property
    def is_waiting(self) -> bool:
        """Whether the worker waits for an answer."""
        return self._worker is not None and not self._worker.dead

    def begin(self) -> Any:
        """Run the worker until it asks or ends; returns its question, or None at its end."""
        return self._switch(self._worker.switch)

    def answer(self, answer: Any) -> Any:
        """Give the worker its answer, and run it until it asks again or ends; returns the question, or None."""
        return self._switch(self._worker.switch, answer)

    def ask(self, question: Any) -> Any:
        """The worker's side: ask, and wait for the answer.

        Raises:
            RuntimeError: When something else than the worker asks.
        """
        if self._worker is None or self._worker is not greenlet_module().getcurrent():
            raise RuntimeError("this score answers only to the sampler that runs inside the pipeline")
        with _own_gradient_mode():
            return self._worker.parent.switch(question)

    def close(self) -> None:
        """End the worker where it stands, if it has not come to its end."""
        if self.is_waiting:
            self._switch(self._worker.throw)
            self.result = None
        self._worker = None

    def _switch(self, switch: Callable[..., Any], *values: Any) -> Any:
        worker = self._worker
        worker.parent = greenlet_module().getcurrent()
        with _own_gradient_mode():
            handed = switch(*values)
        if worker.dead:
            self.result, self._worker = handed, None
            return None
        return handed


@contextlib.contextmanager
def _own_gradient_mode() -> Iterator[None]:
    """Each side finds the gradient mode that it left; PyTorch keeps one for the thread."""
    enabled = torch.is_grad_enabled()
    try:
        yield
    finally:
        torch.set_grad_enabled(enabled)
