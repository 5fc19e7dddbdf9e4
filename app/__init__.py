"""The Streamlit shell: navigation, what all pages share, charts, live progress."""
