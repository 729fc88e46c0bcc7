"""Steps whose output is no table."""


class ContainerOutputMixin:
    """Opt out of scikit-learn's `set_output`: what goes from step to step is one row an image.

    Patches and maps have more than two axes, and carry what the next step needs to know.
    """

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**{**options, "auto_wrap_output_keys": None})

    def set_output(self, *, transform: str | None = None):
        """Do nothing: the output is no table, whatever `transform` says."""
        return self
