"""The generated reference says what the code does."""

from pathlib import Path

from docs.coverage import unknown_marks
from docs.generate import mesh_config, supported_fields

ROOT = Path(__file__).parents[2]


def test_the_list_of_fields_is_the_codes_own():
    written = (ROOT / "docs" / "reference" / "fields.md").read_text()
    assert written == supported_fields(), "run: python -m docs.generate"


def test_tests_name_fields_that_exist():
    assert unknown_marks() == []


def test_the_page_on_the_mesh_configuration_is_the_codes_own():
    written = (ROOT / "docs" / "reference" / "mesh-config.md").read_text()
    assert written == mesh_config(), "run: python -m docs.generate"
