"""The progress of ``fit`` and ``distill`` in the user's words, in place of Lightning's bar."""

from __future__ import annotations

from typing import Any, Protocol, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar, TQDMProgressBar
from lightning.pytorch.trainer.states import TrainerFn

from gz_lightning.progress import Bar, say


class Told(Protocol):
    """A LightningModule that tells its progress."""

    def progress(self) -> tuple[float, float, str]:
        """How much is done, how much there is to do in all, and where it is in words."""


class RunBar(ProgressBar):
    """One line for the whole run, from :meth:`Told.progress`: Lightning's own counts epochs that mean nothing here."""

    def __init__(self) -> None:
        super().__init__()
        self.enabled = True
        self.bar: Bar | None = None

    def enable(self) -> None:
        """Show it."""
        self.enabled = True

    def disable(self) -> None:
        """Show nothing, as in all processes of a run but the first."""
        self.enabled = False

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print above the bar."""
        say(" ".join(map(str, args)))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin where the run begins, or goes on."""
        if self.enabled:
            done, total, text = cast(Told, pl_module).progress()
            self.bar = Bar(text, total, done)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *of_batch: Any) -> None:
        """A step further."""
        self._update(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave a line on what was done."""
        if self.bar is not None:
            self._update(pl_module)
            self.bar.close()
            self.bar = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Make room for what is said of it."""
        if self.bar is not None:
            self.bar.close(whole=False)
            self.bar = None

    def _update(self, pl_module: LightningModule) -> None:
        if self.bar is not None:
            done, _, text = cast(Told, pl_module).progress()
            self.bar.update(done, text)


def run_bar(trainer: Trainer) -> list[Callback]:
    """For ``configure_callbacks``: a :class:`RunBar` in place of the bar that a Trainer has by default.

    With ``enable_progress_bar=False`` there is none, and a bar with settings of the user's is left as it is.
    """
    bar = trainer.progress_bar_callback
    if type(bar) not in (RichProgressBar, TQDMProgressBar) or trainer.state.fn != TrainerFn.FITTING:
        return []
    default = RichProgressBar() if isinstance(bar, RichProgressBar) else TQDMProgressBar()
    if vars(bar) != vars(default):
        return []
    trainer.callbacks.remove(bar)  # type: ignore[attr-defined]
    return [RunBar()]
