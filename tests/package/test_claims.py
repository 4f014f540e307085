"""The ledger's mechanics: a check that is false must fail, one that is true must show."""

import numpy as np
import pytest
import yaml

import mfbook as mf
from mfbook.book import claims
from mfbook.book.claims import Claim, ClaimFailed, Ledger

ROW = Claim(
    "some-id", "bai2024", "Theorem 9", "One is <less> than two.", "data/graph", "fine-print", "so"
)


def test_a_true_check_shows_its_evidence():
    card = ROW.check(1 < 2, "1 & 2").check(np.bool_(True), "again")
    assert repr(card) == "✓ some-id [fine-print] 1 & 2; again"
    html = card._repr_html_()
    assert 'id="claim-some-id"' in html and "1 &amp; 2" in html
    assert 'href="../ledger.html#row-some-id"' in html


def test_cards_link_to_notebooks_where_the_pages_are_notebooks(monkeypatch):
    monkeypatch.setenv("MFBOOK_PAGES", "ipynb")
    assert 'href="../ledger.ipynb#row-some-id"' in ROW.check(True, "so")._repr_html_()
    assert 'href="data/graph.ipynb#claim-some-id"' in Ledger([ROW])._repr_html_()


@pytest.mark.parametrize("false", [False, np.bool_(False), np.float64(2) < 1])
def test_a_false_check_fails(false):
    with pytest.raises(ClaimFailed, match="Theorem 9"):
        ROW.check(false, "evidence")
    with pytest.raises(ClaimFailed):
        ROW.check(True, "fine").check(false, "evidence")


@pytest.mark.parametrize("condition", [np.array([True, True]), "yes", 1, None, [True]])
def test_what_is_not_one_boolean_cannot_pass(condition):
    with pytest.raises(TypeError, match="one boolean"):
        ROW.check(condition, "evidence")


@pytest.mark.parametrize("evidence", ["", "  ", None, 1e-9])
@pytest.mark.parametrize("condition", [True, False])
def test_a_check_has_to_say_what_was_found(condition, evidence):
    with pytest.raises(TypeError, match="evidence must be a text"):
        mf.claim("bai2024-def1").check(condition, evidence)


@pytest.mark.parametrize("bad", [np.nan, np.inf, "1e-3", None])
def test_what_is_no_number_is_below_nothing(bad):
    with pytest.raises((TypeError, ValueError), match=r"x must be .*, but is"):
        mf.below(bad)


def test_unknown_claims_are_refused_with_the_nearest():
    with pytest.raises(KeyError, match="bai2024-def1"):
        mf.claim("bai2024-deff1")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("paper", "nobody", "none of"),
        ("verdict", "true", "none of"),
        ("statement", "", "must not be empty"),
        ("note", "", "needs a note"),
    ],
)
def test_bad_rows_are_refused(field, value, message):
    with pytest.raises(ValueError, match=message):
        Claim(**{**ROW.__dict__, field: value})


def test_the_table_links_each_row_to_its_card():
    html = Ledger([ROW])._repr_html_()
    assert 'href="data/graph.html#claim-some-id"' in html
    assert "&lt;less&gt;" in html
    assert repr(Ledger([ROW])) == "1 claims: 1 fine-print"


def test_an_id_that_comes_twice_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "folder", lambda: tmp_path)
    rows = [{**ROW.__dict__, "id": id} for id in ("b", "a", "b")]
    for given, says in ((rows, r"more than once: \['b'\]"), (rows[:2], None)):
        (tmp_path / "claims.yml").write_text(yaml.safe_dump(given), encoding="utf-8")
        if says:
            with pytest.raises(ValueError, match=says):
                claims.ledger.__wrapped__()
        else:
            assert [row.id for row in claims.ledger.__wrapped__()] == ["b", "a"]
