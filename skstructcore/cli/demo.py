"""``skstructcore demo``"""

from __future__ import annotations

from pathlib import Path

import click

from ._common import json_option, make_pipeline, plain_errors, print_json, save_picture


@click.command()
@click.option(
    "--output",
    default="demo-output",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the pictures and the table.",
)
@json_option
def demo(output: Path, as_json: bool) -> None:
    """Find painted defects on photographs of brick, gravel and grass.

    Fits a pipeline on good tiles of each photograph, scores the others, prints a table and
    writes a picture of the worst and best cases.

    \b
    skstructcore demo
    skstructcore demo --output first-look --json
    """
    import pandas as pd

    from .._utils.files import write_text
    from ..datasets import make_photographs
    from ..display import AnomalyMapDisplay
    from ..evaluation import evaluate, format_table

    # The training tiles come from about ten parts of a photograph: a false-alarm rate of 10 %
    # is what so few can promise.
    false_alarms = 0.1
    rows = []
    with plain_errors():
        output.mkdir(parents=True, exist_ok=True)
        for name in ("brick", "gravel", "grass"):
            text = f"{name}: fitting on good tiles, then scoring good and damaged ones"
            click.echo(text, err=as_json)
            images = make_photographs(name, n_train=60, n_test_good=40, random_state=0)
            pipe = make_pipeline("efficientnet_lite0", "default", {}, false_alarms, True)
            evaluation = evaluate(pipe.fit(images.train), images.test)
            rows.append(evaluation.table().loc[["all"]].rename({"all": name}))
            write_text(output / f"{name}.csv", evaluation.scores.to_csv(index=False))
            display = AnomalyMapDisplay.from_evaluation(evaluation).plot()
            save_picture(display.figure_, output / f"{name}.png")
    table = pd.concat(rows).rename_axis("photograph")
    if as_json:
        print_json(table.reset_index())
        return
    click.echo("\nAreas in percent; false alarms and misses are counts of test tiles.\n")
    click.echo(format_table(table))
    click.echo(f"\nPictures of the worst and best cases and all scores: {output}/")
