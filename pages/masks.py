"""Masks."""

import streamlit as st

st.title("Masks")
st.info("Which weights a recipe keeps: under construction.")
