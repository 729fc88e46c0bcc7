"""``skstructcore export`` and ``skstructcore verify``"""

from __future__ import annotations

from pathlib import Path

import click

from ._common import (
    IMAGES,
    json_option,
    load_model,
    model_argument,
    named_images,
    new_model_option,
    print_json,
    reading_options,
    say,
)


@click.command()
@model_argument
@new_model_option("Write the ONNX file there.")
@click.option(
    "--check",
    multiple=True,
    required=True,
    type=IMAGES,
    help="Images or folders that both must judge alike. Repeatable.",
)
@reading_options
@click.option(
    "--resize-from",
    nargs=2,
    type=int,
    metavar="HEIGHT WIDTH",
    help="Scale images of this size inside the graph.",
)
@click.option("--opset", default=18, help="Version of ONNX's operators, 18 to 20.")
@json_option
def export(
    model: Path,
    output: Path,
    check: tuple[Path, ...],
    resize_from: tuple[int, int] | None,
    opset: int,
    as_json: bool,
) -> None:
    """Write MODEL as an ONNX file for other programs. It holds all from pixels to decision.

    The file is written only if it judges the images of --check as the model does: the same
    decisions, and scores within 1e-4.

    \b
    skstructcore export line3.structcore -o line3.onnx --check line3/good --check line3/bad
    skstructcore export line3.structcore -o line3.onnx --check line3 --resize-from 1024 1280
    """
    from ..serving.export import export_onnx

    pipe = load_model(model)
    say("Writing and comparing …")
    found = export_onnx(
        pipe,
        output,
        named_images(check, good=None, split="test"),
        resize_from=resize_from,
        opset=opset,
    )
    if as_json:
        print_json(vars(found))
    else:
        click.echo(f"{found}: {output}")


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--runtime",
    default="onnxruntime",
    type=click.Choice(["onnxruntime", "openvino"]),
    help="What runs the file.",
)
@json_option
def verify(file: Path, runtime: str, as_json: bool) -> None:
    """Check an exported FILE on this machine. It judges the images that are sealed in it.

    \b
    skstructcore verify line3.onnx
    skstructcore verify line3.onnx --runtime openvino --json
    """
    from ..serving.exported import verify_export

    found = verify_export(file, runtime=runtime)
    if as_json:
        print_json(vars(found))
    else:
        click.echo(f"agrees, {found}: {file}")
