"""Add products to a fitted pipeline, or take them out, without touching the others."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sklearn.base import clone

from .._utils.warning import warn_user
from ..bank.growth import bank_with_route, bank_without_route
from ..bank.training import good_images
from ..knn.held_out import scorer_of_bank
from ..pipeline.steps import fitted_steps
from ..routing import UNKNOWN
from ..routing.profile import fit_tail
from ..scoring.evidence import check_maps
from ..scoring.routes import MIN_GROUPS, RouteCalibration
from ..scoring.summary import explain_routes
from ._fresh import check_new, features_of, known_parts, retrained

if TYPE_CHECKING:
    from typing import Literal

    from numpy.typing import ArrayLike
    from sklearn.pipeline import Pipeline

    from ..images.image_list import ImagesLike

__all__ = ["add_category", "remove_category"]


def add_category(
    pipe: Pipeline,
    images: ImagesLike,
    name: str,
    *,
    groups: ArrayLike | Literal["auto"] | None = "auto",
    parts: ArrayLike | Literal["auto"] | None = "auto",
) -> Pipeline:
    """Teach a fitted pipeline one more product.

    The backbone runs on the new images only. An image that is sent to one of the old products
    gets the same score as before, to the last bit (unless ``knn__routing="top2"`` or more compares
    it with the new one too).

    Parameters
    ----------
    pipe : Pipeline
        Fitted with routes (``bank__categories=`` or ``n_routes``), as `make_structcore` builds
        it. It is not changed.
    images : folder, sequence of paths, PIL images or arrays, or ndarray
        Good images of the product, at least two; whatever `pipe` takes. Those of an `ImageSet`
        that are labelled as defects are left out.
    name : str
        Name of the product.
    groups, parts : see `recalibrate`

    Returns
    -------
    pipe : Pipeline
        With the product. It shares what it can with the old one.

    Raises
    ------
    ValueError
        If `pipe` has no routes, the name is taken or cannot be used, the images are too few, in
        the bank already or of another grid of patches, or their parts are not known where parts
        are decided.
    NotFittedError
        If `pipe` is not fitted.

    Warns
    -----
    UserWarning
        If the images are too few to judge the product by them alone; or if a decision about parts
        by fresh parts is lost: it is learned from all training parts again.

    Examples
    --------
    Patches of one image a row, instead of images:

    >>> import numpy as np
    >>> from sklearn.pipeline import Pipeline
    >>> from skstructcore import CoresetBank, RoutedKNNScorer, StructCoreScorer
    >>> from skstructcore.lifecycle.categories import add_category, remove_category
    >>> rng = np.random.default_rng(0)
    >>> nuts, bolts, pins = 9 * np.eye(3)[:, None] + rng.normal(size=(3, 200, 3))
    >>> pipe = Pipeline([("bank", CoresetBank(0.1, random_state=0)),
    ...                  ("knn", RoutedKNNScorer(routing="top1")),
    ...                  ("structcore", StructCoreScorer(descriptors=["max"]))])
    >>> pipe = pipe.fit(np.r_[nuts, bolts], bank__categories=["nut"] * 200 + ["bolt"] * 200)
    >>> more = add_category(pipe, pins, "pin")
    >>> more[-1].describe(more[:-1].transform(9 * np.eye(3)))["route"].tolist()
    ['nut', 'bolt', 'pin']
    >>> remove_category(more, "nut")["bank"].bank_.route_names
    ('bolt', 'pin')
    """
    bank, knn, scorer = _routed_steps(pipe)
    names = bank.bank_.route_names
    if not isinstance(name, str) or name.strip() in ("", UNKNOWN):
        raise ValueError(f"A product needs a name other than {UNKNOWN!r}, got {name!r}.")
    if name in names:
        raise ValueError(
            f"The pipeline already knows {name!r}. To learn it anew, remove_category it first."
        )
    features = features_of(pipe, images)
    check_new(bank, good_images(features, None, None, None, None))
    alone = clone(bank).set_params(n_routes=None)
    options = {"groups": groups, "parts": parts, "categories": [name] * len(features)}
    patches = alone.fit_transform(features, **options)
    alone.images_ = replace(alone.images_, parts=known_parts(scorer, alone.images_.parts))
    new_knn = clone(knn).set_params(routing="top1")
    maps = new_knn.fit_transform(replace(patches, images=alone.images_))
    check_maps(scorer, maps, reset=False)
    training, route = _calibrated(scorer, maps, name)

    first, bank = len(bank.images_), bank_with_route(bank, alone)
    expectations = knn.expectations_ and knn.expectations_ + new_knn.expectations_
    knn = scorer_of_bank(knn, bank.bank_, expectations)
    training = scorer.training_.join(replace(training, image_index=first + training.image_index))
    return retrained(pipe, bank, knn, training, {**scorer.routes_, name: route})


def _calibrated(scorer, maps, name):
    """What maps of a new product say, and what is normal for it."""
    tail = fit_tail(maps.route_distance, maps.groups)
    if tail.n >= MIN_GROUPS:
        alone = clone(scorer).fit(maps)
        return alone.training_, alone.routes_[name]
    route = RouteCalibration(scorer.calibration_, tail, is_pooled=True)
    warn_user(" ".join(explain_routes({name: route})))
    return scorer.evidence_of(maps), route


def remove_category(pipe: Pipeline, name: str) -> Pipeline:
    """Make a fitted pipeline forget a product.

    Parameters
    ----------
    pipe : Pipeline
        Fitted with routes. It is not changed.
    name : str
        One of ``pipe["bank"].bank_.route_names``.

    Returns
    -------
    pipe : Pipeline
        Without the product. Images of it are unknown now, unless they look like another.

    Raises
    ------
    ValueError
        If `pipe` has no routes, does not know the name, or knows no other; or if it decides
        about parts, and too few are left.

    Warns
    -----
    UserWarning
        As `add_category` does, about parts.
    """
    bank, knn, scorer = _routed_steps(pipe)
    names = bank.bank_.route_names
    if name not in names:
        raise ValueError(f"The pipeline knows no {name!r}, only {', '.join(map(repr, names))}.")
    if len(names) == 1:
        raise ValueError(f"{name!r} is the only product there is: it cannot be removed.")
    gone = names.index(name)
    bank = bank_without_route(bank, gone)
    expectations = knn.expectations_
    if expectations is not None:
        expectations = expectations[:gone] + expectations[gone + 1 :]
    knn = scorer_of_bank(knn, bank.bank_, expectations)
    routes = {key: route for key, route in scorer.routes_.items() if key != name}
    training = scorer.training_.take(scorer.training_.route != name)
    return retrained(pipe, bank, knn, training, routes)


def _routed_steps(pipe):
    steps = fitted_steps(pipe)
    if not steps[1].search_.is_routed:
        raise ValueError(
            "The pipeline has no routes: fit it with bank__categories= (or set bank__n_routes) "
            "and knn__routing='auto'."
        )
    return steps
