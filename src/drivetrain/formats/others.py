"""Formats that can be stored and are recognised, though no engine here reads them as they are."""

from __future__ import annotations

from drivetrain.formats.format import Format, ending

_CONVERT = "Convert it to GGUF (with convert_hf_to_gguf.py), or log it with mlflow."
_SAFETENSORS = (".safetensors",)
_ONNX = (".onnx",)

OTHERS = (
    Format(name="safetensors", title="safetensors", find=ending(*_SAFETENSORS), endings=_SAFETENSORS, advice=_CONVERT),
    Format(name="onnx", title="ONNX", find=ending(*_ONNX), endings=_ONNX, advice="Log it with mlflow.onnx."),
    Format(name="torch", title="PyTorch", find=ending(".bin", ".pt", ".pth", ".pkl"), runs_code=True, advice=_CONVERT),
)
