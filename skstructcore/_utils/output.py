"""Steps whose output is no table."""


class ContainerOutputMixin:
    """Opt out of scikit-learn's `set_output`: patches and maps are no tables.

    `Pipeline.set_output` refuses a pipeline with a step that has none.
    """

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**{**options, "auto_wrap_output_keys": None})

    def set_output(self, *, transform: str | None = None):
        """Do nothing: the output is no table, whatever `transform` says."""
        return self
