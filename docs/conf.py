"""Configuration of the documentation; see https://www.sphinx-doc.org."""

import skstructcore

project = "skstructcore"
author = "The skstructcore developers"
version = release = skstructcore.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]
html_theme = "pydata_sphinx_theme"
html_title = f"skstructcore {version}"
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "_static/favicon.svg"
html_theme_options = {
    "navigation_with_keys": True,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "navbar_align": "left",
    "header_links_before_dropdown": 5,
    "collapse_navigation": True,
}
if tags.has("site"):  # noqa: F821, one version beside others
    html_theme_options["navbar_end"] = ["all-versions", "theme-switcher", "navbar-icon-links"]
default_role = "code"  # `name` in docstrings; links are made where a name is public

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
# Links from pages to files beside the documentation.
suppress_warnings = ["myst.xref_missing", "config.cache", "toc.empty_glob"]
copybutton_exclude = ".linenos, .gp, .go"

autosummary_generate = True
autodoc_typehints = "none"  # the types are in the docstrings
autodoc_member_order = "groupwise"
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False  # the template of classes shows them, with all parameters
numpydoc_class_members_toctree = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"\.py$",  # every example is run
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "remove_config_comments": True,
}
