"""The tables of the store."""

VERSION = 1
FILE = "results.sqlite"
TABLES = {
    "results": """
CREATE TABLE results (
    point_id TEXT PRIMARY KEY, kind TEXT NOT NULL, status TEXT NOT NULL, message TEXT NOT NULL,
    seconds REAL NOT NULL, device TEXT NOT NULL, versions TEXT NOT NULL, created REAL NOT NULL,
    record TEXT NOT NULL
) WITHOUT ROWID""",
    "runs": """
CREATE TABLE runs (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, title TEXT NOT NULL, model TEXT NOT NULL,
    plan TEXT NOT NULL, created REAL NOT NULL, state TEXT NOT NULL, message TEXT NOT NULL,
    owner TEXT NOT NULL
) WITHOUT ROWID""",
    "run_points": """
CREATE TABLE run_points (
    run_id TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE, position INTEGER NOT NULL,
    point_id TEXT NOT NULL, PRIMARY KEY (run_id, position)
) WITHOUT ROWID;
CREATE INDEX run_points_by_point ON run_points(point_id)""",
}

# A part's id is its point's, a colon, and its samples; a semicolon is what comes after a colon.
PARTS_OF = "point_id > :id || ':' AND point_id < :id || ';'"
