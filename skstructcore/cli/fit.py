"""``skstructcore fit``"""

import click

from . import _options as option
from ._inputs import few, parts_of
from ._output import answer, picture_sentence, save_model, say, table_text

_LEGEND = """
rate: share of good images that the threshold rejects, rate_low to rate_high 90 % of the time.
"""
_LEGEND_OF_PAINTED = """painted_found: share of painted defects found; painted_0.08: of this size.
Sizes are shares of the shorter side; smallest_found: the size from which on 90 % are found.
"""

_SHARD = 64  # images that a worker of a cluster gets at a time
_MANY = 500  # images from which on the time of a fit is estimated first
_PAINTED = 12  # of each size: a fifth of the processor time of a fit on fifty images


@click.command(epilog=option.WHAT_IMAGES_ARE)
@option.images
@option.new_model("Where to save the fitted model.", aliases=("--model",))
@option.false_alarm_rate
@option.pipeline
@click.option(
    "--estimate/--no-estimate", default=True, help="Paint defects, to estimate what a rate finds."
)
@click.option(
    "--crop", type=option.numbers, metavar=option.BOX, help="Look at this box, in pixels or shares."
)
@click.option(
    "--channels",
    type=option.numbers,
    metavar="bgr|R,G,B",
    help="Which channels are red, green and blue, counted from 0; "
    '"bgr": arrays and .npy files are as of OpenCV.',
)
@option.parts
@option.good
@click.option(
    "--categories",
    metavar="HOW",
    help='What tells products apart: "folder" (those directly in each FOLDER), a table (CSV with '
    "columns file and category), or a regular expression with a group, searched for in each path.",
)
@option.groups
@option.cluster
@option.json
def fit(
    images, output, false_alarm_rate, make_pipe, estimate, crop, channels, parts, as_json, **more
):
    """Fit on good IMAGES and save the model.

    Where folders are named "good", "OK", "normal" or the like, only these count;
    else all images do. Of a folder laid out as a data set the training images are taken.

    Prints a table: for several false-alarm rates, how sure the rate is with so many images, and an
    estimate of the defects found. `skstructcore recalibrate` changes the rate without a new fit.

    \b
    skstructcore fit line3/OK line4/OK @more.txt -o lines.structcore --false-alarms 0.02
    skstructcore fit products -o products.structcore --categories folder --set bank__ratio=0.02
    """
    from ..images.labels import GOOD
    from ..model_files import info
    from ..pipeline import estimate_memory, estimate_time

    named = images.load(check=True, **more)
    good = named.y == GOOD
    given = {} if parts is None else {"bank__parts": parts_of(named.paths, parts)}
    if named.categories is not None:
        say(f"Categories: {few(named.categories[good])}.")
    if named.groups is not None and len(set(named.groups[good])) < good.sum():
        say(f"Groups of good images: {few(named.groups[good])}.")
    defaults = {"features__crop": crop, "features__channels": channels}
    if click.get_current_context().meta["cluster"] is not None:
        defaults["bank__shard_size"] = _SHARD
    pipe = make_pipe(false_alarm_rate, **defaults)
    memory = estimate_memory(pipe, named, named.y)
    memory.check()
    say(f"memory: about {memory}")
    if len(named) >= _MANY:
        say(f"time: about {estimate_time(pipe, named, named.y)}")
    say(
        f"Fitting on {good.sum()} images: features, then the memory bank "
        "(k-center), then each image is scored as if it had been left out …"
    )
    pipe.fit(named, named.y, **given)
    save_model(pipe, output)
    header = info(output)
    say(f"Images are {picture_sentence(header['picture'])}.")
    if estimate:
        say(f"Saved {output}. Painting defects to estimate what each rate finds …")
    points, words = _what_to_expect(pipe, named if estimate else None)
    document = {"model": output, **header, "operating_points": points}
    first = f"Fitted on {pipe['bank'].n_images_} good images: {output}\n"
    answer(as_json, document, first, *words)


def _what_to_expect(pipe, images):
    """Table of false-alarm rates and the same in words; of defects painted on `images`, if any."""
    from ..lifecycle import operating_points
    from ..scoring.decision import percent
    from ..scoring.summary import closing_sentences
    from ..scoring.table import rates_with

    rate = pipe[-1].calibration_.decision.asked_rate
    rates = rates_with(rate)
    try:
        points = operating_points(pipe, images, false_alarm_rates=rates, n_painted=_PAINTED)
    except ValueError as error:  # the model is saved: it is as good without
        say(f"No estimate of what is found: {str(error).rstrip('.')}.")
        images, points = None, operating_points(pipe, false_alarm_rates=rates)
    first, *more = closing_sentences(pipe[-1])
    legend = _LEGEND
    if images is not None:
        share = points.set_index("false_alarm_rate")["painted_0.08"][[rate]].iloc[0]
        first = (
            f"{first.rstrip('.')}, and finds {percent(share)} of painted defects whose size is "
            "8 % of the shorter side."
        )
        legend += _LEGEND_OF_PAINTED
    return points, [table_text(points), legend, first, *more]
