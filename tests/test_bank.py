import numpy as np
import pytest
from sklearn.base import clone

from skstructcore import CoresetBank, RandomProjection
from skstructcore._utils.rows import LazyRows
from skstructcore.containers import AnomalyMaps


def textbook_k_center(rows, n_select, start):
    """Farthest-first traversal, written down directly."""
    picks = [start]
    nearest = ((rows - rows[start]) ** 2).sum(axis=1)
    while len(picks) < n_select:
        picks.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, ((rows - rows[picks[-1]]) ** 2).sum(axis=1))
    return picks


@pytest.fixture
def patches():
    return np.random.default_rng(0).normal(size=(6, 3, 4, 5)).astype(np.float32)


def test_bank_is_the_greedy_k_center_selection(patches):
    bank = CoresetBank(ratio=10, random_state=1).fit(patches).bank_
    rows = patches.reshape(-1, 5)
    start = np.random.RandomState(1).randint(len(rows))
    np.testing.assert_array_equal(bank.values, rows[textbook_k_center(rows, 10, start)])


def test_entries_know_their_image(patches):
    bank = CoresetBank(ratio=20, random_state=0).fit(patches).bank_
    for entry, image in zip(bank.values, bank.image_index, strict=True):
        assert (patches[image].reshape(-1, 5) == entry).all(axis=1).any()


@pytest.mark.parametrize(("ratio", "expected"), [(0.25, 18), (1.0, 72), (1e-6, 1)])
def test_ratio_is_the_share_of_all_patches(patches, ratio, expected):
    assert len(CoresetBank(ratio, random_state=0).fit(patches).bank_) == expected


def test_same_seed_gives_the_same_bank(patches):
    first, second = (CoresetBank(0.2, random_state=5).fit(patches).bank_ for _ in range(2))
    np.testing.assert_array_equal(first.values, second.values)


def test_fit_transform_patches_know_their_images_and_groups(patches):
    patches_out = CoresetBank(0.2, random_state=0).fit_transform(
        patches, groups=["a", "b", "a", "c", "c", "b"]
    )
    assert patches_out.image_index.tolist() == [0, 1, 2, 3, 4, 5]
    assert patches_out.groups.tolist() == [0, 1, 0, 2, 2, 1]
    bank = patches_out.bank
    np.testing.assert_array_equal(bank.groups, patches_out.groups[bank.image_index])


def test_transform_does_not_know_images(patches):
    out = CoresetBank(0.2, random_state=0).fit(patches).transform(patches)
    assert out.image_index is None and out.groups is None
    np.testing.assert_array_equal(np.asarray(out), patches)


def test_a_whole_number_is_a_number_of_patches_of_each_route(patches):
    bank = CoresetBank(1, random_state=0).fit(patches, categories=[0, 0, 0, 1, 1, 1]).bank_
    assert bank.routes.tolist() == [0, 1]
    assert len(CoresetBank(1.0).fit(patches).bank_) == 72


def test_more_patches_than_there_are_is_an_error(patches):
    with pytest.raises(ValueError, match="ratio=73 is larger than the 72 patches"):
        CoresetBank(ratio=73).fit(patches)


@pytest.mark.parametrize(
    ("groups", "message"),
    [([0, 1], "groups must have one entry per image: expected 6"), ([[0] * 6], "groups")],
)
def test_groups_of_the_wrong_length_are_an_error(patches, groups, message):
    with pytest.raises(ValueError, match=message):
        CoresetBank().fit(patches, groups=groups)


@pytest.mark.parametrize("params", [{"ratio": 0.0}, {"ratio": 1.5}, {"ratio": 0}])
def test_parameters_out_of_range_are_errors(patches, params):
    with pytest.raises(ValueError, match=next(iter(params))):
        CoresetBank(**params).fit(patches)


def test_nan_in_features_is_an_error(patches):
    patches[2, 1, 1, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        CoresetBank().fit(patches)


def test_images_of_which_everything_is_ignored_are_an_error(patches):
    spoiled = np.array(patches)
    spoiled[3] = np.nan
    with pytest.raises(ValueError, match="Every patch of image 3 is ignored"):
        CoresetBank(0.5).fit(spoiled, categories=["a", "b"] * (len(spoiled) // 2))
    y = ["bad", *["good"] * (len(spoiled) - 1)]  # places are among all images that are given
    with pytest.raises(ValueError, match="Every patch of image 3 is ignored"):
        CoresetBank(0.5, n_routes=1).fit(spoiled, y)
    with pytest.raises(ValueError, match="Every patch of image 3 is ignored"):
        CoresetBank(0.5, contamination=0.2).fit(spoiled)
    spoiled[:] = np.nan
    with pytest.raises(ValueError, match=r"Every patch of (route 'all'|image 0) is ignored"):
        CoresetBank(0.5).fit(spoiled)


def test_clone_keeps_parameters():
    assert clone(CoresetBank(4)).ratio == 4


class Generated(LazyRows):
    """Lazy features that a generator makes, four images a batch."""

    def __init__(self, n_images):
        self.shape = (n_images, 3, 4, 5)
        self.dtype = np.dtype(np.float32)
        self.ndim = 4

    def __getitem__(self, rows):
        return np.concatenate(list(self.iter_batches()))[rows]

    def iter_batches(self):
        rng = np.random.default_rng(0)
        for start in range(0, len(self), 4):
            size = min(4, len(self) - start)
            yield rng.normal(size=(size, *self.shape[1:])).astype(np.float32)


def test_lazy_features_that_fit_give_the_bank_of_the_array():
    values = np.concatenate(list(Generated(10).iter_batches()))
    lazy = CoresetBank(0.1, random_state=0).fit(Generated(10)).bank_
    array = CoresetBank(0.1, random_state=0).fit(values).bank_
    np.testing.assert_array_equal(lazy.values, array.values)


@pytest.mark.filterwarnings("ignore:The patches of")
def test_streamed_bank_covers_all_patches_within_its_radius():
    values = np.concatenate(list(Generated(40).iter_batches())).reshape(-1, 5)
    # 40 images of 240 bytes a patch grid row need 9,600 bytes: 9,000 do not hold them.
    bank = CoresetBank(ratio=10, max_memory=9_000, random_state=0).fit(Generated(40))
    assert len(bank.bank_) == 10
    distances = np.linalg.norm(values[:, None] - bank.bank_.values[None], axis=-1)
    assert distances.min(axis=1).max() <= bank.radius_[0]
    full = CoresetBank(ratio=10, random_state=0).fit(Generated(40))
    assert distances.min(axis=1).max() <= 4 * full.radius_[0]


@pytest.mark.filterwarnings("ignore:The patches of")
def test_streamed_entries_know_their_image_and_group():
    groups = np.arange(40) // 2
    values = np.concatenate(list(Generated(40).iter_batches()))
    patches = CoresetBank(ratio=10, max_memory=9_000, random_state=0).fit_transform(
        Generated(40), groups=groups
    )
    bank = patches.bank
    for entry, image, group in zip(bank.values, bank.image_index, bank.groups, strict=True):
        assert (values[image].reshape(-1, 5) == entry).all(axis=1).any()
        assert group == groups[image]
    assert 2 <= len(patches) < 40
    np.testing.assert_array_equal(np.asarray(patches), values[patches.image_index])


def test_radius_is_the_largest_distance_to_the_bank(patches):
    bank = CoresetBank(ratio=10, random_state=1).fit(patches)
    distances = np.linalg.norm(
        patches.reshape(-1, 1, 5) - bank.bank_.values[np.newaxis], axis=-1
    ).min(axis=1)
    np.testing.assert_allclose(bank.radius_, [distances.max()], rtol=1e-5)


@pytest.mark.parametrize(
    "y", [["good", "crack", "good", "hole"], [0, 1, 0, 1], [1, -1, 1, -1], [False, True] * 2]
)
def test_images_labelled_anomalous_stay_out_of_the_bank(y):
    values = np.concatenate(list(Generated(4).iter_batches()))
    bank = CoresetBank(1.0, random_state=0).fit(Generated(4), y)
    assert bank.n_images_ == 2
    expected = CoresetBank(1.0, random_state=0).fit(values[[0, 2]])
    np.testing.assert_array_equal(bank.bank_.values, expected.bank_.values)


def test_labels_of_one_normal_value_keep_all_images():
    for y in (["good"] * 4, [0] * 4, [1] * 4):
        assert CoresetBank(1.0).fit(Generated(4), y).n_images_ == 4


def test_only_anomalous_training_images_are_an_error():
    with pytest.raises(ValueError, match="all 4 training images anomalous"):
        CoresetBank().fit(Generated(4), ["bad"] * 4)


@pytest.mark.filterwarnings("ignore:The patches of")
def test_streamed_categories_have_banks_and_profiles_of_their_own():
    categories = np.repeat(["a", "b"], 20)
    bank = CoresetBank(ratio=5, max_memory=9_000, random_state=0)
    patches = bank.fit_transform(Generated(40), categories=categories)
    entries = patches.bank
    assert (categories[entries.image_index] == np.array(["a", "b"])[entries.routes]).all()
    assert len(patches) < 40
    whole = CoresetBank(ratio=5, random_state=0).fit(Generated(40), categories=categories)
    for streamed, full in zip(entries.profiles, whole.bank_.profiles, strict=True):
        assert streamed.prototypes.shape == (16, 5)
        np.testing.assert_allclose(streamed.centre, full.centre, atol=1e-6)


@pytest.mark.filterwarnings("ignore:The patches of")
def test_a_large_bank_takes_memory_from_calibration_before_it_is_refused():
    # 10 of 480 patches in 12 bytes * 5 features * 10 + 4 * 10 * 52 bytes = 2,680; an image has 240.
    tight = CoresetBank(ratio=10, max_memory=2_680 + 2 * 240, random_state=0)
    patches = tight.fit_transform(Generated(40))
    assert len(patches.bank) == 10 and len(patches) == 2
    too_little = CoresetBank(ratio=10, max_memory=2_680 + 2 * 240 - 1, random_state=0)
    with pytest.raises(ValueError, match=r"max_memory=3159 bytes is too little.*at least 3160"):
        too_little.fit(Generated(40))


def test_the_default_memory_streams_ten_thousand_images_at_the_default_ratio():
    from skstructcore.bank.build import entries_of
    from skstructcore.neighbors.streaming import least_memory

    bank = CoresetBank()
    assert [entries_of("auto", n, "all") for n in (100, 20_000, 500_000)] == [5, 1000, 8192]
    entries = entries_of(bank.ratio, 10_000 * 784, "all")
    assert least_memory(entries, 512) + 2 * 784 * 512 * 4 <= bank.max_memory


STREAM = dict(ratio=10, max_memory=9_000)


@pytest.mark.filterwarnings("ignore:The patches of")
def test_random_state_decides_over_the_streamed_bank():
    first, again, other = (
        CoresetBank(**STREAM, random_state=seed).fit(Generated(40)).bank_ for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.values, again.values)
    assert not np.array_equal(first.values, other.values)


def test_a_fit_from_a_stream_says_what_it_means_for_thresholds():
    with pytest.warns(UserWarning, match=r"40 training images take 9600 bytes.*max_memory=9000"):
        CoresetBank(**STREAM, random_state=0).fit(Generated(40))


def test_images_are_counted_by_route(patches):
    bank = CoresetBank(0.2).fit(patches, categories=["b", "a", "b", "a", "b", "b"])
    assert bank.bank_.route_names == ("a", "b")
    assert bank.n_images_per_route_.tolist() == [2, 4] and bank.n_images_ == 6


@pytest.mark.filterwarnings("ignore:The patches of")
@pytest.mark.parametrize("memory", [2**31, 9_000], ids=["in memory", "streamed"])
def test_a_torch_device_selects_the_same_patches(memory):
    fits = [
        CoresetBank(ratio=10, max_memory=memory, device=device, random_state=0)
        for device in ("cpu", "torch:cpu")
    ]
    ours, torchs = (bank.fit(Generated(40)) for bank in fits)
    np.testing.assert_array_equal(ours.bank_.values, torchs.bank_.values)
    np.testing.assert_allclose(ours.radius_, torchs.radius_, rtol=1e-5)


def test_a_device_that_is_not_there_is_an_error(patches):
    with pytest.raises(ValueError, match=r"device='cuda:77' cannot be used here: .*'auto'"):
        CoresetBank(device="cuda:77").fit(patches)


def test_a_loop_over_the_images_of_a_container_ends():
    maps = AnomalyMaps(np.zeros((3, 2, 2), np.float32))
    images = iter(maps)
    assert [next(images, None) is not None for _ in range(4)] == [True, True, True, False]
    with pytest.raises(IndexError, match="no image 3, there are 3"):
        maps[3]
    assert maps[-1].shape == (1, 2, 2)


def test_defects_of_a_group_are_left_out_together():
    """Of one defect in three shots only one has entries: it must not vouch for the others."""
    X = np.random.default_rng(0).normal(size=(12, 2, 2, 3)).astype(np.float32)
    X[:3] = 50 + 0.01 * X[:3]
    groups = [0, 0, 0, *range(1, 10)]
    bank = CoresetBank(ratio=10, contamination=0.25, random_state=0).fit(X, groups=groups)
    assert bank.left_out_.tolist() == [0, 1, 2]
    assert bank.bank_.image_index.min() == 3


def test_routes_learn_nothing_from_images_that_contamination_left_out():
    X = np.random.default_rng(0).normal(size=(20, 2, 2, 3)).astype(np.float32)
    X[10:] += 20
    X[[3, 14]] *= -9
    categories = ["a"] * 10 + ["b"] * 10
    bank = CoresetBank(ratio=0.5, contamination=0.1, random_state=0).fit(X, categories=categories)
    assert bank.left_out_.tolist() == [3, 14]
    stay = np.delete(np.arange(20), [3, 14])
    alone = CoresetBank(ratio=0.5, random_state=0).fit(
        X[stay], categories=np.array(categories)[stay]
    )
    for found, expected in zip(bank.bank_.profiles, alone.bank_.profiles, strict=True):
        np.testing.assert_array_equal(found.prototypes, expected.prototypes)
        np.testing.assert_array_equal(found.centre, expected.centre)


@pytest.mark.parametrize("categories", [None, "aaabbbbbb"])
def test_contamination_that_leaves_one_group_is_refused_and_names_the_route(categories):
    X = np.random.default_rng(0).normal(size=(9 if categories else 3, 2, 2, 3))
    categories = categories and list(categories)
    route = "a" if categories else "all"
    bank = CoresetBank(1.0, contamination=0.4, random_state=0)
    with pytest.raises(ValueError, match=rf"contamination=0.4 leaves 1 of 3 .*'{route}', of 1 gr"):
        bank.fit(X, categories=categories)


@pytest.mark.parametrize(
    "step", [RandomProjection(2, random_state=0), CoresetBank(3, random_state=0)]
)
def test_nested_lists_are_patch_features_too(step):
    X = np.random.default_rng(0).normal(size=(3, 2, 2, 4)).astype(np.float32)
    np.testing.assert_array_equal(
        np.asarray(step.fit_transform(X.tolist())), np.asarray(step.fit_transform(X))
    )
