"""A GPU that is none: tensors on the CPU which behave as if they lay on one.

Enough to find, on any machine, transforms that would fail with data on a GPU: those which read a tensor as an array, or
bring tensors of two devices together. The rules are CUDA's as far as Python sees them.
"""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

FAR, NEAR = torch.device("cuda", 0), torch.device("cpu")
# operations that may bring both together: a copy, and an index on the CPU
BOTH = {"copy_", "__getitem__", "__setitem__"}


def _memory(value: torch.Tensor) -> Any:
    with torch._C.DisableTorchFunction():
        return value.untyped_storage()


def is_far(value: Any) -> bool:
    """Whether a tensor pretends; its memory knows, so that views and subclasses do, too."""
    return isinstance(value, torch.Tensor) and getattr(_memory(value), "far", False)


class FarDevice(TorchFunctionMode):
    """While it is on, ``.to("cuda")`` gives tensors that pretend to be on a GPU."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = func.__name__
        tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, torch.Tensor)]
        far = any(map(is_far, tensors))
        if func == torch.Tensor.device.__get__ and far:
            return FAR
        if func == torch.Tensor.is_cuda.__get__:
            return far
        if name in ("numpy", "__array__") and far:
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy it first.")
        if name in ("cpu", "cuda"):
            return self._moved(args[0].clone(), FAR if name == "cuda" else NEAR)
        if far and name not in BOTH and any(not is_far(value) and value.dim() for value in tensors if name != "to"):
            raise RuntimeError(f"Expected all tensors to be on the same device, but found cuda:0 and cpu, in {name}")
        args, kwargs, target = self._without_device(name, args, kwargs)
        result = func(*args, **kwargs)
        if target is None and tensors and far and name != "__setitem__":
            target = FAR if name not in BOTH or is_far(args[0]) else NEAR
        if target is None:
            return result
        if isinstance(result, torch.Tensor) and any(_memory(result) is _memory(value) for value in tensors):
            # a view, or what a move to another device must not be
            result = result if is_far(result) == (target == FAR) else result.clone()
        return self._moved(result, target)

    @staticmethod
    def _without_device(name: str, args: Any, kwargs: Any) -> tuple[Any, Any, torch.device | None]:
        """The arguments for a call on the CPU, and the device that was asked for."""
        asked = kwargs.pop("device", None)
        if name == "to" and len(args) > 1:
            if is_far(args[1]) or isinstance(args[1], torch.Tensor):
                asked = FAR if is_far(args[1]) else NEAR
            elif isinstance(args[1], torch.device | str):
                asked, args = args[1], (args[0], *args[2:])
        if asked is None:
            return args, kwargs, None
        return args, kwargs, FAR if torch.device(asked).type == "cuda" else NEAR

    @staticmethod
    def _moved(result: Any, target: torch.device) -> Any:
        def mark(value: Any) -> Any:
            if isinstance(value, torch.Tensor):
                _memory(value).far = target == FAR
            return value

        return tree_map(mark, result)
