"""Job descriptions of BK.Synapse (2019): its `config.json` as the settings that mean the same here.

| config.json                  | here                                                                             |
|------------------------------|----------------------------------------------------------------------------------|
| `model`                      | `train.model`: folder with bks_model.py                                           |
| `dataset`                    | `train.data_path`: folder of raw data                                             |
| `dataLoader`                 | `train.data`: folder with bks_dataset.py                                          |
| `valDataset`, `valDataLoader`| `train.data_args.val_path`, `.val_loader`                                         |
| `epochs`, `batchSize`        | `train.epochs` [50], `train.batch` of each rank [32]                              |
| `optimizer`, `learningRate`  | `train.optimizer` [sgd], `train.lr` [0.001]; no momentum, rate x number of ranks  |
| `snapshotInterval`           | `train.checkpoint_every` epochs [5]; all are kept                                 |
| `gradNorm`                   | `train.clip_norm`; null or 0 is none                                              |
| `nodeType`                   | `gpu`: one GPU on each node, unless `--gpus` says more; `cpu`: none               |
| `nodes`                      | `resources.nodes`: their number; which nodes they are, the queue decides          |

A name (`"model": "retinanet"`) is looked for in `models`, `dataloaders` and `datasets` of the data root (the one in
whose `jobs` folder the file lies, or BKSYN_DATA_ROOT), then beside the file; else it names an entry of the store
(`store:retinanet`). A path is a path. Site, further options and `--set` apply as for a run.toml.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from hpcsynapse import fields
from hpcsynapse.errors import SpecError
from hpcsynapse.usercode.checks import STORED, is_folder

_LARGEST = 2**20  # bytes; real ones have some hundred
_KINDS: dict[str, Any] = {
    "model": str,
    "dataset": str,
    "dataLoader": str,
    "valDataset": str | None,
    "valDataLoader": str | None,
    "epochs": int,
    "batchSize": int,
    "optimizer": str,
    "learningRate": float,
    "snapshotInterval": int,
    "gradNorm": float | None,
    "nodeType": str,
    "nodes": Any,
    "backend": str,
}
_REQUIRED = ("model", "dataset", "dataLoader")
_FOLDERS = {
    "model": "models",
    "dataset": "datasets",
    "dataLoader": "dataloaders",
    "valDataset": "datasets",
    "valDataLoader": "dataloaders",
}
_DIRECT = {
    "epochs": "epochs",
    "batchSize": "batch",
    "optimizer": "optimizer",
    "learningRate": "lr",
    "snapshotInterval": "checkpoint_every",
}
_DEFAULTS = {
    "epochs": 50,
    "batchSize": 32,
    "optimizer": "sgd",
    "learningRate": 1e-3,
    "snapshotInterval": 5,
    "nodeType": "cpu",
    "nodes": 1,
    "backend": "pytorch",
}


def read(path: Path) -> dict[str, Any]:
    """Return the settings that a `config.json` stands for; raises SpecError naming file, key and value."""
    job = {**_DEFAULTS, **_checked(path, _load(path))}
    places = {key: _place(path, folder, job[key]) for key, folder in _FOLDERS.items() if job.get(key)}
    train: dict[str, Any] = {name: job[key] for key, name in _DIRECT.items()}
    train |= {"model": places["model"], "data": places["dataLoader"], "data_path": places["dataset"]}
    train |= {"momentum": 0.0, "lr_scaling": "linear"}
    train["keep_checkpoints"] = min(10_000, max(2, train["epochs"]))
    own = {"val_path": places.get("valDataset"), "val_loader": places.get("valDataLoader")}
    train["data_args"] = {name: value for name, value in own.items() if value}
    if job.get("gradNorm"):
        train["clip_norm"] = job["gradNorm"]
    resources = {"nodes": _count(path, job["nodes"]), "gpus": int(job["nodeType"] == "gpu")}
    return {"train": train, "resources": resources}


def _load(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST + 1)
        if len(text) > _LARGEST:
            raise SpecError(f"{path}: more than {_LARGEST} bytes are no description of a job")
        job = json.loads(text.decode("utf-8"))
    except OSError as error:
        raise SpecError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{path}: not JSON: {fields.why_unreadable(error)}") from None
    if not isinstance(job, dict):
        raise SpecError(f"{path}: a job of BK.Synapse is an object with keys, not {type(job).__name__}")
    return job


def _checked(path: Path, job: dict[str, Any]) -> dict[str, Any]:
    for key in job:
        if key not in _KINDS:
            raise SpecError(f"{path}: unknown key {key!r}{fields.nearest(key, _KINDS)}")
    for key in _REQUIRED:
        if not job.get(key):
            raise SpecError(f"{path}: {key} is missing")
    found = {key: fields.coerce(f"{path}: {key}", _KINDS[key], value) for key, value in job.items()}
    for key, choices in (("nodeType", ("cpu", "gpu")), ("backend", ("pytorch",))):
        if found.get(key, choices[0]) not in choices:
            raise SpecError(f"{path}: {key} = {found[key]!r} is not one of {', '.join(choices)}")
    return found


def _count(path: Path, nodes: Any) -> int:
    """Return the number of nodes from a list of names, or of objects with a name, or a number."""
    if isinstance(nodes, int) and not isinstance(nodes, bool):
        return nodes
    names = [node.get("name") if isinstance(node, dict) else node for node in nodes] if isinstance(nodes, list) else []
    if not isinstance(nodes, list) or not all(isinstance(name, str) for name in names):
        raise SpecError(f"{path}: nodes = {nodes!r:.200} must be a list of nodes by name, or their number")
    if len(set(names)) != len(names):
        raise SpecError(f"{path}: nodes names {next(name for name in names if names.count(name) > 1)!r} twice")
    return max(1, len(names))


def _place(path: Path, folder: str, value: str) -> str:
    """Return the path that a name stands for, or the entry of the store."""
    if is_folder(value):
        return value
    fields.printable(f"{path}: name in {folder}", value)
    beside = path.absolute().parent
    roots = [beside.parent.parent] if beside.parent.name == "jobs" else []
    if named := os.environ.get("BKSYN_DATA_ROOT"):
        roots.append(Path(named).absolute())
    found = (*(root / folder / value for root in roots), beside / value)
    return next((str(place) for place in found if place.is_dir()), STORED + value)
