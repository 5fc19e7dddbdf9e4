"""A finished run as one file: a page to read anywhere, or a notebook that measures it again."""
