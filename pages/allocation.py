"""How is a total shared out over layers? Every rule, one's own, what it should cost, the truth."""

import streamlit as st

from app import allocation_check as check
from app import cache, live
from app.allocation_curves import choose_sweep, offer_sweep, sweep_plan
from app.allocation_editor import draw_editor
from app.allocation_rules import at_targets, plain, recipes_of_rules, ruled, with_curves
from app.allocation_view import choose_target, draw_radar, draw_rules
from app.allocation_words import rules_python
from app.state import frame
from sparsity_core.curve_row import CurveResult
from sparsity_core.errors import SparsityError

st.title("Allocation")
st.caption(
    "How a total sparsity is shared out over layers. Nothing is trained here; each rule prunes in "
    "one round, from the same scores."
)
chosen = frame()
cache.task(chosen.model)
try:
    store = cache.store()
    left, right = st.columns([3, 1], vertical_alignment="center")
    with left:
        target = choose_target(chosen)
    with right:
        sweep = choose_sweep(chosen)
    recipes = recipes_of_rules(chosen, sweep, target)
    recipe = plain(
        chosen.recipe, with_curves(chosen.recipe.allocation, sweep), chosen.recipe.sparsity
    )
    found = ruled(chosen, sweep, {check.HAND: recipe} | recipes)
    if found is None:
        st.stop()
    hand, *rules = shown = found
    if all(rule.reason for rule in rules):
        raise SparsityError(rules[0].reason)
    python = rules_python(chosen.model, list(recipes.values()))
    draw_rules(chosen.model, rules, python)
    draw_radar(chosen, rules, recipes, python)

    st.header("Your allocation")
    draw_editor(chosen, hand, rules)
    swept = sweep_plan(chosen)
    offer_sweep(swept, sweep, store, recipe)

    st.header("Forecast and truth")
    own = check.check_plan(chosen, [recipe], [recipe.sparsity], sweep)
    targets = check.choose_targets(chosen)
    every = at_targets(recipes, targets)
    forecasts = ruled(chosen, sweep, every)
    able = check.able(forecasts or [])
    joint = check.check_plan(chosen, able, targets, sweep) if able else None
    left, right = st.columns(check.WIDTHS)
    with left:
        if not hand.reason:
            check.offer(own, store, "This allocation", "verify")
    with right:
        if joint:
            check.offer(joint, store, "All rules", "check all")

    def results() -> None:
        """Everything that grows while a job runs."""
        measured: list[CurveResult] = store.rows(joint) if joint else []
        left, right = st.columns(check.WIDTHS)
        with left:
            st.subheader("Forecast beside truth")
            check.draw_truth(own, check.compared(shown, [*store.rows(own), *measured]))
        with right:
            st.subheader("Do single layers add up?")
            if joint and forecasts is not None:
                check.draw_additivity(joint, check.compared(forecasts, measured))

    live.follow(live.to_follow([plan for plan in (own, joint, swept) if plan]), results)
except SparsityError as error:
    st.error(str(error))
