"""Processes under ``torchrun``: NCCL on GPUs, gloo on CPUs."""

from __future__ import annotations

import logging
import os

import torch
import torch.distributed as dist

from common.errors import UserError


def local_device() -> torch.device:
    """This process's GPU, or the CPU where there is none."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def start() -> None:
    """Join the process group; only the first process logs.

    Raises:
        UserError: the program was not started by ``torchrun``.
    """
    if "RANK" not in os.environ:
        raise UserError(
            "multi_gpu_train.json: start it with torchrun --nproc_per_node=N -m monai.bundle run training "
            "--config_file \"['configs/train.json','configs/multi_gpu_train.json']\""
        )
    if not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    if torch.cuda.is_available():
        torch.cuda.set_device(local_device())
    if dist.get_rank():
        logging.disable(logging.INFO)


def stop() -> None:
    """Leave the process group."""
    if dist.is_initialized():
        dist.destroy_process_group()


def wrap(network: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """``network`` on ``device`` inside ``DistributedDataParallel``.

    Parameters without a gradient in a step are looked for: a loss may leave out a part of the network in some steps,
    at which DDP would stop.
    """
    ids = [device] if device.type == "cuda" else None
    return torch.nn.parallel.DistributedDataParallel(network.to(device), device_ids=ids, find_unused_parameters=True)
