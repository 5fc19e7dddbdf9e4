"""What does a scorer say of a layer, do scorers agree, and does any of them beat chance?"""

import streamlit as st

from app import cache, live
from app.scorer_form import choose_compared, choose_layer_and_pair, share_of
from app.scorer_source import board_of
from app.scorer_study import Study, draw_study
from app.scorer_trial import choose_trial, draw_trial, offer
from app.state import frame
from sparsity_core.errors import SparsityError
from sparsity_core.structures import STRUCTURES

st.title("Scorers")
chosen = frame()
cache.task(chosen.model)
try:
    board = board_of(chosen.model, chosen.device)
    layers = list(cache.facts(chosen.model).layers)
    layer, pair = choose_layer_and_pair(layers, chosen.recipe)
    share = share_of(chosen.recipe, layer)
    compared, every = choose_compared()
    st.caption(
        f"With the sidebar's structure, **{STRUCTURES.label(chosen.recipe.structure)}**, and its "
        f"sparsity, **{100 * share:g} %** of {layer}. Nothing is trained here."
    )
    study = Study(chosen.model, board, chosen.recipe, layer, share, pair, compared, every)
    draw_study(study)

    st.header("Worth more than chance?")
    store = cache.store()
    trial = choose_trial(chosen, study)
    offer(trial, store)
    live.follow(live.to_follow(trial.plans), lambda: draw_trial(trial, store))
except SparsityError as error:
    st.error(str(error))
