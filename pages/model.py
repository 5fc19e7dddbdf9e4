"""What the model is, how good it is, where its weights are, and a first finished result."""

import streamlit as st

from app import cache, uploads
from app.model_view import draw_card, draw_first_result, draw_layers, draw_samples, draw_weights
from app.state import frame
from app.upload_view import draw_upload

chosen = frame()
entry = cache.entry(chosen.model)
st.title(uploads.label_of(chosen.model))
st.caption(entry.summary)
draw_upload(cache.listed_models())
task = cache.task(chosen.model)
draw_card(task)
draw_samples(task)
shipped = entry.sensitivity()
if shipped:
    st.header("How sparse can each layer be?")
    draw_first_result(chosen.model, shipped)
st.header("Layers")
draw_layers(task, chosen.recipe.structure)
st.header("Weights of a layer")
draw_weights(task)
