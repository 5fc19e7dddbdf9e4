"""Trade-off."""

import streamlit as st

st.title("Trade-off")
st.info("Accuracy against sparsity of whole-model recipes: under construction.")
