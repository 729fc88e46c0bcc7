"""What all feature estimators share: parameters, fit, and the way of images to features."""

import copy
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from numbers import Integral

import numpy as np
from joblib import effective_n_jobs
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from tqdm.auto import tqdm

from ..containers import Geometry
from ..images import as_images
from ._lazy import LazyFeatures

_POSITIVE = Interval(Integral, 1, None, closed="left")


class PatchFeatures(TransformerMixin, BaseEstimator, auto_wrap_output_keys=None):
    """Base of the feature estimators. Subclasses say where weights are and how to run them.

    A subclass has the parameters that this class reads (`image_size`, `resize`, `crop`,
    `batch_size`, `device`, `dtype`, `n_jobs`, `verbose`) and three methods:

    * `_checksum()`: digest of the weights, without loading them if possible;
    * `_recipe()`: dict of all else that decides over the features;
    * `_load(device, dtype)`: a network, called with a uint8 tensor `(b, H, W, 3)`, that
      returns a float32 tensor `(b, h, w, d)` on the CPU and has `output_shape(H, W)`.
    """

    _parameter_constraints = {
        "image_size": [_POSITIVE, tuple, list],
        "resize": [None, _POSITIVE],
        "crop": ["boolean"],
        "batch_size": [_POSITIVE],
        "device": [str],
        "dtype": [StrOptions({"auto", "float32", "float16", "bfloat16"})],
        "n_jobs": [None, Integral],
        "verbose": ["verbose"],
    }

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Check the images and the weights; nothing is learned from the images.

        Parameters
        ----------
        X : folder, sequence of paths, PIL images or arrays, or ndarray
            Images in any form that `skstructcore.images.as_images` takes. The headers of all
            files are read, so that what is no image is found before the backbone runs.
        y : ignored

        Returns
        -------
        self : object
        """
        images = as_images(X)
        self._geometry(images)
        self.model_checksum_ = self._checksum()
        height, width, n_features = self._network().output_shape(*self._input_size())
        self.grid_shape_ = (height, width)
        self.n_features_out_ = n_features
        return self

    def transform(self, X):
        """Patch features of images.

        Parameters
        ----------
        X : folder, sequence of paths, PIL images or arrays, or ndarray
            Images in any form that `skstructcore.images.as_images` takes.

        Returns
        -------
        features : LazyFeatures of shape (n_images, height, width, n_features), float32
            Computed batch by batch when they are used.
        """
        check_is_fitted(self)
        # A copy: what happens to this estimator later must not change what it has given.
        return LazyFeatures(as_images(X), copy.copy(self))

    def get_feature_names_out(self, input_features=None):
        """Names of the features: the lower-case class name and a number."""
        check_is_fitted(self)
        prefix = type(self).__name__.lower()
        return np.array([f"{prefix}{i}" for i in range(self.n_features_out_)], dtype=object)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def _input_size(self):
        size = self.image_size
        size = (size, size) if isinstance(size, Integral) else tuple(size)
        if len(size) != 2 or not all(isinstance(side, Integral) and side > 0 for side in size):
            raise ValueError(
                "image_size must be a positive integer or two, (height, width); "
                f"got {self.image_size!r}."
            )
        if self.resize is not None and not self.crop:
            raise ValueError(
                f"resize={self.resize} has an effect with crop=True only: without a crop the "
                "whole image is scaled to image_size."
            )
        return int(size[0]), int(size[1])

    def _network(self):
        checksum = self._checksum()
        if checksum != self.model_checksum_:
            raise ValueError(
                f"The weights of {type(self).__name__} have the checksum {checksum}, but it was "
                f"fitted with weights of the checksum {self.model_checksum_}. Bring the same "
                "weights back, or fit again."
            )
        return self._load(*_device_and_dtype(self.device, self.dtype))

    def _geometry(self, images):
        rule = self._input_size(), self.resize, self.crop
        boxes = [images.box(i, *rule) for i in range(len(images))]
        return Geometry(rule[0], images.sizes(), boxes)

    def _iter_features(self, images):
        import torch

        network = self._network()
        for batch in self._iter_pixels(images):
            with torch.inference_mode():
                yield network(torch.from_numpy(batch)).numpy()

    def _iter_pixels(self, images):
        """Batches of decoded and scaled images; the next two are decoded meanwhile."""
        rule = self._input_size(), self.resize, self.crop
        with (
            tqdm(total=len(images), unit="image", disable=not self.verbose) as progress,
            ThreadPoolExecutor(effective_n_jobs(self.n_jobs)) as pool,
        ):
            pending = deque()
            try:
                for start in range(0, len(images), self.batch_size):
                    rows = range(start, min(start + self.batch_size, len(images)))
                    pending.append([pool.submit(images.pixels, i, *rule) for i in rows])
                    if len(pending) > 2:
                        yield np.stack([job.result() for job in pending.popleft()])
                        progress.update(self.batch_size)
                while pending:
                    jobs = pending.popleft()
                    yield np.stack([job.result() for job in jobs])
                    progress.update(len(jobs))
            finally:
                for job in (job for jobs in pending for job in jobs):
                    job.cancel()


def _device_and_dtype(device, dtype):
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
        if torch.backends.mps.is_available():
            device = "mps"
    device = torch.device(device)
    if dtype == "auto":
        dtype = "float32"
        if device.type == "cuda":
            dtype = "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    return device, getattr(torch, dtype)
