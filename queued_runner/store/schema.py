"""The steps of the schema, as numbered scripts in `migrations/ENGINE/`. It knows no table.

Each step runs in one transaction with the number that says it was run; how is an engine's own.
"""

from importlib import resources

from queued_runner.store.base import SchemaTooNew


def steps_after(version: int, engine: str, place: str) -> list[tuple[int, str]]:
    """The numbers and scripts of the steps that a database has not seen, in order.

    Args:
        version: the newest step that it has seen, 0 for none.
        engine: the folder of its steps.
        place: where it is, for people.

    Raises:
        SchemaTooNew: it has seen steps that this release does not know.
    """
    folder = resources.files(f"queued_runner.store.migrations.{engine}")
    steps = sorted(
        (int(entry.name[:4]), entry.read_text(encoding="utf-8"))
        for entry in folder.iterdir()
        if entry.name.endswith(".sql")
    )
    newest = steps[-1][0]
    if version > newest:
        raise SchemaTooNew(
            f"the queue at {place} was written by a newer release (schema {version}, this one"
            f" knows {newest}); install that release again, or choose another place for the queue"
        )
    return [(number, script) for number, script in steps if number > version]
