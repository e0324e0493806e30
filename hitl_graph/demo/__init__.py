"""The main job, shown: an e-mail assistant that asks before it sends, archives or deletes."""
