"""Which device computes: the processor, or a GPU where there is one."""

from collections.abc import Sequence


def find_device(device: str, among: Sequence[str] = ("cuda",)) -> str:
    """Name the device to use, or say that it is not there.

    Parameters
    ----------
    device : str
        "auto": the first of `among` that this machine has, else "cpu". "cpu", or a torch device
        ("cuda", "cuda:1", "mps", …; "torch:cpu" for torch on the CPU).
    among : sequence of str, default=("cuda",)

    Returns
    -------
    device : str
        Never "auto".

    Raises
    ------
    ValueError
        If torch cannot compute on the device.

    Examples
    --------
    >>> find_device("cpu")
    'cpu'
    """
    if str(device) == "cpu":
        return "cpu"
    import torch

    if device == "auto":
        is_available = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
        return next((name for name in among if is_available[name]()), "cpu")
    try:
        torch.zeros(1, device=str(device).removeprefix("torch:")).cpu()  # "meta" computes nothing
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0].partition(". ")[0].rstrip(".")
        raise ValueError(
            f"device={str(device)!r} cannot be used here: {reason}. Use 'cpu', or 'auto' for a "
            "GPU where there is one."
        ) from error
    return str(device)
