"""A network as it is deployed: without what only training needs, checked by the names of nodes and parameters."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from common.errors import UserError

# nodes that only training has; "aten" of TorchScript and .pt2, the others of ONNX
_RANDOM = (
    "dropout", "alpha_dropout", "feature_dropout", "native_dropout", "bernoulli", "rand", "randn", "rand_like",
    "randn_like", "randint", "normal", "multinomial", "Dropout", "RandomNormal", "RandomNormalLike", "RandomUniform",
    "RandomUniformLike", "Bernoulli", "Multinomial",
)  # fmt: skip


def deployed(network: nn.Module, example: tuple[torch.Tensor, ...]) -> nn.Module:
    """A copy in eval mode without dropout, whose state dict holds what the logits depend on and nothing else.

    What the graph of a trace does not reach is taken out of the parameters: the tensors stay as plain attributes, for
    dead code still names them, and no format writes those.

    Args:
        network: any that is called with ``example``.
        example: its inputs.
    """
    plain = copy.deepcopy(network).eval().requires_grad_(False)
    for module in list(plain.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.modules.dropout._DropoutNd):
                setattr(module, name, nn.Identity())
    used = _reached(traced(plain, example))
    keep = {id(tensor) for name, tensor in tensors(plain) if name in used}
    for module in plain.modules():
        for store in (module._parameters, module._buffers):
            for name in [n for n, t in store.items() if t is not None and id(t) not in keep]:
                tensor = store.pop(name)
                module.__dict__[name] = tensor.detach()
    return plain


def traced(network: nn.Module, example: tuple[torch.Tensor, ...]) -> torch.jit.ScriptModule:
    """A trace in eval mode; parity is measured by the caller, with other inputs."""
    with torch.no_grad():
        return torch.jit.trace(network, example, check_trace=False)


def tensors(network: nn.Module) -> Iterable[tuple[str, torch.Tensor]]:
    """Names and values of all parameters and buffers, those included that no state dict has."""
    yield from network.named_parameters(remove_duplicate=False)
    yield from network.named_buffers(remove_duplicate=False)


def _reached(script: torch.jit.ScriptModule) -> set[str]:
    """Names of the tensors that the output of a trace depends on."""
    graph = script.inlined_graph.copy()
    torch._C._jit_pass_lower_all_tuples(graph)
    torch._C._jit_pass_dce(graph)
    paths = {next(graph.inputs()).debugName(): ""}
    found = set()
    for node in graph.nodes():
        if node.kind() == "prim::GetAttr":
            path = f"{paths[next(node.inputs()).debugName()]}.{node.s('name')}"
            paths[node.output().debugName()] = path
            if node.output().type().kind() == "TensorType":
                found.add(path[1:])
    return found


def check_script(script: torch.jit.ScriptModule, allowed: set[str], prefix: str) -> None:
    """Refuse a TorchScript module with nodes or parameters of training.

    Args:
        script: a module whose trace is its child ``prefix``.
        allowed: names of the deployed network's state dict.
        prefix: what the names have before them.

    Raises:
        UserError: naming the first of them.
    """
    names = {key.removeprefix(prefix) for key in script.state_dict() if key.startswith(prefix)}
    _refuse("model.ts", names - allowed, (node.kind().partition("::")[2] for node in script.inlined_graph.nodes()))


def check_program(program: torch.export.ExportedProgram, allowed: set[str]) -> None:
    """Refuse a ``.pt2`` program with nodes or parameters of training, as :func:`check_script`."""
    names = set(program.state_dict) | set(program.constants)
    called = (str(node.target).split(".")[1] for node in program.graph.nodes
              if node.op == "call_function" and str(node.target).startswith("aten."))  # fmt: skip
    _refuse("model.pt2", names - allowed, called)


def without_dead_code(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The same program, changed in place, without what its outputs do not depend on."""
    graph, signature = program.graph, program.graph_signature
    # by default attention counts as random, for it could drop out
    graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output") or "assert" in str(node.target))
    inputs = set(signature.user_inputs)
    dead = {n.name: n for n in graph.nodes if n.op == "placeholder" and not n.users and n.name not in inputs}
    for spec in [spec for spec in signature.input_specs if spec.arg.name in dead]:
        signature.input_specs.remove(spec)
        program.constants.pop(spec.target, None)
        program.state_dict.pop(spec.target, None)
        graph.erase_node(dead[spec.arg.name])
    program.graph_module.recompile()
    return program


def check_onnx(model: Any, kept: Mapping[str, torch.Tensor], removed: set[str]) -> None:
    """Refuse an ONNX model that is invalid, or with other operators than the standard's, or with parts of training.

    Args:
        model: an ``onnx.ModelProto``.
        kept: the deployed network's tensors.
        removed: names of the trained network's that are not among them.

    Raises:
        UserError: naming the first fault.
    """
    import onnx

    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise UserError(f"model.onnx: the checker refuses it: {' '.join(str(error).split())[:200]}") from error
    foreign = {o.domain for o in model.opset_import} | {n.domain for n in model.graph.node} | {
        f.domain for f in model.functions}  # fmt: skip
    foreign -= {"", "ai.onnx"}
    if foreign:
        raise UserError(
            f"model.onnx: operators of {', '.join(sorted(foreign))}, which other runtimes do not have; change the "
            f"network to an export-friendly form"
        )
    kinds = [node.op_type for node in model.graph.node]
    kinds += ["Dropout" for node in model.graph.node if any(a.name == "training_mode" and a.i for a in node.attribute)]
    names = {tensor.name for tensor in model.graph.initializer}
    _refuse("model.onnx", names & removed, kinds)
    # the exporter renames what it transposes: the amount says whether something came along unnamed
    held = sum(math.prod(tensor.dims) for tensor in model.graph.initializer)
    most = sum(tensor.numel() for tensor in kept.values())
    if held > 1.05 * most + 20_000:
        raise UserError(f"model.onnx: holds {held} numbers, the network {most}; something of training is among them")


def _refuse(file: str, names: set[str], kinds: Iterable[str]) -> None:
    random = sorted({kind for kind in kinds if kind.rstrip("_") in _RANDOM})
    if random or names:
        what = f"the node {random[0]}" if random else f"the parameter {min(names)}"
        raise UserError(f"{file}: {what} is of training only; leave it out of the network's eval mode")
