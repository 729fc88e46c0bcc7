"""What a fit has come to, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .predictive import suspects_of
from .routes import MIN_GROUPS, MIN_GROUPS_FOR_UNKNOWN, Routes

if TYPE_CHECKING:
    from .structcore import StructCoreScorer

_NAMED = 5


def closing_sentences(scorer: StructCoreScorer) -> list[str]:
    """What a fitted scorer will do, and which training images deserve a look, for people."""
    return [*what_it_rejects(scorer), *unlike_the_others(scorer)]


def what_it_rejects(scorer: StructCoreScorer) -> list[str]:
    """What a fitted scorer will do: false alarms, of the route with the widest interval."""
    decisions = scorer.routes_.decisions
    widest = max(decisions, key=lambda name: np.ptp(decisions[name].interval or (0, 0)))
    of_route = "" if len(decisions) == 1 else f" of each product, least surely of {widest!r}"
    sentences = [f"The model {decisions[widest]}{of_route}."]
    if scorer.part_decision_ is not None:
        sentences.append(f"Of parts it {scorer.part_decision_.promise('parts')}.")
    if scorer.lots_ is not None:
        sentences.append(f"Lots that training never saw: {scorer.lots_}.")
    return sentences


def unlike_the_others(scorer: StructCoreScorer) -> list[str]:
    """Name training images that are unlike the others of their route, and say what they cost."""
    sentences, training = [], scorer.training_
    for route, fitted in scorer.routes_.items():
        decision = fitted.calibration.decision
        if fitted.is_pooled or decision.held_out.fresh:
            continue
        mine = training.take(training.rows_of(route))
        odd = suspects_of(decision.scores, decision.held_out.counts)
        # Where a third of the images are odd, the test has failed.
        if not 0 < len(odd) < len(mine) // 3:
            continue
        names = [_name_of(mine, i) for i in odd[:_NAMED]]
        if len(odd) > _NAMED:
            names.append(f"{len(odd) - _NAMED} more")
        listed = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
        images, are, them = ("image", "is", "it") if len(odd) == 1 else ("images", "are", "them")
        of_route = "" if route == "all" else f" of {route!r}"
        text = f"{len(odd)} training {images}{of_route} {are} unlike the others: {listed}"
        less = decision.without(odd)
        if less and decision.threshold - less.threshold > 0.02 * abs(decision.threshold):
            thresholds = f"{less.threshold:.3g} instead of {decision.threshold:.3g}"
            text += f"; without {them} the threshold would be {thresholds}"
        sentences.append(f"{text}.")
    return sentences


def explain_routes(routes: Routes) -> list[str]:
    """Say what too few images cost: of the promised rate, and of what is told apart."""
    messages = []
    short = {name: decision for name, decision in routes.decisions.items() if decision.shortage}
    if short:
        worst = max(short, key=lambda name: short[name].rate)
        if routes.is_routed:
            messages.append(
                f"{len(short)} of {len(routes)} routes miss the rate, {worst!r} most of all:"
            )
        messages.append(short[worst].shortage)
    if few := [name for name, route in routes.items() if route.is_pooled]:
        messages.append(
            f"Fewer than {MIN_GROUPS} independent training images of {', '.join(few)}: their "
            "images are judged by the statistics of all routes together. Add images."
        )
    if thin := [k for k, r in routes.items() if r.tail and r.tail.n < MIN_GROUPS_FOR_UNKNOWN]:
        messages.append(
            f"Fewer than {MIN_GROUPS_FOR_UNKNOWN} independent training images of "
            f"{', '.join(thin)}: hardly any image is far enough from them to be called unknown."
        )
    return messages


def _name_of(training, i):
    if training.names is not None:
        return str(training.names[i])
    return f"image {i if training.places is None else training.places[i]}"
