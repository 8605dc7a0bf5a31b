"""Sphinx: the Markdown pages of this repository and the API reference as one site (`make docs`)."""

import sws.environment

project = "sws"
author = "The sws authors"
release = sws.environment.version()

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

# Sources are read where they lie, so that links between pages work here and in the repository.
root_doc = "README"
include_patterns = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/**.md",
    "results/reference/README.md",
]
exclude_patterns = [".*", "build", "results/.*", "sws", "tests"]
source_suffix = {".md": "markdown"}

myst_heading_anchors = 3

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "signature"
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "furo"
html_title = "sws"
html_additional_pages = {"index": "redirect.html"}
templates_path = ["site"]

# The README needs no table of contents on a code host: the site's is added here.
CONTENTS = """

```{toctree}
:hidden:
:caption: Use
docs/your-own-network
docs/running
docs/api
docs/format
```

```{toctree}
:hidden:
:caption: Results
docs/paper
docs/as-written
docs/sensitivity
docs/baselines
docs/costs
docs/large-networks
docs/experiments
results/reference/README
```

```{toctree}
:hidden:
:caption: Develop
ARCHITECTURE
CONTRIBUTING
docs/decisions/README
docs/fuzzing
CHANGELOG
```
"""


def add_contents(app, docname, source):
    if docname == root_doc:
        source[0] += CONTENTS
    elif docname == "docs/decisions/README":
        source[0] += "\n```{toctree}\n:hidden:\n:glob:\n0*\n```\n"


def setup(app):
    app.connect("source-read", add_contents)
