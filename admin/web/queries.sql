-- loop_take --
-- Hold a loop for a while: by whoever holds it, or by another when its time is over. $1 name, $2 holder, $3 seconds.
-- No row: somebody else has it.
INSERT INTO admin.loop AS loop (name, holder, held_until) VALUES ($1, $2, now() + make_interval(secs => $3))
    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, held_until = excluded.held_until
       WHERE loop.holder = excluded.holder OR loop.held_until < now()
RETURNING name;

-- loop_ran --
-- $1 name, $2 holder, $3 took ms, $4 error, $5 detail.
UPDATE admin.loop SET ran_at = now(), took_ms = $3, error = $4, detail = $5 WHERE name = $1 AND holder = $2;
