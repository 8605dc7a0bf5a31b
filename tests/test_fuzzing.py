"""A short campaign of mutated files, and every input that ever made trouble.

The long one is benchmarks/fuzz_codec.py; docs/fuzzing.md records what it found.
"""

from pathlib import Path

import fuzzing
import pytest

from sws import codec

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.sws"))
SECONDS = 10.0


@pytest.fixture(scope="module")
def found():
    return fuzzing.campaign(1500, seed=7, limit=SECONDS)


def test_no_mutant_does_more_than_decode_or_be_refused(found):
    assert found.inputs == 1500
    assert [(what, len(data)) for what, data in found.failures] == []


def test_the_mutants_reach_the_inner_parsers(found):
    """A campaign that stops at the checksum or the magic number would prove nothing."""
    assert len(found.kinds) == 10
    assert found.decoded > 0.1 * found.inputs
    behind_the_header = ("codebook", "far more", "finite", "lag", "entries", "flags", "quantised")
    seen = " ".join(found.reasons)
    assert sum(word in seen for word in behind_the_header) >= 3, found.reasons
    assert len(found.reasons) >= 20, found.reasons
    assert found.reasons["the checksum is wrong"] < 0.2 * found.inputs


def test_seeds_are_sound_and_their_layout_is_understood():
    for data in fuzzing.seeds() + fuzzing.large_seeds():
        network = codec.decode(data)
        layout = fuzzing.Layout.of(data)
        assert len(layout.flags) == len(network.tensors)
        assert fuzzing.signed(layout.content) == data


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_what_once_made_trouble(path):
    found = fuzzing.Findings()
    found.add("corpus", path.read_bytes(), SECONDS)
    assert [what for what, _ in found.failures] == []


def test_a_reason_is_one_printable_line_whatever_it_quotes():
    error = codec.CorruptFileError("w\x7f\n\x1b[31m\u202eé: unknown flags")
    assert str(error) == "w\\x7f\\n\\x1b[31m\\u202eé: unknown flags"


def test_the_document_tells_the_seeds():
    files = fuzzing.seeds()
    text = (Path(__file__).parents[1] / "docs" / "fuzzing.md").read_text(encoding="utf-8")
    assert f"{len(files)} small files ({sum(map(len, files)):,} bytes in all" in text
