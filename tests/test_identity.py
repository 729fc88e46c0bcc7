"""A fitted model takes only the network and the settings that it was fitted with."""

import argparse
import functools
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import Blocks
from torch import nn

from skstructcore import ConvFeatures
from skstructcore.features._modules import _plain, module_checksum

PHOTOS = np.random.default_rng(0).integers(0, 256, (3, 32, 32), dtype=np.uint8)


def net(activation=None, padding="zeros", seed=0):
    torch.manual_seed(seed)
    first = nn.Conv2d(3, 4, 3, padding=1, padding_mode=padding)
    return nn.Sequential(first, activation or nn.ReLU(), nn.Conv2d(4, 4, 1)).eval()


class Scaled(nn.Module):
    """A setting that torch's representation does not show."""

    def __init__(self, factor):
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 1)
        nn.init.constant_(self.layer.weight, 0.5)
        nn.init.constant_(self.layer.bias, 0.0)
        self.factor = factor

    def forward(self, x):
        return self.layer(x) * self.factor


@dataclass(slots=True)
class Settings:
    act: object = F.relu
    factor: float = 1.0


def power(n):
    return lambda x: x**n


class WithActivation(Scaled):
    """An activation that is set later; a counter is no setting, which a function is."""

    def __init__(self, act):
        super().__init__(1)
        self.activate(act)

    def activate(self, act):
        self.act = act


def scaled_by_other_code():
    class Scaled(nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.layer = nn.Conv2d(3, 2, 1)
            nn.init.constant_(self.layer.weight, 0.5)
            nn.init.constant_(self.layer.bias, 0.0)
            self.factor = factor

        def forward(self, x):
            return self.layer(-x) * self.factor

    Scaled.__qualname__ = "Scaled"
    return Scaled(1.0)


def buffered(value):
    module = net()
    module.register_buffer("shift", torch.full((1,), value), persistent=False)
    return module


class WithoutGradient(nn.Module):
    @torch.no_grad()
    def forward(self, x):
        return x


class WithoutGradientNegative(nn.Module):
    @torch.no_grad()
    def forward(self, x):
        return -x


WithoutGradientNegative.__qualname__ = "WithoutGradient"
WithoutGradientNegative.__name__ = "WithoutGradient"


def patched():
    module = net()
    module.forward = lambda x: module[0](-x)
    return module


def seeded(make):
    def make_seeded():
        torch.manual_seed(0)
        return make()

    return make_seeded


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (net, lambda: net(nn.Sigmoid())),
        (net, lambda: net(padding="reflect")),
        (net, lambda: net(nn.LeakyReLU(0.2))),
        (lambda: net(nn.LeakyReLU(0.1)), lambda: net(nn.LeakyReLU(0.2))),
        (net, lambda: net(seed=1)),
        (lambda: Scaled(1.0), lambda: Scaled(2.0)),
        (lambda: Scaled(1.0), scaled_by_other_code),
        (lambda: Scaled(1), lambda: Scaled(2)),
        (lambda: Scaled([1.0, 2.0]), lambda: Scaled([1.0, 3.0])),
        (lambda: Scaled({"a": [1]}), lambda: Scaled({"a": [2]})),
        (lambda: Scaled(np.ones(2)), lambda: Scaled(np.zeros(2))),
        (lambda: Scaled(torch.ones(2)), lambda: Scaled(torch.zeros(2))),
        (lambda: buffered(1.0), lambda: buffered(2.0)),
        (lambda: WithoutGradient(), lambda: WithoutGradientNegative()),
        (net, patched),
        (lambda: Scaled(F.relu), lambda: Scaled(torch.tanh)),
        (lambda: Scaled(F.max_pool2d), lambda: Scaled(F.adaptive_max_pool2d)),
        (lambda: Scaled(lambda x: x.relu()), lambda: Scaled(lambda x: x.tanh())),
        (lambda: Scaled(power(2)), lambda: Scaled(power(3))),
        (lambda: Scaled(functools.partial(F.elu, alpha=1)), lambda: Scaled(F.elu)),
        (lambda: Scaled((F.relu, F.elu)), lambda: Scaled((F.elu, F.relu))),
        (lambda: Scaled({"act": F.relu}), lambda: Scaled({"act": F.elu})),
        (lambda: Scaled(Settings()), lambda: Scaled(Settings(F.elu))),
        (lambda: Scaled(Settings()), lambda: Scaled(Settings(factor=2.0))),
        (lambda: Scaled(SimpleNamespace(a=1)), lambda: Scaled(SimpleNamespace(a=2))),
        (lambda: Scaled(argparse.Namespace(a=1)), lambda: Scaled(argparse.Namespace(a=2))),
        (lambda: WithActivation(F.relu), lambda: WithActivation(F.elu)),
        (
            lambda: nn.TransformerEncoderLayer(4, 1, 4, activation=F.relu),
            lambda: nn.TransformerEncoderLayer(4, 1, 4, activation=F.gelu),
        ),
        (lambda: nn.MultiheadAttention(4, 1), lambda: nn.MultiheadAttention(4, 2)),
    ],
)
def test_networks_that_compute_otherwise_have_other_checksums(one, other):
    one, other = map(seeded, (one, other))
    assert module_checksum(one()) == module_checksum(one())
    assert module_checksum(one()) != module_checksum(other())


SOURCE = """
class Network(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.acts = act, 2

    def forward(self, x):
        halve = lambda x: x / 2 if self.mode in {'half', 'double', 'none'} else x
        return halve(self.acts[0](x))

def activate(x):
    return x.relu()
"""


def network_without_source():
    names = {"nn": nn, "__name__": "frozen"}
    exec(compile(SOURCE, "<frozen>", "exec"), names)
    return names["Network"](names["activate"])


def test_where_functions_are_in_memory_does_not_change_the_checksum():
    one, other = network_without_source(), network_without_source()
    assert one.acts[0] is not other.acts[0]  # both are there, in places of their own
    assert module_checksum(one) == module_checksum(other)


def test_plain_attributes_are_told_as_ever():
    """Models of before know networks by these texts."""
    values = ((1, 2.0), ("a", (None, [True])), [1, (2,)], {"a": [1]}, torch.Size([2]))
    assert [*map(_plain, values)] == [
        *("(1, 2.0)", "('a', (None, [True]))", "['1', '(2,)']"),
        *("[\"'a'\", \"['1']\"]", "torch.Size([2])"),
    ]


def test_objects_that_answer_to_no_name_or_are_not_there_yet_are_no_error():
    class Lookup:
        def __getattr__(self, name):
            raise KeyError(name)

    def later(x):
        return absent(x)

    if Lookup is None:
        absent = F.relu
    assert module_checksum(Scaled(Lookup())) == module_checksum(Scaled(Lookup()))
    assert module_checksum(Scaled(later)) != module_checksum(Scaled(F.relu))


def test_settings_that_hold_themselves_have_a_checksum():
    settings = SimpleNamespace(act=F.relu)
    settings.parent = settings
    assert module_checksum(Scaled(settings)) != module_checksum(Scaled(SimpleNamespace()))


def test_use_and_mode_do_not_change_the_checksum():
    module = Blocks().eval()
    module.seen = []  # in which a hook collects
    module.stage1.register_forward_hook(lambda part, args, output: module.seen.append(output))
    before = module_checksum(module)
    module(torch.zeros(1, 3, 8, 8))  # it counts the images
    module.train()
    assert module_checksum(module) == before


@pytest.mark.parametrize("other", [net(nn.Sigmoid()), net(padding="reflect")])
def test_the_cache_tells_structures_apart(other, tmp_path):
    settings = dict(layers=("2",), image_size=32)
    values = {}
    for name, module in (("one", net()), ("other", other)):
        for memory in (None, tmp_path):
            features = ConvFeatures(module, **settings, memory=memory)
            values[name, memory] = np.asarray(features.fit_transform(PHOTOS))
        np.testing.assert_array_equal(values[name, None], values[name, tmp_path])
    assert not np.array_equal(values["one", None], values["other", None])


def test_another_activation_is_refused_after_fit():
    module = net()
    module.act = F.relu
    features = ConvFeatures(module, layers=("2",), image_size=32).fit(PHOTOS)
    module.act = torch.tanh
    with pytest.raises(ValueError, match="it was fitted with"):
        np.asarray(features.transform(PHOTOS))


def test_another_structure_is_refused_after_fit():
    features = ConvFeatures(net(), layers=("2",), image_size=32).fit(PHOTOS)
    features.set_params(model=net(nn.Sigmoid()))
    with pytest.raises(ValueError, match=r"checksum .* but it was fitted with"):
        np.asarray(features.transform(PHOTOS))


@pytest.mark.parametrize(
    "change", [lambda weight: weight.mul_(2), lambda weight: weight.data.mul_(2)]
)
def test_weights_changed_in_place_are_refused(change):
    module = net()
    features = ConvFeatures(module, layers=("2",), image_size=32).fit(PHOTOS)
    before = np.asarray(features.transform(PHOTOS))
    with torch.no_grad():
        change(module[0].weight)
    with pytest.raises(ValueError, match="it was fitted with"):
        np.asarray(features.transform(PHOTOS))
    with torch.no_grad():
        module[0].weight.data.div_(2)
    np.testing.assert_array_equal(np.asarray(features.transform(PHOTOS)), before)


@pytest.mark.parametrize("part", [lambda m: m, lambda m: m.stage2])
def test_a_module_left_in_training_mode_is_put_back(part):
    module = Blocks()
    features = ConvFeatures(module, layers=("stage1", "stage2"), image_size=32).fit(PHOTOS)
    before = np.asarray(features.transform(PHOTOS))
    part(module).train()
    np.testing.assert_array_equal(np.asarray(features.transform(PHOTOS)), before)


@pytest.mark.parametrize(
    "change",
    [
        {"layers": ("stage2",)},
        {"crop": True},
        {"crop": 40},
        {"crop": (0, 0, 0.5, 1)},
        {"mean": (0, 0, 0)},
        {"std": (1, 1, 1)},
        {"image_size": 64},
        {"window": (0, 4095)},
        {"channels": (2, 1, 0)},
        {"ignore": "background"},
        {"ignore": np.eye(32, dtype=bool)},
        {"ignore": [[(0, 0), (0.5, 0), (0, 0.5)]]},
        {"ignore": {"nut": Path("nut.png")}},
        {"tile_size": 16},
    ],
)
def test_settings_changed_after_fit_are_named(change):
    features = ConvFeatures(Blocks(), layers=("stage1", "stage2"), image_size=32).fit(PHOTOS)
    features.set_params(**change)
    with pytest.raises(ValueError, match=f"{next(iter(change))} is .*was fitted with"):
        features.transform(PHOTOS)


@pytest.mark.parametrize(
    "change", [{"batch_size": 0}, {"n_jobs": "two"}, {"crop": "all"}, {"window": "none"}]
)
def test_settings_that_are_none_are_named_after_fit_too(change):
    features = ConvFeatures(Blocks(), layers=("stage1",), image_size=32).fit(PHOTOS)
    with pytest.raises(ValueError, match=next(iter(change))):
        features.set_params(**change).transform(PHOTOS)


def test_a_region_that_is_given_again_is_the_same():
    corner = [[(0, 0), (0.6, 0), (0, 0.6)]]
    options = {"layers": ("stage1",), "image_size": 32}
    features = ConvFeatures(Blocks(), ignore={"a": corner, "b": np.eye(32) > 0}, **options)
    features.fit(PHOTOS).set_params(ignore={"b": np.eye(32) > 0, "a": corner})
    assert features.transform(PHOTOS).shape[0] == 3


@pytest.mark.parametrize("change", [{"batch_size": 1}, {"n_jobs": 1}, {"layers": ["stage1"]}])
def test_settings_without_effect_may_be_changed(change):
    features = ConvFeatures(Blocks(), layers=("stage1",), image_size=32).fit(PHOTOS)
    before = np.asarray(features.transform(PHOTOS))
    np.testing.assert_array_equal(
        np.asarray(features.set_params(**change).transform(PHOTOS)), before
    )
