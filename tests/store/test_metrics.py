from __future__ import annotations

import pytest

from store import metrics
from store.errors import UnknownMetric
from store.home import SLUG
from store.metrics import METRICS, metric
from tests.store.metric_documents import PAGE, document


def test_names_are_unique_and_can_be_part_of_a_tracker_s_name() -> None:
    assert all(SLUG.fullmatch(name) for name in METRICS)
    assert len(METRICS) == len(metrics._ALL)


@pytest.mark.parametrize("definition", METRICS.values(), ids=lambda definition: definition.name)
def test_every_metric_says_what_it_means_and_what_is_unhealthy(definition) -> None:
    assert definition.meaning
    assert definition.unhealthy
    assert definition.unit
    assert (definition.group == "time") == (definition.unit in ("s", "tokens/s"))


def test_an_unknown_metric_is_an_error_with_the_nearest_name() -> None:
    with pytest.raises(UnknownMetric, match=r"no metric 'acuracy'.*'accuracy'"):
        metric("acuracy")


def test_the_page_of_metrics_says_what_the_code_says() -> None:
    assert PAGE.read_text() == document(), "stale: python -m tests.store.metric_documents --write"
