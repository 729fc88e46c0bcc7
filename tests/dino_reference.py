"""A small DINOv2 with random weights, and its forward pass in plain torch.

Written from the definition of the network, without the code under test and without transformers:
what the three weight formats hold is compared with it.
"""

import json

import torch
import torch.nn.functional as F

PATCH = 14


def random_state(width=32, n_blocks=2, *, side=5, registers=0, swiglu=False, seed=0):
    """Weights in the layout of the original checkpoints; positions for `side` x `side` patches."""
    generator = torch.Generator().manual_seed(seed)

    def values(*shape, scale=0.2):
        return scale * torch.randn(*shape, generator=generator)

    state = {
        "cls_token": values(1, 1, width),
        "pos_embed": values(1, 1 + side * side, width),
        "mask_token": torch.zeros(1, width),
        "patch_embed.proj.weight": values(width, 3, PATCH, PATCH, scale=0.05),
        "patch_embed.proj.bias": values(width),
        "norm.weight": 1 + values(width),
        "norm.bias": values(width),
    }
    if registers:
        state["register_tokens"] = values(1, registers, width)
    hidden = (int(4 * width * 2 / 3) + 7) // 8 * 8
    for i in range(n_blocks):
        block = {
            "norm1.weight": 1 + values(width),
            "norm1.bias": values(width),
            "attn.qkv.weight": values(3 * width, width),
            "attn.qkv.bias": values(3 * width),
            "attn.proj.weight": values(width, width),
            "attn.proj.bias": values(width),
            "ls1.gamma": 1 + values(width),
            "norm2.weight": 1 + values(width),
            "norm2.bias": values(width),
            "ls2.gamma": 1 + values(width),
        }
        if swiglu:
            block["mlp.w12.weight"] = values(2 * hidden, width)
            block["mlp.w12.bias"] = values(2 * hidden)
            block["mlp.w3.weight"] = values(width, hidden)
            block["mlp.w3.bias"] = values(width)
        else:
            block["mlp.fc1.weight"] = values(4 * width, width)
            block["mlp.fc1.bias"] = values(4 * width)
            block["mlp.fc2.weight"] = values(width, 4 * width)
            block["mlp.fc2.bias"] = values(width)
        state |= {f"blocks.{i}.{key}": value for key, value in block.items()}
    return state


def forward(state, pixels, layers, *, n_heads):
    """Raw patch tokens `(b, h, w, width)` after each of `layers` (from 1), each of length 1.

    `pixels` are uint8 `(b, H, W, 3)`.
    """
    mean = torch.tensor([0.485, 0.456, 0.406])
    std = torch.tensor([0.229, 0.224, 0.225])
    x = ((torch.as_tensor(pixels) / 255.0 - mean) / std).permute(0, 3, 1, 2)
    x = F.conv2d(x, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=PATCH)
    batch, width, height, length = x.shape
    x = x.flatten(2).transpose(1, 2) + _positions(state, height, length)
    first = (state["cls_token"] + state["pos_embed"][:, :1]).expand(batch, -1, -1)
    if "register_tokens" in state:
        first = torch.cat([first, state["register_tokens"].expand(batch, -1, -1)], dim=1)
    x = torch.cat([first, x], dim=1)
    outputs = {}
    for number in range(1, max(layers) + 1):
        start = f"blocks.{number - 1}."
        block = {k[len(start) :]: v for k, v in state.items() if k.startswith(start)}
        x = x + block["ls1.gamma"] * _attention(block, _norm(block, "norm1", x), n_heads)
        x = x + block["ls2.gamma"] * _mlp(block, _norm(block, "norm2", x))
        tokens = x[:, first.shape[1] :]
        tokens = tokens / tokens.pow(2).sum(-1, keepdim=True).sqrt()
        outputs[number] = tokens.reshape(batch, height, length, width)
    return torch.cat([outputs[number] for number in layers], dim=-1).numpy()


def _positions(state, height, length):
    table = state["pos_embed"][:, 1:]
    side = round(table.shape[1] ** 0.5)
    if (height, length) == (side, side):
        return table
    table = table.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    if "register_tokens" in state:  # interpolate_antialias=True, interpolate_offset=0
        table = F.interpolate(table, (height, length), mode="bicubic", antialias=True)
    else:  # interpolate_antialias=False, interpolate_offset=0.1
        factors = ((height + 0.1) / side, (length + 0.1) / side)
        table = F.interpolate(table, scale_factor=factors, mode="bicubic", antialias=False)
    return table.permute(0, 2, 3, 1).reshape(1, height * length, -1)


def _norm(block, name, x):
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (x.var(-1, unbiased=False, keepdim=True) + 1e-6).sqrt()
    return scaled * block[f"{name}.weight"] + block[f"{name}.bias"]


def _attention(block, x, n_heads):
    batch, n, width = x.shape
    qkv = x @ block["attn.qkv.weight"].T + block["attn.qkv.bias"]
    q, k, v = qkv.reshape(batch, n, 3, n_heads, width // n_heads).permute(2, 0, 3, 1, 4)
    weights = torch.softmax(q @ k.transpose(-1, -2) / (width // n_heads) ** 0.5, dim=-1)
    x = (weights @ v).transpose(1, 2).reshape(batch, n, width)
    return x @ block["attn.proj.weight"].T + block["attn.proj.bias"]


def _mlp(block, x):
    if "mlp.w12.weight" in block:
        gate, value = (x @ block["mlp.w12.weight"].T + block["mlp.w12.bias"]).chunk(2, dim=-1)
        x = gate * torch.sigmoid(gate) * value
        return x @ block["mlp.w3.weight"].T + block["mlp.w3.bias"]
    x = x @ block["mlp.fc1.weight"].T + block["mlp.fc1.bias"]
    x = 0.5 * x * (1 + torch.erf(x / 2**0.5))
    return x @ block["mlp.fc2.weight"].T + block["mlp.fc2.bias"]


_HUB_NAMES = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "mask_token": "embeddings.mask_token",
    "register_tokens": "embeddings.register_tokens",
    "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
    "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
    "norm.weight": "layernorm.weight",
    "norm.bias": "layernorm.bias",
}
_HUB_BLOCK_NAMES = {
    "attn.proj.weight": "attention.output.dense.weight",
    "attn.proj.bias": "attention.output.dense.bias",
    "ls1.gamma": "layer_scale1.lambda1",
    "ls2.gamma": "layer_scale2.lambda1",
    "mlp.w12.weight": "mlp.weights_in.weight",
    "mlp.w12.bias": "mlp.weights_in.bias",
    "mlp.w3.weight": "mlp.weights_out.weight",
    "mlp.w3.bias": "mlp.weights_out.bias",
}


def save_folder(state, folder, *, n_heads, as_bin=False):
    """Write the weights as the hub holds them: config.json and one file of tensors."""
    from safetensors.torch import save_file

    tensors = {}
    for key, value in state.items():
        if not key.startswith("blocks."):
            tensors[_HUB_NAMES[key]] = value
            continue
        _, number, rest = key.split(".", 2)
        start = f"encoder.layer.{number}."
        if rest.startswith("attn.qkv."):
            kind = rest.rsplit(".", 1)[1]
            for name, part in zip(("query", "key", "value"), value.chunk(3), strict=True):
                tensors[f"{start}attention.attention.{name}.{kind}"] = part.contiguous()
        else:
            tensors[start + _HUB_BLOCK_NAMES.get(rest, rest)] = value
    width = state["cls_token"].shape[-1]
    config = {
        "model_type": "dinov2_with_registers" if "register_tokens" in state else "dinov2",
        "hidden_size": width,
        "num_hidden_layers": sum(key.endswith("ls1.gamma") for key in state),
        "num_attention_heads": n_heads,
        "mlp_ratio": 4,
        "patch_size": PATCH,
        "image_size": PATCH * round((state["pos_embed"].shape[1] - 1) ** 0.5),
        "use_swiglu_ffn": "blocks.0.mlp.w12.weight" in state,
    }
    if "register_tokens" in state:
        config["num_register_tokens"] = state["register_tokens"].shape[1]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if as_bin:
        torch.save(tensors, folder / "pytorch_model.bin")
    else:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def save_hub_cache(state, hub_folder, name, *, n_heads):
    """Write the weights where the hub's own cache would have them after a download."""
    folder = hub_folder / f"models--{name.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    save_folder(state, folder / "snapshots" / ("0" * 40), n_heads=n_heads)
