"""The page says what the ledger says, and nothing that a task or a model wrote is ever more than text."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest

from store.carryover import Matrices, backward_transfer
from store.errors import LedgerError
from store.ledger import Ledger
from store.plasticity import first_and_last, read_plasticity
from store.records import CellRecord, CheckpointRecord, EventRecord, LineageRecord, RunRecord
from store.report import REPORT_FILE, charts, learning_curves, render, write
from store.report.page import heat_maps
from store.report.report_data import ReportData
from store.report.selection_charts import bandit_panels, scheduler_panel
from store.run_summary import facts
from store.sentences import in_words, number, signed
from tests.shares import share
from tests.store.plasticity_runs import ENVIRONMENTS, looks, plastic
from tests.store.report.conftest import Tell
from tests.store.report.pages import Page
from tests.store.report.runs import Shape, accuracy, entropy, written

MANY = Shape(
    environments=[f"environment {i}" for i in range(12)],
    categories=[f"category {i}" for i in range(30)],
    stages=12,
    steps=2,
)

HOSTILE = {
    "script": "<script>alert(1)</script>",
    "textarea": "</textarea></pre></style></title><img src=x>",
    "attribute": '" onerror="alert(1)" x="',
    "single quotes": "' onmouseover='alert(1)",
    "template": "{{ 7 * 7 }}{% raw %}",
    "comment": "<!-- --!> <![CDATA[ ]]>",
    "escape sequences": "\x1b[31mred\x1b]8;;http://x\x07",
    "NUL": "a\0b",
    "right-to-left override": "\u202etxt.exe\u2066",
    "lone surrogate": "\ud800 and \udfff",
    "noncharacters": "\ufffe\uffff\x85",
    "long line": "x" * 100_000,
}


def all_over(text: str) -> Shape:
    """A run with this text wherever a task, a model, an environment or a user can write one."""
    name = text.encode("utf-8", "replace").decode()  # the ledger takes no other
    return Shape(
        environments=("book", f"w{name}"),
        categories=("easy", f"c{name}"),
        prompt=text,
        completion=text,
        reason=text,
        events=[EventRecord(f"k{name}", text)],
        spec={"note": text, f"key{text}": text, "objective": {"preset": text, "estimator": text}},
    )


def test_tables_hold_the_numbers_of_the_ledger(tell: Tell) -> None:
    page = Page(tell(Shape()))
    assert page.bare == []
    assert [row[:1] + row[2:] for row in page.tables["glance"][2:]] == [
        [
            name,
            number(accuracy(0, place)),
            f"{number(accuracy(3, place))} ± .02",
            signed(accuracy(3, place) - accuracy(0, place)),
            number(entropy(0, place)),
            number(entropy(3, place)),
            f"{entropy(3, place) / entropy(0, place):.0%}",
            "50%",
        ]
        for place, name in enumerate(("book", "words"))
    ]
    for metric, of in (("accuracy", accuracy), ("entropy", entropy)):
        assert [row[1:] for row in page.body(f"matrix-{metric}")] == [
            [number(of(stage, place)) for place in range(2)] for stage in range(4)
        ]
    assert [row[0] for row in page.body("matrix-accuracy")] == ["start", "1 book", "2 words", "3 book"]
    assert page.classes["trained"] == 2 * 3
    assert page.body("levels")[0] == ["book", "all", ".60", ".30", ".02", "-.30"]
    assert page.body("stages")[0] == ["1", "book", "4", ".50", ".125", "budget"]
    assert {row[-1] for row in page.body("allocation")} == {"50%"}


def test_what_no_boundary_measured_since_the_start_has_no_now(tell: Tell) -> None:
    page = Page(tell(Shape(stages=4, boundaries=3, looked_at={1: ["book"], 2: ["book"]})))
    (words,) = [row for row in page.tables["glance"][2:] if row[0].startswith("words")]
    assert words == ["words (before training)", "", ".11", "-", "-", "2.00", "-", "\u2013", "50%"]
    assert page.body("levels")[3] == ["words (before training)", "all", ".11", "-", "-", "-"]
    page = Page(tell(Shape(stages=4, boundaries=4, looked_at={3: ["book"]})))
    assert page.tables["glance"][3][0] == "words (after stage 2)"
    assert page.tables["glance"][3][3:5] == [f"{number(accuracy(2, 1))} ± .02", "+.10"]


def test_sums_of_samples_are_those_of_the_ledger(ledger: Ledger, name: Callable[[], str], tmp_path: Path) -> None:
    run = written(ledger, Shape(), name()).name
    page = Page(render(ledger, tmp_path, run))
    told = {(e, c): (int(n), int(r)) for e, c, n, r, *_ in page.body("allocation")}
    rows = ledger.reading.allocation(run)
    assert sum(n for n, _ in told.values()) == sum(row.num_samples for row in rows) == 12 * 8
    for key, (samples, replayed) in told.items():
        own = [row for row in rows if (row.environment, row.category) == key]
        assert samples == sum(row.num_samples for row in own)
        assert replayed == sum(row.num_samples for row in own if row.role == "replay")


def test_the_sentences_and_the_summaries_are_those_of_the_story(
    ledger: Ledger, name: Callable[[], str], tmp_path: Path
) -> None:
    run = written(ledger, Shape(), name()).name
    story = facts(ledger, tmp_path, run)
    page = Page(render(ledger, tmp_path, run))
    for sentence in in_words(story).values():
        assert sentence in page.text
    matrix = {(i, e): accuracy(i, p) for i in range(4) for p, e in enumerate(("book", "words"))}
    expected = backward_transfer(Matrices(matrix, {}, {}, ["book", "words", "book"])).value
    assert story["carry_over"]["backward_transfer"] == pytest.approx(expected)
    assert re.search(rf"Backward transfer BWT ?{re.escape(signed(expected))} mean change", page.text)


def test_the_same_task_is_shown_before_and_after(tell: Tell) -> None:
    page = Page(tell(Shape()))
    assert page.classes["example"] == 2 * 2 * 2
    assert (page.classes["wrong"], page.classes["correct"]) == (8, 8)
    assert "eert 0" in page.text
    assert "eert 3" in page.text
    assert "eert 1" not in page.text


def test_charts_are_there_and_stages_are_shaded(tell: Tell) -> None:
    page = Page(tell(Shape()))
    # held out, in training, two panels of categories, entropy, two bandits
    assert page.classes["chart"] == 7
    assert page.classes["stacked"] == 2
    assert page.classes["band"] == 7 * 3


@pytest.mark.parametrize("text", share(HOSTILE.values(), 4), ids=HOSTILE.keys())
def test_hostile_text_is_shown_as_text(tell: Tell, text: str) -> None:
    plain = Page(tell(all_over("x" * len(text))))
    page = Page(html := tell(all_over(text)))
    assert html.encode().decode() == html
    assert len(html) < 300_000
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]", html)
    assert page.tags == plain.tags
    assert page.attributes == plain.attributes
    if text in html:
        assert not set(text) & set("<>\"'")  # else it was escaped, or made visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<b>&", "<b>&"),
        ("\x1b[0m", "\u241b[0m"),
        ("\0", "\u2400"),
        ("\u202e", "⟨U+202E⟩"),
        ("\ud800", "\ufffd"),
    ],
)
def test_what_is_shown_is_what_was_written(tell: Tell, text: str, shown: str) -> None:
    html = tell(Shape(prompt=f"begin{text}end"))
    assert f"begin{shown}end" in unescape(html)


def test_long_texts_are_cut_and_say_so(tell: Tell) -> None:
    html = tell(Shape(prompt="p" * 100_000))
    assert "… (99,400 characters more)" in html


def test_a_page_runs_nothing_loads_nothing_and_names_its_one_style_by_hash(tell: Tell) -> None:
    page = Page(html := tell(Shape()))
    assert re.search(r"default-src &#39;none&#39;; style-src &#39;sha256-[\w+/=]{44}&#39;;", html)
    assert not page.tags.keys() & {"script", "img", "link", "iframe", "a", "base", "object", "form"}
    assert not page.attributes.keys() & {"style", "src", "href", "onclick"}
    assert "@import" not in html
    assert "url(" not in html


def test_a_run_that_has_only_begun_says_so(ledger: Ledger, name: Callable[[], str], tmp_path: Path) -> None:
    run = written(ledger, Shape(boundaries=0), name()).name
    page = Page(render(ledger, tmp_path, run))
    assert "0 of 12 steps" in page.text
    assert page.text.count("No stage is finished yet.") == 1
    assert "Nothing was measured yet" in page.text
    assert page.classes["chart"] == 0


def test_a_run_before_its_first_stage_shows_where_it_starts(tell: Tell) -> None:
    page = Page(tell(Shape(boundaries=1)))
    assert page.tables["glance"][2][2:5] == [".60", ".60 ± .02", ".00"]
    assert page.classes["answer"] == 8  # before, and no after
    assert "numbers of carry-over need a finished stage" in page.text


def test_a_flat_run_has_one_bandit_and_no_numbers_of_stages(tell: Tell) -> None:
    page = Page(tell(Shape(is_flat=True)))
    assert "The bandit: which category of all" in page.text
    assert "In flat mode every stage trains all environments" in page.text
    assert page.classes["stacked"] == 1
    assert page.classes["trained"] == 0
    assert "stages" not in page.tables


def test_many_environments_stay_readable_and_the_page_small(tell: Tell) -> None:
    page = Page(html := tell(MANY))
    assert len(html) < 1_000_000
    assert len(page.body("levels")) == 12 * 31
    assert page.classes["chart"] == 3 + 12  # more than 200 arms: their states are not kept
    assert "probabilities of more than 200 arms are not kept" in page.text
    assert "The eight environments whose accuracy changed most have a colour" in page.text
    assert page.classes["example"] == 12 * 6
    assert "All numbers" in page.text


def test_long_runs_are_thinned_and_the_page_says_so(tell: Tell) -> None:
    html = tell(Shape(stages=2, steps=300))
    assert html.count("each point averages 10 steps") == 3
    paths = re.findall(r' d="([^"]+)"', html)
    assert max(len(re.findall(r"\d+ \d+", path)) for path in paths) <= 128  # areas go there and back


def test_incidents_are_counted_and_events_told(tell: Tell) -> None:
    events = [EventRecord("resumed", "resumed from step 3"), EventRecord("skipped update", "1 update")]
    page = Page(tell(Shape(reason="timed out", events=events)))
    assert "48 of 96 training samples (50.0%) could not be scored" in page.text
    assert "updates were skipped in 1 step, last in step 1." in page.text
    assert page.body("events") == [["step 1", "resumed", "resumed from step 3"]]
    assert page.body("unscorable") == [["book", "timed out", "32"], ["words", "timed out", "16"]]


def test_only_the_newest_events_are_listed(tell: Tell) -> None:
    events = [EventRecord("note", f"event {i}") for i in range(250)]
    page = Page(tell(Shape(events=events)))
    assert len(page.body("events")) == 200
    assert "50 older ones are not listed" in page.text
    assert page.body("events")[-1][2] == "event 249"


def test_a_fork_names_its_parent_and_tells_what_it_took_over(
    ledger: Ledger, name: Callable[[], str], tmp_path: Path
) -> None:
    run = written(ledger, Shape(), name()).name
    spec = ledger.reading.spec(run)
    lineage = LineageRecord(run, 2)
    record = RunRecord("uid of a fork", other := name(), 1, "tiny", "rloo", "round_robin", "sec", spec, [], {}, lineage)
    ledger.fork_run(record, CheckpointRecord(8, 3, "boundary", "checkpoints/x", "sha", 1))
    page = Page(render(ledger, tmp_path, other))
    assert f"Forked from {run} after stage 2" in page.text
    assert [row[0] for row in page.body("matrix-accuracy")] == ["start", "1 book", "2 words"]


def test_passwords_in_urls_are_left_out(tell: Tell) -> None:
    urls = {"ledger": {"url": "postgresql://me:secret@host/db"}, "tracker": {"uri": "https://token@host"}}
    html = tell(Shape(spec=urls))
    assert "postgresql://***@host/db" in html
    assert "secret" not in html
    assert "token@" not in html


def test_the_objective_is_told_part_by_part(tell: Tell) -> None:
    controller = {"type": "geometric", "target": 0.4, "start": None}
    objective = {
        "preset": "repo",
        "estimator": "rloo",
        "shaper": None,
        "controller": controller,
        "clip_high": 0.3,
    }
    page = Page(tell(Shape(spec={"objective": objective})))
    assert page.tables["objective"] == [["estimator", "rloo"], ["controller", "geometric (target 0.4)"]]
    assert "clip_high 0.3" in page.text


def test_a_finished_boundary_is_told_as_finished_while_the_trainer_still_holds_the_run(
    ledger: Ledger, name: Callable[[], str], tmp_path: Path
) -> None:
    from store.lock import run_lock

    run = written(ledger, Shape(), name()).name
    with run_lock(tmp_path):
        assert facts(ledger, tmp_path, run)["status"] == "running"
        assert "finished 12 of 12 steps" in Page(render(ledger, tmp_path, run)).text
    assert "killed 12 of" in Page(render(ledger, tmp_path, run)).text


def test_an_unknown_run_is_an_error(ledger: Ledger, name: Callable[[], str], tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="no run 'nobody'"):
        render(ledger, tmp_path, "nobody")


def test_the_page_is_written_into_the_runs_folder(ledger: Ledger, name: Callable[[], str], tmp_path: Path) -> None:
    run = written(ledger, Shape(), name()).name
    assert write(ledger, tmp_path, run) == tmp_path / REPORT_FILE
    assert (tmp_path / REPORT_FILE).read_text("utf-8").startswith("<!doctype html>")
    assert write(ledger, tmp_path, run, tmp_path / "other.html").is_file()


def test_the_plasticity_section_has_every_picture_with_its_table(ledger: Ledger, name: Callable[[], str]) -> None:
    page = Page(html := render(ledger, Path("nowhere"), plastic(ledger, name()).name))
    assert page.bare == []
    assert "<script" not in html
    ends = [row for row in page.body("probes") if row[1] == "after stage 6"]
    assert ends[0][:5] == ["rl wordsscore", "after stage 6", "3", ".200", ".100"]
    assert ends[0][7] == ".65"
    assert {"dormant_0.025", "erank", "weight_norm"} == {row[0] for row in page.body("network")}
    assert len(page.body("turnover")) == 3 * 6
    assert page.body("transfer")[0] == ["book 2x", "-.10±.04", "+.05±.04", "+.05±.04"]
    drawn = re.findall(r"<g class=.(up|down).><path.*?<title>(.*?)</title>", html)
    assert drawn, "what is more than chance"
    cells = {
        (row[0].split()[0], column): cell
        for row in page.body("transfer")
        for column, cell in zip(ENVIRONMENTS, row[1:], strict=True)
    }
    for way, about in drawn:
        trained, changed = re.findall(r" on (\w+) changed (\w+) by ", about)[0]
        assert trained != changed
        change, margin = cells[trained, changed].split("±")
        assert (way == "up") == (float(change) > 0)
        assert abs(float(change)) > float(margin)
    assert page.body("interventions")[0][-4:] == ["pass_1", ".277", ".200", "-.077"]
    assert page.body("looking")[-1][0] == "all looking"
    assert "no evidence that the policy can learn" in page.text
    # beside the seven of every page, and one more bandit and panel: two probes, two entropies, two drifts, two of the
    # network, three of turnover
    assert page.classes["chart"] == 7 + 2 + 11


def test_the_page_of_a_run_without_plasticity_has_nothing_of_it(tell: Tell) -> None:
    html = tell(Shape())
    assert 'id="plasticity"' not in html
    assert "path.range" not in html


def test_parts_that_were_not_measured_are_left_out(ledger: Ledger, name: Callable[[], str]) -> None:
    only = {
        "network": lambda after: {"network": looks(after)["network"]},
        "items": lambda a: {"items": looks(a)["items"]},
    }
    for what, more in only.items():
        run = written(ledger, Shape(environments=ENVIRONMENTS, stages=6, more=more), name())
        page = Page(render(ledger, Path("nowhere"), run.name))
        assert ("network" in page.tables) == (what == "network")
        assert ("turnover" in page.tables) == (what == "items")
        assert not {"probes", "interventions", "looking"} & page.tables.keys()


def test_the_scheduler_s_chart_has_the_probabilities_that_each_stage_was_picked_with(
    ledger: Ledger, name: Callable[[], str], tmp_path: Path
) -> None:
    drawn = [{"book": 0.25, "words": 0.75}, {"book": 0.0, "words": 1.0}, {"book": 0.5, "words": 0.5}]
    picks = [EventRecord("decision", "", {"stage": i, "probabilities": own}) for i, own in enumerate(drawn, start=1)]
    run = written(ledger, Shape(events=picks), name()).name
    chart = scheduler_panel(ReportData(ledger, tmp_path, run))
    assert chart is not None
    assert chart.title == "Probability of each stage's pick, round_robin"
    assert [(line.name, line.label) for line in chart.lines] == [("book", ".50"), ("words", ".50")]
    # a step from stage to stage, at the boundary, without slope
    assert chart.lines[0].path.startswith("M0 750 333 750 333 1000 667 1000 667 500 1000 500 ")
    assert chart.css == "low"


def test_a_scheduler_that_left_nothing_to_chance_has_no_chart(
    ledger: Ledger, name: Callable[[], str], tmp_path: Path
) -> None:
    sure = [EventRecord("decision", "", {"stage": 1, "probabilities": {"book": 1.0, "words": 0.0}})]
    for events in (sure, []):  # older records do not have them
        run = written(ledger, Shape(events=events), name()).name
        assert scheduler_panel(ReportData(ledger, tmp_path, run)) is None


def test_a_bandit_s_chart_ends_with_the_last_probabilities_not_with_an_average(
    ledger: Ledger, name: Callable[[], str], tmp_path: Path
) -> None:
    run = written(ledger, Shape(stages=2, steps=97), name()).name
    data = ReportData(ledger, tmp_path, run)
    assert data.arm_width > 1
    ends = {(arm["bandit"], arm["arm"]): number(arm["probability_end"]) for arm in data.facts["arms"]}
    for chart in bandit_panels(data):
        assert {(chart.title, line.name): line.label for line in chart.lines}.items() <= ends.items()


def test_the_twin_is_drawn_dotted_in_accuracy_and_entropy(
    ledger: Ledger, name: Callable[[], str], tmp_path: Path
) -> None:
    run = written(ledger, Shape(), name()).name
    written(ledger, Shape(baseline_of=run), name())
    data = ReportData(ledger, tmp_path, run)
    for chart in (learning_curves.held_out(data), learning_curves.in_training(data), learning_curves.entropy(data)):
        own, dotted = ([one for one in chart.lines if ("twin" in one.css) == is_twin] for is_twin in (False, True))
        assert [(line.name, line.css, line.path) for line in dotted] == [
            (f"{line.name}, twin", f"{line.css} twin", line.path) for line in own
        ]


def test_entropy_of_an_environment_without_a_stage_is_drawn_as_points(
    ledger: Ledger, name: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = Shape(environments=("book", "words", "letters"), stages=2)
    data = ReportData(ledger, tmp_path, written(ledger, shape, name()).name)
    lines = learning_curves.entropy(data).lines
    assert {line.name: len(line.dots) for line in lines} == {"book": 3, "words": 3, "letters": 3}
    assert {line.name for line in lines if line.path} == {"book", "words"}
    monkeypatch.setattr(charts, "MAX_DOTS", 8)
    lines = learning_curves.entropy(data).lines
    assert {line.name: len(line.dots) for line in lines} == {"book": 0, "words": 0, "letters": 3}


def test_entropy_above_its_start_has_another_hue(ledger: Ledger, name: Callable[[], str], tmp_path: Path) -> None:
    data = ReportData(ledger, tmp_path, written(ledger, Shape(), name()).name)
    assert [heat.note for heat in heat_maps(data)][1].endswith("shade: share of the column's first value.")
    rows = [(1.45, 1.0), (1.48, 0.5), (1.80, 1.2), (5.08, 2.0)]
    matrix = {str(i): dict(zip(("book", "words"), row, strict=True)) for i, row in enumerate(rows)}
    data.facts["matrices"]["entropy_token"] = matrix
    _, heat = heat_maps(data)
    assert [[cell.css.removesuffix(" trained") for cell in row.cells] for row in heat.rows] == [
        ["h20", "h20"],
        ["h20", "h10"],  # 102% is no change
        ["h9 above", "h9 above"],
        ["h20 above", "h20 above"],
    ]
    assert heat.rows[3].cells[0].title.endswith(", 350% of the first value")
    assert heat.note is not None
    assert heat.note.endswith("shade: share of the column's first value; amber: above it, darkest at twice.")


def test_what_the_samples_say_is_a_table_of_both_ends(ledger: Ledger, name: Callable[[], str], tmp_path: Path) -> None:
    values = {"entropy_answer": (0.5, 0.4), "pass_8": (0.75, 0.5), "distinct": (0.3, 0.2)}
    support = {"support_found_base": 0.25, "support_kept_base": 0.9}

    def cells(after_stage: int) -> dict[str, list[CellRecord]]:
        found = {metric: ends[after_stage > 0] for metric, ends in values.items()} | (support if after_stage else {})
        return {"cells": [CellRecord("book", None, metric, value, None, 8, 4) for metric, value in found.items()]}

    run = written(ledger, Shape(more=cells), name()).name
    page = Page(render(ledger, tmp_path, run))
    assert page.tables["answers"][0] == ["", "answer entropy", "pass@8", "distinct n-grams", "tasks within reach"]
    assert page.tables["answers"][2:] == [["book", ".50", ".40", ".75", ".50", ".30", ".20", "25%", "10%"]]
    assert page.bare == []
    (row,) = first_and_last(facts(ledger, tmp_path, run)["plasticity"])
    assert (row.what, row.first, row.last) == ("entropy of the answers to a task, nats", 0.5, 0.4)


def test_what_the_last_boundary_did_not_measure_of_samples_is_a_dash(
    ledger: Ledger, name: Callable[[], str], tmp_path: Path
) -> None:
    """Support against a base that played other tasks is not known: what it was before they changed is not "now"."""

    def cells(after_stage: int) -> dict[str, list[CellRecord]]:
        values = {"entropy_answer": 0.5 + after_stage, "distinct": 0.3}
        values |= {"support_found_base": 0.25, "support_kept_base": 0.0, "pass_8": 0.7} if after_stage == 1 else {}
        return {"cells": [CellRecord("book", None, metric, value, None, 8, 4) for metric, value in values.items()]}

    page = Page(render(ledger, tmp_path, written(ledger, Shape(more=cells), name()).name))
    assert page.tables["answers"][2:] == [["book", ".50", "3.50", "-", "-", ".30", ".30", "-", "-"]]


@pytest.mark.parametrize(("k", "told"), [(None, "pass_16"), ([2, 32], "pass_32")])
def test_the_largest_k_that_was_measured_is_told(
    ledger: Ledger, name: Callable[[], str], k: list[int] | None, told: str
) -> None:
    names = ("entropy_answer", "pass_2", "pass_16", "pass_32")
    cells = [CellRecord("book", None, metric, 0.5, None, 8, 4) for metric in names]
    spec = {"measure": {"of": [{"type": "samples", "k": k}]}}
    run = written(ledger, Shape(spec=spec, more=lambda _: {"cells": cells}), name()).name
    assert told in read_plasticity(ledger.reading, run, ledger.reading.carry_over(run)).answers


def test_entropy_of_samples_at_another_temperature_is_not_told_as_that_of_the_policy(
    ledger: Ledger, name: Callable[[], str], tmp_path: Path
) -> None:
    def note(run: str) -> str:
        return learning_curves.what_entropy_is_of(ReportData(ledger, tmp_path, run))

    cold = {"sampler": {"temperature": 0.5, "top_p": 0.9}}
    plain, own = written(ledger, Shape(), name()).name, written(ledger, Shape(spec=cold), name()).name
    assert "Points: the same on held-out tasks, at boundaries. Below .05 a policy" in note(plain)
    assert "the policy at temperature 0.5 and top_p 0.9. Points: that of the policy itself" in note(own)
    assert "the same" not in note(own)
    assert "Where points are below .05 a policy has collapsed" in note(own)
    assert note(own) in Page(render(ledger, tmp_path, own)).text
    twin = written(ledger, Shape(baseline_of=plain, spec=cold), name()).name
    assert f"{twin} in training, drawn at temperature 0.5 and top_p 0.9. Below .05" in note(plain)
    twin = written(ledger, Shape(baseline_of=own, spec=cold), name()).name
    assert f"{twin} in training. Where points" in note(own)
