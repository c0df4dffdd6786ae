"""Rules spell paths literally; they are the library's vocabulary, all of it, and nothing else."""

import re
from pathlib import Path

import pytest

from caxflow import targets
from caxflow.errors import CaxflowError
from caxflow.targets import Run

WORKFLOW = Path(targets.__file__).parents[1]
RULES = {path.name: path.read_text() for path in (WORKFLOW / "rules").glob("*.smk")}
BODIES = dict(
    found
    for text in RULES.values()
    for found in re.findall(r"^rule (\w+):\n((?:    .*\n|\n)+)", text, re.MULTILINE)
)
# Rules that make a target, unlike `all` and its like, which only ask for some.
MAKERS = {rule: body for rule, body in BODIES.items() if "    output:\n" in body}
VALUES = {"site": "midway", "run": "160315_1432_MV", "version": "v6.8.0", "part": "0001-of-0003"}


def paths(body, *sections):
    """Literal paths with wildcards in some sections of a rule."""
    found = []
    for section in sections:
        match = re.search(rf"^    {section}:\n((?:        .*\n)+)", body, re.MULTILINE)
        found += re.findall(r'"([^"\s]*\{[^"\s]*)"', match[1]) if match else []
    return found


def fill(pattern):
    return re.sub(r"\{(\w+)\}", lambda match: VALUES[match[1]], pattern)


def is_temporary(pattern):
    """Whether Snakemake removes it once it was used; no target."""
    return pattern.startswith("parts/")


def test_every_path_of_a_rule_is_a_target():
    for rule, body in BODIES.items():
        for pattern in paths(body, "input", "output"):
            if is_temporary(pattern):
                assert f'temp("{pattern}")' in body
                with pytest.raises(CaxflowError):
                    targets.parse(fill(pattern))
                continue
            target = targets.parse(fill(pattern))
            assert target[:2] == ("midway", Run("160315_1432", "muon_veto"))
            assert str(target) == fill(pattern), rule


def test_every_stage_is_made_by_a_rule():
    outputs = [pattern for body in BODIES.values() for pattern in paths(body, "output")]
    made = {targets.parse(fill(pattern)).stage for pattern in outputs if not is_temporary(pattern)}
    assert made == {*targets.STAGES, *(f"pax_v6.8.0.{stage}" for stage in targets.VERSION_STAGES)}


def test_input_functions_build_targets_only():
    written = re.findall(r'f"(\{[^"]*/\{[^"]*)"', RULES["common.smk"])
    assert written
    # What nothing makes, so that no rule applies.
    nothing = ("raw.unknown", "raw.known")
    for text in written:
        stage = re.sub(r"^.*?/\{.*?\}\.", "", text)
        assert stage in (*targets.STAGES, *nothing), text
    assert not set(nothing) & set(targets.STAGES)


def test_every_rule_has_a_log_of_its_own_a_message_and_a_docstring_with_its_wildcards():
    assert len(MAKERS) >= 8
    for rule, body in MAKERS.items():
        wildcards = set(re.findall(r"\{(\w+)\}", " ".join(paths(body, "output"))))
        told = re.search(r"Uses wildcards ([\w, ]+)\.", body)
        assert body.lstrip().startswith('"""'), rule
        assert wildcards <= set(told[1].split(", ")), rule
        assert re.search(rf'^        "logs/\{{site\}}/\{{run\}}\.(\S+\.)?{rule}\.log"', body, re.MULTILINE), (
            rule
        )
        assert "    message:\n" in body, rule
        assert f'"../scripts/{rule}.py"' in body, rule


def test_every_script_is_a_thin_adapter_of_a_rule():
    scripts = {path.stem: path.read_text() for path in (WORKFLOW / "scripts").glob("*.py")}
    assert set(scripts) == {rule for rule, body in BODIES.items() if "    script:\n" in body}
    for name, text in scripts.items():
        assert f'"""Adapter of rule {name}."""' in text
        assert len(re.findall(r"^[^\s#]", text, re.MULTILINE)) <= 20, name


def test_precious_data_are_no_output():
    links = (".processed.root", "/160315_1432_MV.root", ".report.html")
    for body in BODIES.values():
        for pattern in paths(body, "output"):
            receipt = fill(pattern).endswith((".done", ".checksum", ".settings.json", ".purged"))
            assert receipt or is_temporary(pattern) or fill(pattern).endswith(links)
