"""Questions about what was chosen and what became of it: picks, arms, groups and their scores."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from typing import Any

from sqlalchemy import Double, Integer, and_, case, cast, func, or_, select
from sqlalchemy.sql import FromClause

from store.ledger import query_rows as q
from store.ledger import tables as t
from store.ledger.queries.base import Answers, Queries, bin_of, same_step, within
from store.records import EVERYTHING


class ChoiceQueries(Queries):
    """The bandits' and the scheduler's choices, and the tasks that were played."""

    def picks(self, name: str, after: int = -1, until: int | None = None) -> list[q.PickRow]:
        """All decisions of the steps later than `after`; a scheduler's is at the steps done before its stage."""
        row = t.pick.c
        query = self.rows_of(name, q.PickRow, t.pick).where(*within(row.step, after, until))
        return self.ask(q.PickRow, query.order_by(row.step, row.stage, row.level, row.slot))

    def stage_picks(self, name: str) -> list[q.PickRow]:
        """What a scheduler chose, by stage; nothing in flat mode."""
        query = self.rows_of(name, q.PickRow, t.pick).where(t.pick.c.level == "scheduler")
        return self.ask(q.PickRow, query.order_by(t.pick.c.stage))

    def categories(self, name: str) -> Answers:
        """Categories that the run's bandits could pick, with parameters: trainable, and evaluated or trained on.

        They are in the order in which the ledger was first told of them: the environment's own, unless other options
        under the same keys had another.
        """
        row, run_id = t.category.c, self.run_id(name)
        measured = select(t.eval_cell.c.category_id).where(t.eval_cell.c.run_id == run_id)
        trained = select(t.task_group.c.category_id).where(t.task_group.c.run_id == run_id)
        seen = or_(row.category_id.in_(measured), row.category_id.in_(trained))
        columns = (t.environment.c.name.label("environment"), row.name, row.parameters)
        query = select(*columns).select_from(t.with_names(t.category))
        query = query.where(row.category_id != 0, row.trainable, seen)
        named = t.category.alias()  # a category has another row where it became trainable or changed its parameters
        same = (named.c[key] == row[key] for key in ("environment_id", "name"))
        first = select(func.min(named.c.category_id)).where(*same).scalar_subquery()
        return self.fetch(query.order_by(row.environment_id, first))

    def arms(self, name: str, bandit: str | None = None, after: int = 0, until: int | None = None) -> list[q.ArmRow]:
        """What the bandits knew after each step later than `after`; one bandit only, if named."""
        row = t.arm_state.c
        query = self.rows_of(name, q.ArmRow, t.arm_state).where(*within(row.step, after, until))
        if bandit is not None:
            query = query.where(row.bandit == bandit)
        return self.ask(q.ArmRow, query.order_by(row.step, row.bandit, row.arm))

    def arm_curves(self, name: str, width: int = 1) -> Answers:
        """Every arm's probability over the steps, averaged over bins of `width` steps."""
        row = t.arm_state.c
        by = (row.bandit, row.arm, bin_of(row.step, width))
        step = func.avg(cast(row.step, Double)).label("step")
        query = select(row.bandit, row.arm, step, func.avg(row.probability).label("probability"))
        query = query.where(row.run_id == self.run_id(name))
        return self.fetch(query.group_by(*by).order_by(*by))

    def arm_paths(self, name: str) -> list[q.ArmPath]:
        """Where every arm's probability began, went and ended, in the order in which arms appeared.

        An arm that its bandit was without is at 0 there, as in quarantine: at the end, and in between, but not before
        it joined. Picks are counted: what a bandit knows of an arm begins anew where the arm was in quarantine.
        """
        row, run_id = t.arm_state.c, self.run_id(name)
        # asked first, so that arms are as new or newer where a run goes on; joined with them it takes far longer
        of_bandits = select(row.bandit, row.step).where(row.run_id == run_id).distinct().order_by(row.step)
        steps: dict[str, list[int]] = defaultdict(list)
        for one in self.fetch(of_bandits):
            steps[one.bandit].append(one.step)
        extremes = (
            *(func.min(row.step).label("first"), func.max(row.step).label("last"), func.count().label("num_steps")),
            func.min(row.probability).label("probability_min"),
            func.max(row.probability).label("probability_max"),
        )
        by_arm = select(row.bandit, row.arm, *extremes).where(row.run_id == run_id)
        path = by_arm.group_by(row.bandit, row.arm).subquery()
        begin, end = t.arm_state.alias(), t.arm_state.alias()
        source: FromClause = path
        for state, step in ((begin, path.c.first), (end, path.c.last)):
            same = (state.c[key] == path.c[key] for key in ("bandit", "arm"))
            source = source.join(state, and_(state.c.run_id == run_id, state.c.step == step, *same))
        of, environment = t.pick.c, t.environment.c
        bandit = case((of.level == "category", environment.name), else_=EVERYTHING).label("bandit")
        picked = select(bandit, of.arm, func.count().label("num_picks"))
        picked = picked.select_from(t.with_names(t.pick)).where(of.run_id == run_id)
        num = picked.where(of.level.in_(("scheduler", "category", "flat"))).group_by(bandit, of.arm).subquery()
        source = source.outerjoin(num, and_(num.c.bandit == path.c.bandit, num.c.arm == path.c.arm))
        query = select(
            *(path.c.first, path.c.last, path.c.num_steps),
            *(path.c.bandit, path.c.arm, begin.c.probability.label("probability_start")),
            *(path.c.probability_min, path.c.probability_max, end.c.probability.label("probability_end")),
            *(end.c.value.label("value_end"), func.coalesce(num.c.num_picks, 0).label("num_picks")),
        ).select_from(source)
        found = []
        for first, last, num_steps, *of_arm in self.fetch(query.order_by(path.c.first, path.c.bandit, path.c.arm)):
            arm = q.ArmPath(*of_arm)
            own = steps[arm.bandit]
            if own and last < own[-1]:
                arm = arm._replace(probability_min=0.0, probability_end=0.0)
            elif num_steps < len(own) - bisect_left(own, first):
                arm = arm._replace(probability_min=0.0)
            found.append(arm)
        return found

    def scores(self, name: str) -> list[q.GroupScores]:
        """How every group of training was scored."""
        row = t.task_group.c
        query = self.rows_of(name, q.GroupScores, t.task_group, row.scores.label("values"))
        return self.ask(q.GroupScores, query.order_by(row.step, row.slot))

    def allocation(self, name: str) -> Answers:
        """Where the samples went: by stage, environment, category and role."""
        row, stage, environment, category = t.task_group.c, t.step.c.stage, t.environment.c, t.category.c
        by = (stage, environment.name.label("environment"), category.name.label("category"), row.role)
        sums = ("num_samples", "num_scored", "num_correct", "value_sum")
        query = (
            select(*by, func.count().label("num_groups"), *(func.sum(row[key]).label(key) for key in sums))
            .select_from(t.with_names(t.task_group).join(t.step, same_step(t.task_group)))
            .where(row.run_id == self.run_id(name))
            .group_by(stage, environment.name, category.name, row.role)
            .order_by(stage, func.min(row.environment_id), func.min(row.category_id), row.role)
        )
        return self.fetch(query)

    def taught(self, name: str, reward: str) -> Answers:
        """How many groups of every category had a signal in what the objective reads: `value` or `correct`.

        Verdicts differ where some but not all are correct. Of values every step has the share of groups without
        spread.
        """
        group, metric, run_id = t.task_group.c, t.step_metric.c, self.run_id(name)
        by = (t.environment.c.name.label("environment"), t.category.c.name.label("category"))
        names = (t.environment.c.name, t.category.c.name)
        mixed = case(((group.num_correct > 0) & (group.num_correct < group.num_scored), 1), else_=0)
        place = (func.min(group.environment_id).label("first_environment"), func.min(group.category_id).label("first"))
        groups = (
            select(*by, *place, func.count().label("num_groups"), func.sum(mixed).label("num_mixed"))
            .select_from(t.with_names(t.task_group))
            .where(group.run_id == run_id)
            .group_by(*names)
            .subquery()
        )
        spread = (
            select(*by, func.sum(metric.n * (1 - metric.value)).label("num"))
            .select_from(t.with_names(t.step_metric))
            .where(metric.run_id == run_id, t.metric_def.c.name == "zero_var_groups")
            .group_by(*names)
            .subquery()
        )
        same = (spread.c[key] == groups.c[key] for key in ("environment", "category"))
        counted = groups.c.num_mixed if reward == "correct" else func.round(func.coalesce(spread.c.num, 0))
        query = select(
            *(groups.c[key] for key in ("environment", "category", "num_groups")),
            cast(counted, Integer).label("num_taught"),
        ).select_from(groups.outerjoin(spread, and_(*same)))
        return self.fetch(query.order_by(groups.c.first_environment, groups.c.first))

    def unscorable(self, name: str) -> list[dict[str, Any]]:
        """How many samples could not be scored, and why."""
        row = t.task_group.c
        query = select(t.environment.c.name, row.reasons).select_from(t.with_names(t.task_group))
        found = self.fetch(query.where(row.run_id == self.run_id(name), row.num_scored < row.num_samples))
        counts = Counter((name, why) for name, reasons in found for why in reasons if why is not None)
        return [
            {"environment": environment, "reason": reason, "num_samples": num}
            for (environment, reason), num in sorted(counts.items())
        ]
