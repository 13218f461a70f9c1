from tests.moved_packages import moved, pins

CONSTRAINTS = """
# A comment
Jinja2==3.1.6
torch==2.13.0
transformers==5.23.0 ; python_version >= "3.10"
transformers==4.0.0 ; python_version < "3.10"
"""


def test_pins_are_those_of_this_python_under_canonical_names():
    assert pins(CONSTRAINTS) == {"jinja2": "3.1.6", "torch": "2.13.0", "transformers": "5.23.0"}


def test_a_package_that_moved_is_named_with_both_versions_and_a_new_one_with_its_own():
    installed = {"transformers": "5.24.0", "jinja2": "3.1.6", "aiohttp": "3.14.5"}
    assert moved(pins(CONSTRAINTS), installed) == [
        "aiohttp: pinned nowhere, installed 3.14.5",
        "transformers: pinned 5.23.0, installed 5.24.0",
    ]


def test_another_build_of_the_pinned_version_has_not_moved():
    assert moved(pins(CONSTRAINTS), {"torch": "2.13.0+cpu"}) == []
