-- What the admin service asks for besides: how far its copy of the feed is behind, and what people decided about each case.
-- Runs in one transaction.

CREATE FUNCTION switch.contract_v1_feed_lag(after text, most integer) RETURNS TABLE (events bigint, oldest_us bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = switch, pg_temp AS $$
    SELECT count(*), min(waiting.wall_us)
      FROM (SELECT event.wall_us
              FROM switch.payment_event AS event
             WHERE event.committed_by >= coalesce(nullif(split_part(after, '.', 1), '')::bigint, 0)
               AND (event.committed_by, event.opened_on, event.payment_id, event.ver)
                 > (coalesce(nullif(split_part(after, '.', 1), '')::bigint, 0),
                    coalesce(nullif(split_part(after, '.', 2), '')::integer, 0),
                    coalesce(nullif(split_part(after, '.', 3), '')::bigint, 0),
                    coalesce(nullif(split_part(after, '.', 4), '')::integer, 0))
             ORDER BY event.committed_by
             LIMIT most) AS waiting
$$;
COMMENT ON FUNCTION switch.contract_v1_feed_lag IS
    'Events after a cursor of contract_v1_feed, counted up to a bound, also those that an open transaction still holds back; microseconds since 1970 of the oldest.';

CREATE VIEW switch.contract_v1_case_decisions AS
    SELECT id, payment_id, decision, evidence, proposed_by, proposed_at, confirmed_by, confirmed_at, settled_at, outcome
      FROM switch.case_decision;
COMMENT ON VIEW switch.contract_v1_case_decisions IS 'Contract v1: see switch/contract.py. A new shape is a new version.';

CREATE INDEX case_decision_payment ON switch.case_decision (payment_id, id);

DO $$
BEGIN
    GRANT SELECT ON switch.contract_v1_case_decisions TO gridswitch_admin;
    GRANT EXECUTE ON FUNCTION switch.contract_v1_feed_lag TO gridswitch_admin;
EXCEPTION WHEN insufficient_privilege OR undefined_object THEN
    RAISE NOTICE 'gridswitch_admin could not be granted its views: %', SQLERRM;
END $$;
