"""What an operator says about fabrications, and who grants what they ask for, is refused where it is malformed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from arbiter import Arbiter
from blackboard.errors import BadInput
from fabricator import FabricationSettings, GrantPolicy


@pytest.mark.parametrize(
    ("given", "field", "said"),
    [
        ({"grants": {"http": "maybe"}}, "grants.http", "'allow', 'ask' or 'deny'"),
        ({"grants": {"http": None}}, "grants.http", "'allow', 'ask' or 'deny'"),
        ({"grants": {"network": "allow"}}, "grants.network", "no such field"),
        ({"grants": "ask"}, "grants", "Give an object"),
        ({"grantable": {"http_hosts": "example.com"}}, "grantable.http_hosts", "Give a list"),
        ({"grantable": {"http_hosts": ["*.com"]}}, "grantable.http_hosts", "everybody"),
        ({"grantable": {"models": ["gpt"]}}, "grantable.models", "model=True"),
        ({"grantable": {"model": "perhaps"}}, "grantable.model", "true or false"),
        ({"grantable": {"topics": {"read": ["a..b"]}}}, "grantable.topics.read", "words"),
        ({"extra_imports": ["num py"]}, "extra_imports", "importable"),
        ({"extra_imports": ["arbiter"]}, "extra_imports", "not one of Arbiter's"),
        ({"extra_imports": "numpy"}, "extra_imports", "Give a list"),
        ({"repairs": -1}, "repairs", "0 or more"),
        ({"case_seconds": math.nan}, "case_seconds", "finite"),
        ({"model_seconds": math.inf}, "model_seconds", "finite"),
        ({"near_duplicate": 2}, "near_duplicate", "1 or less"),
        ({"public_cases": 50, "most_cases": 10}, "most_cases", "No exam could have"),
    ],
)
def test_a_malformed_setting_is_refused_with_field_value_and_remedy_at_each_edge(
    given: dict[str, Any], field: str, said: str
) -> None:
    edges = (
        (lambda: FabricationSettings(**given), ""),
        (lambda: Arbiter("memory://", fabrication=given), "fabrication."),
    )
    for edge, prefix in edges:
        with pytest.raises(BadInput, match=said) as error:
            edge()
        assert error.value.field == prefix + field
        assert error.value.remedy


def test_a_malformed_rule_is_refused_where_it_is_made() -> None:
    with pytest.raises(BadInput, match=r"http: 'maybe' was refused\. Use 'allow', 'ask' or 'deny'\."):
        GrantPolicy(http="maybe")  # type: ignore[arg-type]


def test_settings_come_from_a_file_the_environment_may_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "fabrication.toml"
    file.write_text('repairs = 1\n[grants]\nhttp = "deny"\n')
    assert FabricationSettings.of(file) == FabricationSettings(repairs=1, grants=GrantPolicy(http="deny"))
    monkeypatch.setenv("ARBITER_FABRICATION", str(file))
    assert FabricationSettings.of(None).grants.http == "deny"
    file.write_text('[grants]\nhttp = "maybe"\n')
    with pytest.raises(BadInput, match=r"ARBITER_FABRICATION\.grants\.http: 'maybe'"):
        Arbiter("memory://")
    Arbiter("memory://", roles=())
