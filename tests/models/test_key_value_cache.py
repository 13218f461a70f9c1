import pytest
import torch
from transformers import DynamicCache

from mechaudio.models.hearing import past_prompt
from mechaudio.models.keywords import cache_name, with_cache

NAMES = ("past_key_values", "cache", "a_name_of_tomorrow")


@pytest.fixture
def empty():
    return DynamicCache()


@pytest.fixture
def filled():
    cache = DynamicCache()
    cache.update(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 4), 0)
    return cache


@pytest.mark.parametrize("name", NAMES)
def test_the_cache_is_known_by_its_type_whatever_it_is_called(name, empty):
    assert cache_name({"input_ids": torch.zeros(1, 3), "use_cache": True, name: empty}) == name


@pytest.mark.parametrize("name", NAMES)
def test_a_name_alone_makes_no_cache(name):
    assert cache_name({"use_cache": True, name: None}) is None


@pytest.mark.parametrize("name", NAMES)
def test_another_cache_takes_the_name_of_the_one_there_was(name, empty, filled):
    assert with_cache({"use_cache": True, name: empty}, filled) == {"use_cache": True, name: filled}
    assert with_cache({"use_cache": True, name: empty}, None) == {"use_cache": True, name: None}


def test_arguments_without_a_cache_are_given_none(filled):
    assert with_cache({"use_cache": False}, filled) == {"use_cache": False}


@pytest.mark.parametrize("name", NAMES)
def test_a_later_step_of_a_generation_is_one_whose_cache_holds_something(name, empty, filled):
    assert past_prompt({name: filled})
    assert not past_prompt({name: empty})
    assert not past_prompt({name: None})
