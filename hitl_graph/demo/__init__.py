"""The main job, shown: an e-mail assistant that asks before it sends, archives or deletes."""

__all__: list[str] = []
