"""The site of docs/: what mkdocs does not do by itself. Built by `make docs`; no part of the wheel."""
