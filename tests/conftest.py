"""Fixtures that several test modules share."""

import dino_reference
import pytest


@pytest.fixture(scope="session")
def tiny_dino(tmp_path_factory):
    """Folder with the random weights of a DINOv2 of two blocks, 32 features, two heads.

    Use it as `DinoFeatures(None, layers=(1, 2), weights=tiny_dino, image_size=70)`.
    """
    folder = tmp_path_factory.mktemp("tiny_dino")
    return str(dino_reference.save_folder(dino_reference.random_state(), folder, n_heads=2))
