"""Export of a trained bundle to TorchScript, ONNX and PyTorch's ``.pt2``, each usable alone."""
