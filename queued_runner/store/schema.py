"""The schema of a SQLite store: brings a database to the newest step, each step in one transaction.

It reads the numbered scripts in `migrations/sqlite/`; it knows no table.
"""

from importlib import resources

import apsw

from queued_runner.store.base import SchemaTooNew


def _steps() -> list[tuple[int, str]]:
    folder = resources.files("queued_runner.store.migrations.sqlite")
    return sorted(
        (int(entry.name[:4]), entry.read_text(encoding="utf-8"))
        for entry in folder.iterdir()
        if entry.name.endswith(".sql")
    )


def migrate(db: apsw.Connection) -> None:
    """Run the steps that this database has not seen.

    Raises:
        SchemaTooNew: it has seen steps that this release does not know.
    """
    steps = _steps()
    version = db.pragma("user_version")
    newest = steps[-1][0]
    if version > newest:
        raise SchemaTooNew(
            f"the queue at {db.filename} was written by a newer release (schema {version}, this one"
            f" knows {newest}); install that release again, or choose another data directory"
        )
    for number, script in steps:
        if number > version:
            with db:
                db.execute(script)
                db.pragma("user_version", number)
