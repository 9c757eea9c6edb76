"""Semi-supervised training with a mean teacher (Tarvainen and Valpola 2017; Semi-MedRef, arXiv 2605.15720)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from ignite.handlers import EMAHandler
from monai.data import DataLoader, DistributedSampler
from monai.data.utils import set_rnd
from monai.engines import PrepareBatchExtraInput, SupervisedTrainer
from monai.transforms import Compose

from common.datasets.fingerprint import fingerprint
from common.errors import UserError
from common.prompts import parse
from common.prompts.tokenizer import Tokenizer
from common.transforms import Mixing, Views

from .checkpoint import plain
from .throughput import UnlabelledEvents
from .unlabelled import VIEW

EVALUATED = ("student", "teacher")


class Teacher(EMAHandler):
    """Ignite's exponential moving average, of all that is trained and of buffers with a fraction; in eval mode.

    What is frozen stays as it was copied: an average of equal numbers would change their last bits, step by step.
    """

    def _update_ema_model(self, engine: Engine, name: str) -> None:
        momentum = getattr(engine.state, name)
        frozen = {key for key, value in self.model.named_parameters() if not value.requires_grad}
        theirs = self.ema_model.state_dict()
        for key, value in self.model.state_dict().items():
            if key in frozen:
                continue
            if value.is_floating_point():
                theirs[key].lerp_(value, momentum)
            else:
                theirs[key].copy_(value)


class MeanTeacherTrainer(SupervisedTrainer):
    """MONAI's supervised trainer, to whose batches unlabelled images come as soon as the loss weighs them.

    A step: the teacher answers the weak views; ``mixing`` changes strong views, answers and sentences of the batch
    together; ``sentence_transforms`` change single sentences; the student gets labelled images, strong views and (for
    their alignment) weak views in one call; the loss is
    :class:`common.losses.SemiMedRefLoss`; then the teacher follows the student. Without unlabelled images, or while
    their weight is 0, this is supervised training.

    A labelled set that is shorter than the unlabelled is gone through several times an epoch, shuffled anew each time,
    in several processes too (the released code draws from it with replacement).

    Args:
        unlabelled: loader of unlabelled images, :func:`common.engines.unlabelled_loader`; None for none (in a
            configuration MONAI then leaves the argument out).
        loss_function: with ``unlabelled_weight``, set before each epoch, and ``align_unlabelled_weight``.
        tokenizer: ``"compact"``, or what :meth:`common.prompts.tokenizer.Tokenizer.of` takes.
        grammar: of the sentences.
        mixing: augmentation of a batch of strong views; None for none.
        sentence_transforms: dictionary transforms of ``text_prompt``, of the strong views' sentences only.
        threshold: probability from which the teacher's answer is lesion, if ``mixing`` has none of its own (eq. 3).
        decay: α of the teacher at first, and at last.
        decay_from: epoch (from 0) from which α rises.
        decay_epochs: epochs in which it does, linearly.
        evaluate: ``"student"`` (the paper's), or ``"teacher"``: then its weights are what is validated and saved as the
            best.
        evaluator: of the validation; needed for ``"teacher"``.
        network: the student.
        train_data_loader: of labelled images.
        epoch_length: steps; None for the longer one of the two loaders.
        supervised: further arguments of ``SupervisedTrainer``.

    Attributes:
        kept: what a resumed run needs beside what every trainer's does, for
            :class:`common.engines.LastCheckpoint`.
        sources: fingerprint of the unlabelled data, for it and the sidecar of the best weights.
        further_batches: events around the request of a batch beside Ignite's own, for
            :class:`common.engines.Throughput`.

    Raises:
        UserError: ``evaluate`` is neither, or the teacher's evaluator is missing.
    """

    further_batches = ((UnlabelledEvents.BATCH_STARTED, UnlabelledEvents.BATCH_COMPLETED),)

    def __init__(
        self,
        *,
        loss_function: Callable,
        tokenizer: str,
        network: torch.nn.Module,
        train_data_loader: DataLoader,
        unlabelled: DataLoader | None = None,
        grammar: str = "chest",
        mixing: Mixing | None = None,
        sentence_transforms: Sequence[Callable] = (),
        threshold: float = 0.55,
        decay: Sequence[float] = (0.99, 0.999),
        decay_from: int = 5,
        decay_epochs: int = 20,
        evaluate: str = "student",
        evaluator: Engine | None = None,
        epoch_length: int | None = None,
        **supervised: Any,
    ) -> None:
        if evaluate not in EVALUATED or (evaluate == "teacher" and evaluator is None):
            raise UserError(f"evaluate: {evaluate!r}, expected student, or teacher and with it the evaluator")
        super().__init__(
            loss_function=loss_function,
            network=network,
            train_data_loader=train_data_loader,
            epoch_length=epoch_length or max(len(train_data_loader), len(unlabelled or ())),
            event_names=[UnlabelledEvents],
            **supervised,
        )
        self.unlabelled, self.mixing, self.grammar = unlabelled, mixing, grammar
        self.sentence_transforms = Compose(list(sentence_transforms))
        self.tokenizer = Tokenizer.of(tokenizer)
        self.threshold = threshold if mixing is None or mixing.threshold is None else mixing.threshold
        self.decay, self.decay_from, self.decay_epochs = tuple(decay), decay_from, decay_epochs
        self.student = plain(network)
        self.averaging = Teacher(self.student, momentum=1 - self.decay[0])
        self.teacher: torch.nn.Module = self.averaging.ema_model
        self.kept = {"teacher": self.teacher}
        self.sources = {"unlabelled": fingerprint(getattr(unlabelled.dataset, "data", []) if unlabelled else [])}
        if evaluator is not None:
            evaluator.sources = self.sources
        self._batches: Any = None
        self.add_event_handler(Events.STARTED, self._say)
        # after the handlers of the configuration, the first of which seeds the epoch
        self.add_event_handler(Events.EPOCH_STARTED, self._begin)
        self.add_event_handler(Events.COMPLETED, self._end)
        self.add_event_handler(Events.DATALOADER_STOP_ITERATION, lambda: self._another_order(self.data_loader))
        self.averaging.attach(self)
        if evaluate == "teacher":
            for event in (Events.STARTED, Events.COMPLETED):
                evaluator.add_event_handler(event, self._swap)

    def start_teacher(self) -> None:
        """Give the teacher the student's weights: those that were loaded after it was made."""
        self.teacher.load_state_dict(self.student.state_dict())

    def alpha(self, epoch: int) -> float:
        """α of the teacher in an epoch, counted from 0."""
        first, last = self.decay
        risen = (epoch - self.decay_from) / self.decay_epochs if self.decay_epochs else float(epoch >= self.decay_from)
        return first + (last - first) * min(max(risen, 0.0), 1.0)

    def _say(self, engine: Engine) -> None:
        """How many images of either kind there are."""
        log, count = logging.getLogger("training"), len(self.data_loader.dataset)
        if self.unlabelled is None:
            log.info("%d labelled images and no unlabelled ones: training is supervised", count)
        else:
            log.info("%d labelled and %d unlabelled images", count, len(self.unlabelled.dataset))

    def _another_order(self, loader: DataLoader) -> None:
        """Where there are several processes: an order of its own for a further pass of the epoch."""
        if isinstance(loader.sampler, DistributedSampler):
            loader.sampler.set_epoch(loader.sampler.epoch + self.state.max_epochs)

    def _begin(self, engine: Engine) -> None:
        """Randomness of the epoch from its seed, unlabelled images from their beginning."""
        epoch = engine.state.epoch
        engine.state.ema_momentum = 1 - self.alpha(epoch - 1)
        self._batches = None
        seeds = [int(seed) for seed in np.random.randint(2**31, size=3)]
        if self.unlabelled is not None:
            set_rnd(self.unlabelled.dataset, seeds[0])
            if isinstance(self.unlabelled.sampler, DistributedSampler):
                self.unlabelled.sampler.set_epoch(epoch)
        self.sentence_transforms.set_random_state(seeds[1])
        if self.mixing is not None:
            self.mixing.set_random_state(seeds[2])
        if dist.is_available() and dist.is_initialized():
            # each process has seen other images; the first one's are what a checkpoint holds
            for buffer in self.teacher.buffers():
                dist.broadcast(buffer, 0)

    def _end(self, engine: Engine) -> None:
        """Let go of the loader, which may have a thread."""
        self._batches = None

    def _iteration(self, engine: SupervisedTrainer, batchdata: dict[str, Any]) -> dict[str, Any]:
        """One step, of labelled and unlabelled images."""
        extra = {"zones": self.zones(batchdata)}
        engine.state.unlabelled_images = 0
        if self.unlabelled is not None and self.loss_function.unlabelled_weight > 0:
            engine.fire_event(UnlabelledEvents.BATCH_STARTED)
            batch = self._next()
            engine.fire_event(UnlabelledEvents.BATCH_COMPLETED)
            engine.state.unlabelled_images = len(batch["image"])
            extra |= self.views(batch)
        self.prepare_batch = PrepareBatchExtraInput({name: name for name in ("text", *extra)})
        return super()._iteration(engine, batchdata | extra)

    def _next(self) -> dict[str, Any]:
        """The next batch of unlabelled images, which begin anew when they are at their end."""
        for _ in range(2):
            if self._batches is None:
                self._batches = iter(self.unlabelled)
            batch = next(self._batches, None)
            if batch is not None:
                return batch
            self._batches = None
            self._another_order(self.unlabelled)
        raise UserError("unlabelled: the loader gives no batch; lower batch_size")

    def zones(self, batch: dict[str, Any]) -> torch.Tensor:
        """Bits of the zones that each sentence of a batch names, (B, Z); none where it stands in for a missing one."""
        found = []
        for sentence, used in zip(batch["text_prompt"], batch["prompt_used"], strict=True):
            zones = parse(sentence, "image", self.grammar).zones
            found.append(zones if used == "given" else (0,) * len(zones))
        return torch.tensor(found)

    @torch.no_grad()
    def views(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """What the student and the loss get of a batch of unlabelled images.

        Returns:
            ``strong`` (b, C, H, W), ``strong_text`` (b, L), ``pseudo`` (b, 1, H, W) of zeros and ones, ``mixed`` (b,)
            bool; and if the loss aligns them ``weak``, ``weak_text`` and ``weak_zones``.
        """
        weak, ids, strong = (
            batch[key].to(self.state.device, non_blocking=self.non_blocking) for key in ("image", "text", VIEW)
        )
        with torch.autocast("cuda", **self.amp_kwargs) if self.amp else nullcontext():
            probability = self.teacher(weak, ids).float().sigmoid()
        given = [used == "given" for used in batch["prompt_used"]]
        unchanged = torch.zeros(len(strong), dtype=torch.bool)
        views = Views(strong, probability, list(batch["text_prompt"]), given, unchanged)
        if self.mixing is not None:
            views = self.mixing(views)
        sentences = [self.sentence_transforms({"text_prompt": sentence})["text_prompt"] for sentence in views.sentences]
        found = {
            "strong": views.image,
            "strong_text": torch.as_tensor(np.stack([self.tokenizer.encode(sentence) for sentence in sentences])),
            "pseudo": (views.probability >= self.threshold).float(),
            "mixed": views.changed,
        }
        if self.loss_function.align_unlabelled_weight:
            found |= {"weak": weak, "weak_text": ids, "weak_zones": self.zones(batch)}
        return found

    @torch.no_grad()
    def _swap(self, engine: Engine) -> None:
        """The teacher's weights into the student and back, around a validation."""
        for mine, theirs in zip(self.student.state_dict().values(), self.teacher.state_dict().values(), strict=True):
            kept = mine.clone()
            mine.copy_(theirs)
            theirs.copy_(kept)
