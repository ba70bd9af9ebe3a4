"""How the site is built: ``make docs``."""

import inspect

import skemvae

project = "skemvae"
author = "The skemvae developers"
project_copyright = author
version = release = skemvae.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx-mathjax-offline",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "gallery/README.*"]
highlight_language = "none"  # a block without a language is output
nitpicky = True
# Without a network there is nothing of other libraries to refer to.
nitpick_ignore_regex = [("py:.*", r"(matplotlib|numpy|sklearn|torch)\..*")]

# Pages are Markdown that GitHub shows as well.
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 3

# A button that copies code: without prompts, and not on what the code prints.
copybutton_selector = (
    "div:not(.highlight-text):not(.highlight-none) > div.highlight > pre"
)
copybutton_exclude = ".linenos, .gp, .go"

# The reference grows by itself: every public package lists its names in ``__all__``.
autosummary_generate = True
autosummary_imported_members = True
autosummary_ignore_module_all = False
autodoc_typehints = "none"  # the docstrings say more
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = True
numpydoc_show_class_members = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "within_subsection_order": "ExampleTitleSortKey",
    "doc_module": ("skemvae",),
    "backreferences_dir": "gallery/backreferences",
    "image_scrapers": ("matplotlib",),
    "remove_config_comments": True,
    "capture_repr": (),  # what a page shows is printed or drawn
    "show_memory": False,
    "show_signature": False,
    "plot_gallery": True,
    "abort_on_example_error": False,
}

html_theme = "pydata_sphinx_theme"
html_title = f"skemvae {release}"
html_show_sourcelink = False
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_theme_options = {
    "logo": {"text": "skemvae"},
    "navbar_end": ["theme-switcher"],
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}


def _only_ours(app, what, name, member, skip, options):
    """Leave out what a class inherits from others: their documentation has that."""
    function = member.fget if isinstance(member, property) else inspect.unwrap(member)
    owner = getattr(function, "__objclass__", function)
    home = getattr(owner, "__module__", None) or "skemvae"
    return True if home.partition(".")[0] != "skemvae" else None


def setup(app):
    """Connect the filter above."""
    app.connect("autodoc-skip-member", _only_ours)
