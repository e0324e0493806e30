"""The pages that people see."""

__all__: list[str] = []
