"""Checkpoints as safetensors: any nest of tensors and plain values, and a Lightning trainer that keeps its state so.

    save_state({"settings": net.settings, "weights": dict(net.state_dict())}, "net.safetensors")
    make_trainer(folder, epochs=3).fit(module, batches)  # leaves folder/last.safetensors
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from . import files
from .errors import InputError


def _take_apart(value, tensors: dict):
    """A nest of dicts, lists, tensors and plain values as JSON; tensors go into `tensors` under numbers."""
    import torch

    if isinstance(value, torch.Tensor):
        tensors[str(len(tensors))] = value.detach().cpu().contiguous().clone()
        return {"tensor": str(len(tensors) - 1)}
    if isinstance(value, dict):
        return {"dict": [[_take_apart(k, tensors), _take_apart(v, tensors)] for k, v in value.items()]}
    if isinstance(value, list | tuple):
        return {"tuple" if isinstance(value, tuple) else "list": [_take_apart(v, tensors) for v in value]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    raise InputError(f"the state holds something of type {type(value).__name__}, neither a tensor nor plain data; leave it out")


def _put_together(value, tensors: dict):
    """What `_take_apart` took apart."""
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {_put_together(k, tensors): _put_together(v, tensors) for k, v in content}
    parts = [_put_together(v, tensors) for v in content]
    return tuple(parts) if kind == "tuple" else parts


def save_state(state: dict, path: str | Path) -> None:
    """Any nest of tensors and plain values (weights, an optimiser's state, a Lightning checkpoint) as one safetensors file.

    Written to a temporary name and moved: an old file stays whole if this is cut. No pickle. Raises InputError for other things.
    """
    from safetensors.torch import save_file

    tensors: dict = {}
    plan = json.dumps(_take_apart(state, tensors))
    with files.atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"plan": plan})


def load_state(path: str | Path) -> dict:
    """What `save_state` wrote. Raises InputError for a file that is not there, cut short, or something else."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            plan = json.loads((file.metadata() or {})["plan"])
        return _put_together(plan, tensors)
    except FileNotFoundError as error:
        raise InputError(f"checkpoint {Path(path).name} is not there; give the path of one that was saved") from error
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise InputError(f"checkpoint {Path(path).name} is damaged or not one of this book's ({error}); use an older one") from error


def make_trainer(
    folder: str | Path,  # where checkpoints go, one an epoch: last.safetensors
    epochs: int,
    device: str = "cpu",  # or "cuda"
    processes: int = 1,  # DDP over gloo (CPU) or NCCL from 2 up
    mixed: bool = False,  # bfloat16 where it is safe; on "cuda" alone
    partial: bool = False,  # a step may leave parameters without a gradient; DDP must know
) -> Any:  # a Trainer
    """A Lightning trainer that keeps one checkpoint an epoch as safetensors; `fit(..., ckpt_path=...)` goes on from it exactly."""
    from pytorch_lightning import Trainer
    from pytorch_lightning.callbacks import ModelCheckpoint
    from pytorch_lightning.plugins.io import CheckpointIO

    class SafetensorsIO(CheckpointIO):
        def save_checkpoint(self, checkpoint: dict, path, storage_options=None) -> None:
            save_state(checkpoint, path)

        def load_checkpoint(self, path, map_location=None, weights_only=None) -> dict:
            return load_state(path)

        def remove_checkpoint(self, path) -> None:
            Path(path).unlink(missing_ok=True)

    keep = ModelCheckpoint(folder, filename="last", save_top_k=1, monitor=None, every_n_epochs=1, enable_version_counter=False)
    keep.FILE_EXTENSION = ".safetensors"
    ddp = "ddp_find_unused_parameters_true" if partial else "ddp"
    return Trainer(
        default_root_dir=folder,
        max_epochs=epochs,
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=processes,
        precision="bf16-mixed" if mixed and device == "cuda" else "32-true",
        strategy=ddp if processes > 1 else "auto",
        callbacks=[keep],
        plugins=[SafetensorsIO()],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
