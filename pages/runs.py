"""Runs."""

import streamlit as st

st.title("Runs")
st.info("What was computed: under construction.")
