"""``skstructcore demo``"""

import itertools
from collections import defaultdict
from pathlib import Path

import click

from .._utils.files import write_text
from . import _options as option
from ._output import Refused, answer, save_picture, say


@click.command()
@click.option("--output", default="demo-output", type=option.FOLDER, help="For pictures and table.")
@click.option(
    "--images", type=option.FOLDER, metavar="FOLDER", help="Write 62 small images there instead."
)
@option.json
def demo(output, images, as_json):
    """Find painted defects on three photographs.

    Fits a pipeline on good tiles of brick, then of gravel and of grass, scores the others, prints a
    table and writes a picture of the worst and best cases.

    With --images it only writes a folder as a line would have it: FOLDER/good has 36 images of
    good parts, FOLDER/new twelve of which six have a defect, and FOLDER/labelled a data set in the
    layout of MVTec AD. The pages of the documentation use it.

    \b
    skstructcore demo
    skstructcore demo --images line3
    """
    if images is not None:
        counts = write_images(images)
        lines = [f"{count:4} images: {images / name}" for name, count in counts.items()]
        answer(as_json, {"folder": images, "images": counts}, *lines)
        return
    output.mkdir(parents=True, exist_ok=True)  # an error before the libraries are loaded
    say("Loading torch, scikit-learn and the network …")
    import pandas as pd

    from ..datasets import make_photographs
    from ..display import AnomalyMapDisplay
    from ..evaluation import evaluate
    from ..evaluation.results import format_table
    from ..pipeline import make_structcore

    rows = []
    for name in ("brick", "gravel", "grass"):
        tiles = make_photographs(name, n_train=60, n_test_good=40, random_state=0)
        train, test = len(tiles.train), len(tiles.test)
        say(f"{name}: fitting on {train} good tiles, scoring {test} good and damaged ones")
        pipe = make_structcore("efficientnet_lite0", structcore__false_alarm_rate=0.05)
        evaluation = evaluate(pipe.fit(tiles.train), tiles.test)
        rows.append(evaluation.table().loc[["all"]].rename({"all": name}))
        write_text(output / f"{name}.csv", evaluation.scores.to_csv(index=False))
        figure = AnomalyMapDisplay.from_evaluation(evaluation).figure_
        save_picture(figure, output / f"{name}.png")
    table = pd.concat(rows).rename_axis("photograph")
    answer(
        as_json,
        table.reset_index(),
        "\nAreas in percent; false alarms and misses are counts of test tiles.\n",
        format_table(table),
        f"\nPictures of the worst and best cases and all scores: {output}/",
    )


def write_images(folder: Path) -> dict[str, int]:
    """Write tiles of a photograph of bricks as the folders of a line; return how many are where.

    `Refused` if the folder holds other files, which would then count as images of the line.
    """
    from PIL import Image

    from ..datasets import make_photographs
    from ..images.labels import GOOD

    # One tile of each block that the photograph is divided into: no two show the same bricks.
    tiles = make_photographs(
        "brick", tile_size=96, n_train=36, n_test_good=14, n_test_defect=2, random_state=1
    )
    pictures, numbers = {}, defaultdict(itertools.count)
    for pixels, label, mask, split in zip(tiles, tiles.y, tiles.masks, tiles.splits, strict=True):
        number = next(numbers[split, label])
        if split == "train":
            pictures[f"good/{number:02}.png"] = pixels
            pictures[f"labelled/train/good/{number:02}.png"] = pixels
        elif number >= (6 if label == GOOD else 1):
            pictures[f"labelled/test/{label}/{number:02}.png"] = pixels
            if mask is not None:
                pictures[f"labelled/ground_truth/{label}/{number:02}_mask.png"] = mask
        else:
            place = 5 * next(numbers["new"]) % 12  # good and bad ones in turn
            pictures[f"new/{place:02}.png"] = pixels
    others = [p for p in folder.rglob("*") if p.is_file()]
    others = [p for p in others if p.relative_to(folder).as_posix() not in pictures]
    if others:
        raise Refused(f"{str(folder)!r} holds other files, {str(others[0])!r}: name a new folder.")
    for name, pixels in pictures.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    places = ("good", "new", "labelled/train", "labelled/test")
    return {place: sum(name.startswith(f"{place}/") for name in pictures) for place in places}
