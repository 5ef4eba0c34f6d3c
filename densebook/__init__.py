"""densebook: dense 3-D vision as a book that runs.

`import densebook` loads nothing heavy; import the module you need, e.g. `from densebook.geometry.sdf import Sphere`.
"""

__version__ = "0.1.0"
