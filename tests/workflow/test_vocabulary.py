"""Rules spell paths literally; they are the library's vocabulary, all of it, and nothing else."""

import re
from pathlib import Path

from caxflow import targets
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
# Stages whose rules come with later work.
MADE_ELSEWHERE = {"minitrees.done", "raw.purged"}


def paths(body, *sections):
    """Literal paths with wildcards in some sections of a rule."""
    found = []
    for section in sections:
        match = re.search(rf"^    {section}:\n((?:        .*\n)+)", body, re.MULTILINE)
        found += re.findall(r'"([^"\s]*\{[^"\s]*)"', match[1]) if match else []
    return found


def fill(pattern):
    return pattern.replace("{site}", "midway").replace("{run}", "160315_1432_MV")


def test_every_path_of_a_rule_is_a_target():
    for rule, body in BODIES.items():
        for pattern in paths(body, "input", "output"):
            target = targets.parse(fill(pattern))
            assert pattern == f"{{site}}/{{run}}.{target.stage}", rule
            assert target.run == Run("160315_1432", "muon_veto")


def test_every_stage_is_made_by_a_rule():
    made = {
        targets.parse(fill(pattern)).stage for body in BODIES.values() for pattern in paths(body, "output")
    }
    assert made >= set(targets.STAGES) - MADE_ELSEWHERE
    assert made <= set(targets.STAGES)


def test_input_functions_build_targets_only():
    written = re.findall(r'f"(\{[^"]*)"', RULES["common.smk"])
    assert written
    # What nothing makes, so that no rule applies.
    nothing = ("raw.unknown", "raw.known")
    for text in written:
        stage = re.sub(r"^.*?/.*?\}\.", "", text)
        assert stage in (*targets.STAGES, *nothing), text
    assert not set(nothing) & set(targets.STAGES)


def test_every_rule_has_a_log_of_its_own_a_message_and_a_docstring_with_its_wildcards():
    assert len(MAKERS) >= 8
    for rule, body in MAKERS.items():
        assert body.lstrip().startswith('"""'), rule
        assert "Uses wildcards site, run." in body, rule
        assert f'"logs/{{site}}/{{run}}.{rule}.log"' in body, rule
        assert "    message:\n" in body, rule
        assert f'"../scripts/{rule}.py"' in body, rule


def test_every_script_is_a_thin_adapter_of_a_rule():
    scripts = {path.stem: path.read_text() for path in (WORKFLOW / "scripts").glob("*.py")}
    assert set(scripts) == {rule for rule, body in BODIES.items() if "    script:\n" in body}
    for name, text in scripts.items():
        assert f'"""Adapter of rule {name}."""' in text
        assert len(re.findall(r"^[^\s#]", text, re.MULTILINE)) <= 20, name


def test_precious_data_are_no_output():
    for body in BODIES.values():
        for pattern in paths(body, "output"):
            assert pattern.endswith((".done", ".checksum", ".settings.json", ".processed.root", ".purged"))
