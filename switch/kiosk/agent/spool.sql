-- The agent's spool: SQLite, one process. Statements are named; tables first.

-- table_boot --
CREATE TABLE IF NOT EXISTS boot (number INTEGER PRIMARY KEY AUTOINCREMENT, boot_id TEXT NOT NULL UNIQUE);

-- table_stream --
-- ack: the service has everything up to it.
CREATE TABLE IF NOT EXISTS stream (
    boot INTEGER NOT NULL, stream TEXT NOT NULL, next INTEGER NOT NULL DEFAULT 1, ack INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (boot, stream));

-- table_item --
CREATE TABLE IF NOT EXISTS item (
    id INTEGER PRIMARY KEY AUTOINCREMENT, boot INTEGER NOT NULL, stream TEXT NOT NULL, seq INTEGER NOT NULL,
    body BLOB NOT NULL, UNIQUE (stream, boot, seq));

-- table_counter --
CREATE TABLE IF NOT EXISTS counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL);

-- table_command --
CREATE TABLE IF NOT EXISTS command (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, taken REAL NOT NULL, state TEXT NOT NULL, result TEXT NOT NULL,
    told INTEGER NOT NULL DEFAULT 0);

-- bytes --
SELECT coalesce(sum(length(body)), 0) FROM item;

-- boot_add --
INSERT INTO boot (boot_id) VALUES (?);

-- stream_add --
INSERT INTO stream (boot, stream) VALUES (?, ?);

-- stream_forget_known --
-- Boots of which the service knows everything are history.
DELETE FROM stream WHERE ack = next - 1 AND boot <> ?;

-- boot_forget_known --
DELETE FROM boot WHERE number NOT IN (SELECT boot FROM stream);

-- stream_next --
SELECT next FROM stream WHERE boot = ? AND stream = ?;

-- stream_advance --
UPDATE stream SET next = ? WHERE boot = ? AND stream = ?;

-- stream_waiting --
-- The oldest boot of which something is not known yet.
SELECT s.boot, b.boot_id, s.next FROM stream s JOIN boot b ON b.number = s.boot
 WHERE s.stream = ? AND s.ack < s.next - 1 ORDER BY s.boot LIMIT 1;

-- stream_behind --
-- The boot, if this ack is news.
SELECT s.boot FROM stream s JOIN boot b ON b.number = s.boot
 WHERE b.boot_id = ? AND s.stream = ? AND s.ack < min(?, s.next - 1);

-- stream_ack --
UPDATE stream SET ack = max(ack, min(?, next - 1)) WHERE boot = ? AND stream = ?;

-- item_add --
INSERT INTO item (boot, stream, seq, body) VALUES (?, ?, ?, ?);

-- items_of --
SELECT seq, body FROM item WHERE stream = ? AND boot = ? ORDER BY seq LIMIT ?;

-- items_oldest --
SELECT id, length(body) FROM item ORDER BY id LIMIT ?;

-- items_drop --
DELETE FROM item WHERE id <= ?;

-- items_known_bytes --
SELECT coalesce(sum(length(body)), 0) FROM item WHERE stream = ? AND boot = ? AND seq <= ?;

-- items_known_drop --
DELETE FROM item WHERE stream = ? AND boot = ? AND seq <= ?;

-- items_count --
SELECT count(*) FROM item;

-- counter_grow --
INSERT INTO counter VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value;

-- counters --
SELECT name, value FROM counter;

-- command_take --
INSERT INTO command (id, kind, taken, state, result) VALUES (?, ?, ?, 'running', '{}') ON CONFLICT DO NOTHING;

-- command_end --
UPDATE command SET state = ?, result = ? WHERE id = ?;

-- command_told --
UPDATE command SET told = 1 WHERE id = ?;

-- command_forget --
DELETE FROM command WHERE told = 1 AND taken < ?;

-- commands_untold --
SELECT id, kind, state, result FROM command WHERE told = 0 ORDER BY rowid;
