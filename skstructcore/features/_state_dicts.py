"""Files of weights: read, and compared with what a network needs."""


def read_state_dict(path):
    """The tensors of a file, *.safetensors or as torch.save writes it; no code is run.

    Of the checkpoint of a training run, those of the network alone.
    """
    import torch

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"weights={str(path)!r} cannot be read as a checkpoint: as *.safetensors, or as a "
            f"file of torch.save that holds tensors only ({error})."
        ) from error
    for key in ("teacher", "model", "state_dict"):  # as training runs write it
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise ValueError(f"weights={str(path)!r} holds no state dict (names and tensors).")
    state = {key.removeprefix("module."): tensor for key, tensor in state.items()}
    backbone = {k: tensor for k, tensor in state.items() if k.startswith("backbone.")}
    return {k.removeprefix("backbone."): tensor for k, tensor in (backbone or state).items()}


def check_fit(wrong, source, network):
    """Raise ValueError if something is wrong with the names and shapes of tensors."""
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise ValueError(
            f"{source} does not hold the weights of {network}: "
            f"{'; '.join(sorted(wrong)[:5])}{more}."
        )
