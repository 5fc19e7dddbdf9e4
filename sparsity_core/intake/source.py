"""Where a model comes from: one's own code, timm, a directory of transformers, an ONNX file."""

import importlib
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from sparsity_core.errors import SparsityError, unknown
from sparsity_core.intake.how import How


def made_by(reference: str, seed: int = 0) -> Any:
    """What the factory at `package.module:factory` returns; it takes nothing or `seed`.

    Imports and runs code: take the reference from the person at the machine only. Raises
    SparsityError for a module or factory that fails.
    """
    module_name, _, attribute = reference.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a module may raise anything on import
        raise SparsityError(
            f"{reference}: module {module_name!r} could not be imported ({said(error)}); "
            "install it or put its folder on PYTHONPATH"
        ) from error
    factory = getattr(module, attribute, None)
    if not callable(factory):
        public = [name for name in vars(module) if not name.startswith("_")]
        raise unknown(f"factory in {module_name}", attribute, public)
    try:
        takes_seed = "seed" in inspect.signature(factory).parameters
        return factory(seed=seed) if takes_seed else factory()
    except SparsityError:
        raise
    except Exception as error:  # a factory is anybody's code
        raise SparsityError(f"{reference}: the factory failed ({said(error)})") from error


def from_timm(name: str, how: How) -> tuple[nn.Module, How]:
    """A model of timm with its pretrained weights, or untrained where a file of weights is given.

    Size, mean and std come from timm's own configuration unless they were said.
    """
    timm = _needs("timm", "timm")
    try:
        model = timm.create_model(name, pretrained=not how.weights)
        config = timm.data.resolve_model_data_config(model)
    except Exception as error:  # whatever timm or its hub raises
        raise SparsityError(
            f"timm:{name}: could not be made ({said(error)}); check the name, or give its weights "
            "with --weights where the hub cannot be reached"
        ) from error
    found = {
        "input_size": how.input_size or tuple(config["input_size"]),
        "mean": how.mean or tuple(config["mean"]),
        "std": how.std or tuple(config["std"]),
    }
    return model, How(**(vars(how) | found))


def from_transformers(where: str) -> nn.Module:
    """A model of transformers: a local directory, or `NAME@COMMIT` of the hub, pinned.

    Only safetensors are read and no code of the directory is run. Raises SparsityError for a name
    of the hub without a commit of 40 digits: a name alone may mean something else tomorrow.
    """
    transformers = _needs("transformers", "hf")
    name, _, commit = where.partition("@")
    local = Path(where).is_dir()
    if not local and not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise SparsityError(
            f"hf:{where}: no directory here; name one, or pin a model of the hub by its commit: "
            "hf:NAME@ and 40 hexadecimal digits"
        )
    options: dict[str, Any] = {"use_safetensors": True, "trust_remote_code": False}
    if local:
        options["local_files_only"] = True
    else:
        options["revision"] = commit
    try:
        source = where if local else name
        config = transformers.AutoConfig.from_pretrained(
            source, **{k: v for k, v in options.items() if k != "use_safetensors"}
        )
        named = (config.architectures or [""])[0]
        kind = getattr(transformers, named, transformers.AutoModel)
        model: nn.Module = kind.from_pretrained(source, **options)
    except Exception as error:  # whatever transformers raises
        raise SparsityError(f"hf:{where}: could not be opened ({said(error)})") from error
    return model


def said(error: Exception) -> str:
    """The error in one line."""
    lines = f"{type(error).__name__}: {error}".splitlines()
    return lines[0]


def _needs(package: str, extra: str) -> Any:
    try:
        return importlib.import_module(package)
    except Exception as error:  # an installation may be broken in any way
        raise SparsityError(
            f"{package} could not be imported ({said(error)}); install it with: "
            f"pip install 'sparsity-explorer[{extra}]'"
        ) from error


def check_module(reference: str, found: Any) -> nn.Module:
    """The module itself; raises SparsityError for anything else."""
    if isinstance(found, nn.Module):
        return found
    what = "a state dict" if isinstance(found, Mapping) else f"a {type(found).__name__}"
    raise SparsityError(
        f"{reference} returned {what}; a factory must return an nn.Module, or a "
        "sparsity_core.task.Task(name, model, train, validation, test)"
    )
